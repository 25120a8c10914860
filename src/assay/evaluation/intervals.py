"""95 % intervals by bootstrap over split groups.

Judgements of one prompt (or one conversation) are not independent, so whole groups are drawn with replacement, as many
as there are (cluster bootstrap; Davison and Hinkley 1997, section 3.8). A metric that is a ratio of sums needs only its
sums per group, so that 2,000 resamples cost one matrix product; anything else goes through ``resampled``.

Few groups, drawn with replacement, vary too little: below `FEW_GROUPS` the interval is Student's t with the bootstrap's
standard error, made unbiased. Where all groups say the same there is no spread at all; of what lies between known
bounds an exact interval then takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student

RESAMPLES = 2000
MOST_DRAWN = 20_000
#: Below so many groups the percentiles of resamples cover too rarely.
FEW_GROUPS = 30
_CHUNK_VALUES = 4_000_000
_KEPT_VALUES = 200_000_000  # bytes


#: The least and the largest that each term of a metric can be.
Bounds = tuple[float, float]
#: Bounds of hits, and of a difference of two hits or a correlation.
SHARE: Bounds = (0.0, 1.0)
GAP: Bounds = (-1.0, 1.0)
#: How near to a bound sums of floats are at it.
_AT = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes
    ----------
    value
        The metric on all judgements; NaN when there are none.
    ci95
        Interval, or None when fewer than two groups leave nothing to resample.
    n
        Judgements that count.
    """

    value: float
    ci95: tuple[float, float] | None
    n: int

    def excludes_zero(self) -> bool:
        """Tell whether the interval lies wholly on one side of 0; False without an interval."""
        return self.ci95 is not None and (self.ci95[0] > 0 or self.ci95[1] < 0)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"value", "ci95", "n"}`` of plain numbers."""
        return {"value": self.value, "ci95": list(self.ci95) if self.ci95 else None, "n": self.n}


class GroupBootstrap:
    """Resampler of groups; every call with one object uses the same resamples, so that differences stay paired.

    Beyond 20,000 groups, groups are put together at random into 20,000 and drawn as such: sums of independent groups
    keep their variance, and the cost stays bounded.

    Parameters
    ----------
    groups
        Labels [E] of any sortable type: judgements with one label are drawn together.
    resamples
        Number of resamples R.
    seed
        Seed of the resamples.
    """

    def __init__(self, groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> None:
        labels, self._index = np.unique(np.asarray(groups), return_inverse=True)
        self.n_groups, self.n_drawn = len(labels), min(len(labels), MOST_DRAWN)
        self.resamples, self.seed = resamples, seed
        self._kept: list[np.ndarray] | None = None
        if self.n_groups > MOST_DRAWN:
            self._index = np.random.default_rng(seed).permutation(self.n_groups)[self._index] % MOST_DRAWN

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return resampled sums: values [E, K] -> [R, K], in memory of a few chunks."""
        groups = self.n_drawn
        per_group = np.stack([np.bincount(self._index, column, groups) for column in values.T], axis=1)
        out = np.empty((self.resamples, values.shape[1]))
        start = 0
        for counts in self._counts():
            out[start : start + len(counts)] = counts @ per_group
            start += len(counts)
        return out

    def _counts(self) -> Iterable[np.ndarray]:
        """Say how often each group is drawn, in chunks [rows, groups]; kept for the next call unless too large."""
        if self._kept is None and self.resamples * self.n_drawn <= _KEPT_VALUES:
            # One byte: a count above 255 needs as many groups, and then its chance is below 1e-300.
            self._kept = [counts.astype(np.uint8) for counts in self._drawn()]
        return self._drawn() if self._kept is None else self._kept

    def _drawn(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        groups = self.n_drawn
        step = max(1, _CHUNK_VALUES // max(groups, 1))
        for start in range(0, self.resamples, step):
            rows = min(step, self.resamples - start)
            drawn = rng.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
            yield np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)

    def ratios(
        self,
        terms: np.ndarray,
        w: np.ndarray,
        *,
        between: Sequence[Bounds | None] | None = None,
    ) -> list[Estimate]:
        """Estimate ``sum(w * terms) / sum(w)`` for each column of terms [E, K] and w [E, K].

        Resamples in which a column has no weight are left out of its interval.

        Parameters
        ----------
        between
            Bounds of the terms by column (`SHARE`, `GAP`); None: not known. Where all terms are at one of them the
            bootstrap has no spread, and the exact binomial interval (Clopper and Pearson 1934) with one trial per
            group takes its place.
        """
        used = np.where(w > 0, w * np.where(w > 0, terms, 0.0), 0.0)
        columns = terms.shape[1]
        if not len(terms):
            return [Estimate(float("nan"), None, 0)] * columns
        sums = self.sums(np.concatenate([used, w], axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = sums[:, :columns] / sums[:, columns:]
            values = used.sum(axis=0) / w.sum(axis=0)
        bounds = between or [None] * columns
        return [self._estimate(float(values[k]), drawn[:, k], w[:, k] > 0, bounds[k]) for k in range(columns)]

    def ratio(self, terms: np.ndarray, w: np.ndarray, *, between: Bounds | None = None) -> Estimate:
        """Estimate one ratio; terms and w [E], see ``ratios``."""
        return self.ratios(terms[:, None], w[:, None], between=[between])[0]

    def difference(self, terms: np.ndarray, w: np.ndarray, other: np.ndarray) -> Estimate:
        """Estimate ``sum(w * terms) / sum(w)`` minus the same with the weights ``other``; all [E].

        NaN where one of the weights is 0 throughout; such resamples are left out of the interval.
        """
        columns = np.stack([w * terms, w, other * terms, other], axis=1)
        sums = np.concatenate([columns.sum(axis=0)[None], self.sums(columns)])
        with np.errstate(invalid="ignore", divide="ignore"):
            found = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]
        return self._estimate(float(found[0]), found[1:], (w > 0) | (other > 0), None)

    def resampled(
        self,
        metric: Callable[[np.ndarray], float],
        resamples: int | None = None,
        *,
        between: Bounds | None = None,
    ) -> Estimate:
        """Estimate any metric: a function of judgement indices [n] (repeats included); NaN draws are left out.

        ``between``: see ``ratios``.
        """
        rng = np.random.default_rng(self.seed)
        order = np.argsort(self._index, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(self._index[order])) + 1)
        value = metric(np.arange(len(order)))
        draws = [
            metric(np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))]))
            for _ in range(resamples or self.resamples if self.n_groups > 1 else 0)
        ]
        return self._estimate(value, np.array(draws), np.ones(len(order), dtype=bool), between)

    def _estimate(self, value: float, drawn: np.ndarray, member: np.ndarray, between: Bounds | None) -> Estimate:
        n, groups = int(member.sum()), len(np.unique(self._index[member]))
        drawn = drawn[np.isfinite(drawn)]
        if groups < 2 or not len(drawn):
            return Estimate(value, None, n)
        bottom, top = between or (-np.inf, np.inf)
        if value <= bottom + _AT or value >= top - _AT:
            # of so many groups none says otherwise
            reach = float(beta.ppf(0.975, 1, groups)) * (top - bottom)
            return Estimate(value, (bottom, bottom + reach) if value <= bottom + _AT else (top - reach, top), n)
        low, high = np.quantile(drawn, [0.025, 0.975])
        if between is not None and high - low <= _AT:
            # all groups say the same: the same reach, towards either bound
            reach = float(beta.ppf(0.975, 1, groups))
            return Estimate(value, (value - reach * (value - bottom), value + reach * (top - value)), n)
        if groups < FEW_GROUPS:
            error = float(drawn.std()) * np.sqrt(groups / (groups - 1))
            reach = float(student.ppf(0.975, groups - 1)) * error
            low, high = max(bottom, value - reach), min(top, value + reach)
        return Estimate(value, (float(low), float(high)), n)
