"""Which method needs fewest labels: accuracy over fractions of the data, over seeds and split groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from assay.evaluation.metrics import accuracy_terms, decided, hard_labels, nll_terms
from assay.evaluation.resampling import RESAMPLES, GroupSums
from assay.evaluation.verdicts import Verdict

_POWER = 0.8


@dataclass(frozen=True)
class HeldOut:
    """What methods are tested on.

    Attributes
    ----------
    p, w
        P(first better) and weight of each judgement, ``[E]``.
    groups
        Split group of each.
    part
        int64 ``[E]``: the part that each is in, where seeds are tested on different ones.
    """

    p: np.ndarray
    w: np.ndarray
    groups: np.ndarray
    part: np.ndarray


@dataclass(frozen=True)
class Curve:
    """One method over growing fractions of the labels.

    Attributes
    ----------
    fractions, labels
        Of the training judgements, rising, and how many these are on average over seeds; ``[F]``.
    hits, gains
        ``[F, S, E]``: whether each judgement is predicted right (a tie of scores: one half), and minus its calibrated
        negative log-likelihood; NaN where a seed did not test it.
    calibrated
        bool ``[F]``: whether all seeds were calibrated; the gains of others mean nothing.
    """

    fractions: np.ndarray
    labels: np.ndarray
    hits: np.ndarray
    gains: np.ndarray
    calibrated: np.ndarray


@dataclass(frozen=True)
class Uncertain:
    """A mean over seeds and judgements.

    Attributes
    ----------
    value
        The mean.
    ci95, ci90
        Its percentile intervals over seeds and, within them, split groups; the 90 % one serves the equivalence test.
    simultaneous
        The same, wide enough for all comparisons with the baseline at once (Bonferroni).
    standard_error
        Of the mean.
    """

    value: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    simultaneous: tuple[float, float]
    standard_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "value": self.value,
            "ci95": list(self.ci95),
            "ci90": list(self.ci90),
            "simultaneous": list(self.simultaneous),
            "standard_error": self.standard_error,
        }


def curve_of(
    held_out: HeldOut,
    fractions: Sequence[float],
    labels: Sequence[float],
    margins: Sequence[np.ndarray],
    temperatures: Sequence[np.ndarray],
) -> Curve:
    """Build a curve from margins ``[S, E]`` of each fraction (NaN: not tested) and temperatures ``[S]`` (NaN: none)."""
    hits, gains = [], []
    hard = hard_labels(held_out.p)
    for delta, temperature in zip(margins, temperatures, strict=True):
        there = np.isfinite(delta)
        safe = np.where(there, delta, 0.0)
        right = np.stack([accuracy_terms(row, held_out.p) for row in safe])
        scales = np.where(np.isfinite(temperature), temperature, 1.0)
        loss = np.stack([nll_terms(row / t, hard) for row, t in zip(safe, scales, strict=True)])
        hits.append(np.where(there, np.nan_to_num(right), np.nan))  # ties weigh nothing
        gains.append(np.where(there, -loss, np.nan))
    calibrated = np.array([np.isfinite(temperature).all() for temperature in temperatures])
    return Curve(np.asarray(fractions, float), np.asarray(labels, float), np.stack(hits), np.stack(gains), calibrated)


class Comparison:
    """All methods of a study on the same judgements, resampled together.

    Parameters
    ----------
    held_out
        What they were tested on; judgements without a verdict take no part.
    curves
        By method.
    baseline
        The method that others are compared with.
    resamples, seed
        Of the hierarchical bootstrap: seeds, and within them whole split groups, the same draw for all methods.
    """

    def __init__(
        self,
        held_out: HeldOut,
        curves: Mapping[str, Curve],
        baseline: str,
        *,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        self.held_out, self.curves, self.baseline = held_out, dict(curves), baseline
        self.weight = held_out.w * decided(held_out.p)
        stacked = np.concatenate([np.concatenate([c.hits, c.gains]) for c in self.curves.values()])
        self._found = GroupSums.of(stacked, self.weight, held_out.groups)
        self._values, self._draws = self._found.means(), self._found.resampled(resamples, seed)

    def _place(self, method: str, metric: str) -> slice:
        first = 0
        for name, curve in self.curves.items():
            count = len(curve.labels)
            if name == method:
                first += count if metric == "nll" else 0
                return slice(first, first + count)
            first += 2 * count
        raise KeyError(method)

    def level(self, method: str, metric: str = "accuracy") -> list[Uncertain]:
        """Return the accuracy of a method (or its calibrated NLL, negated) at each fraction.

        Where a seed was not calibrated, the NLL says nothing (`Curve.calibrated`).
        """
        at = self._place(method, metric)
        return [self._estimate(v, d) for v, d in zip(self._values[at], self._draws[:, at].T, strict=True)]

    def over_baseline(self, method: str, metric: str = "accuracy") -> dict[float, Uncertain]:
        """Return by how much a method is ahead of the baseline, by fraction; on NLL, how much less it has.

        Fractions that one of them lacks are left out, and for NLL those that one was not calibrated on.
        """
        found = {}
        for fraction, (at, there) in self._common(method, metric).items():
            draws = self._draws[:, at] - self._draws[:, there]
            found[fraction] = self._estimate(self._values[at] - self._values[there], draws)
        return found

    def _common(self, method: str, metric: str) -> dict[float, tuple[int, int]]:
        """Return where a method and the baseline stand at the fractions that both have."""
        own, base = self.curves[method], self.curves[self.baseline]
        first, other = self._place(method, metric).start, self._place(self.baseline, metric).start
        places = {fraction: at for at, fraction in enumerate(base.fractions)}
        return {
            float(fraction): (first + at, other + places[fraction])
            for at, fraction in enumerate(own.fractions)
            if fraction in places and (metric != "nll" or (own.calibrated[at] and base.calibrated[places[fraction]]))
        }

    def difference(self, of: tuple[str, float], over: tuple[str, float], metric: str = "accuracy") -> Uncertain:
        """Return by how much one method on one fraction is ahead of another one on another fraction.

        Raises
        ------
        KeyError
            If a method, or its fraction, is not there.
        """
        first, second = (self._at(method, fraction, metric) for method, fraction in (of, over))
        return self._estimate(
            self._values[first] - self._values[second], self._draws[:, first] - self._draws[:, second]
        )

    def _at(self, method: str, fraction: float, metric: str) -> int:
        places = np.flatnonzero(np.isclose(self.curves[method].fractions, fraction))
        if len(places) == 0:
            raise KeyError(f"{method} at {fraction:g}")
        return self._place(method, metric).start + int(places[0])

    def _estimate(self, value: float, draws: np.ndarray) -> Uncertain:
        others = max(len(self.curves) - 1, 1)
        ends = {"ci95": 0.025, "ci90": 0.05, "simultaneous": 0.025 / others}
        found = {name: tuple(map(float, np.quantile(draws, [end, 1 - end]))) for name, end in ends.items()}
        return Uncertain(value=float(value), standard_error=float(draws.std(ddof=1)), **found)  # type: ignore[arg-type]

    def learns(self) -> Uncertain | None:
        """Return what the baseline gains from a tenth of the labels (or the nearest fraction) to all; None: one size.

        Where that is below twice its standard error, the data tell little about who needs fewer labels.
        """
        labels = self.curves[self.baseline].labels
        if len(labels) < 2:
            return None
        at = self._place(self.baseline, "accuracy")
        values, draws = self._values[at], self._draws[:, at]
        return self._estimate(values[-1] - values[self.few], draws[:, -1] - draws[:, self.few])

    @property
    def few(self) -> int:
        """Place of the baseline's fraction that is nearest to a tenth of its largest one."""
        labels = self.curves[self.baseline].labels
        return int(np.abs(np.log(labels[:-1] / labels[-1]) - np.log(0.1)).argmin())

    def labels_needed(self, method: str) -> dict[str, Any] | None:
        """Return how many labels a method needs for the accuracy that the baseline has with all of them.

        Between fractions, accuracy follows the logarithm of the number of labels, along the rising curve that is
        nearest to what was measured. None where the baseline learns nothing from more labels.

        Returns
        -------
        dict
            ``labels`` (None: not reached), ``ci95`` (an end that is not reached: None), ``reached``, the share of
            resamples that reach it, and ``fewest``, the smallest number that was tried: it stands for at most so many.
        """
        gain = self.learns()
        if gain is None or gain.value <= 2 * gain.standard_error:
            return None
        own, other = self._place(method, "accuracy"), self._place(self.baseline, "accuracy")
        labels = self.curves[method].labels
        found = needed(labels, self._values[own], float(self._values[other][-1]))
        draws = np.array([needed(labels, row[own], float(row[other][-1])) for row in self._draws])
        low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
        return {
            "labels": _finite(found),
            "ci95": [_finite(float(low)), _finite(float(high))],
            "reached": float(np.isfinite(draws).mean()),
            "fewest": float(labels.min()),
        }

    def verdict(self, estimate: Uncertain, smallest: float) -> Verdict:
        """Say whether a method is ahead (all comparisons together), by less than matters (tests at 5 %), or neither."""
        if estimate.simultaneous[0] > 0:
            return "holds"
        return "does not hold" if estimate.ci90[1] < smallest else "undecided"

    def power(self, fraction: float, smallest: float) -> dict[str, int | None] | None:
        """Return how many judgements a test needs to show a difference of this size with 80 % power.

        The error of a difference has a part that falls with the number of tested judgements, and one of the seeds,
        which does not. At the level at which all methods are compared together, for the typical method.

        Returns
        -------
        dict
            ``judgements``, and ``seeds``: where the seeds alone differ by too much, judgements is None, and so many
            seeds are to be run first. None where nothing is compared, or no method differs.
        """
        wanted = []
        for name in self.curves:
            places = self._common(name, "accuracy").get(fraction) if name != self.baseline else None
            if places is not None:
                of_groups, of_seeds = self._variances(*places)
                if of_groups + of_seeds > 0:
                    wanted.append((of_groups, of_seeds))
        if not wanted:
            return None
        of_groups, of_seeds = np.median(np.array(wanted), axis=0)
        level = norm.ppf(1 - 0.025 / max(len(self.curves) - 1, 1)) + norm.ppf(_POWER)
        room = (smallest / level) ** 2
        seeds = len(self._found.mass)
        if of_seeds >= room:
            # half of what may be uncertain to the seeds
            return {"judgements": None, "seeds": int(np.ceil(2 * seeds * of_seeds / room))}
        tested = int((self.weight > 0).sum())
        return {"judgements": int(np.ceil(tested * of_groups / (room - of_seeds))), "seeds": None}

    def _variances(self, at: int, there: int) -> tuple[float, float]:
        """Return the variance of a difference of means due to the tested groups, and due to the seeds.

        Seeds are compared with those that were tested on the same groups.
        """
        terms, mass = self._found.sums[at] - self._found.sums[there], self._found.mass
        total = mass.sum()
        value = terms.sum() / total
        of_groups = np.square(terms.sum(axis=0) - value * mass.sum(axis=0)).sum() / total**2
        means = terms.sum(axis=1) / mass.sum(axis=1)
        _, part = np.unique(mass > 0, axis=0, return_inverse=True)
        counts = np.bincount(part.ravel())
        within = means - (np.bincount(part.ravel(), means) / counts)[part.ravel()]
        freedom = len(means) - len(counts)
        of_seeds = np.square(within).sum() / freedom / len(means) if freedom else 0.0
        return float(of_groups), float(of_seeds)


def needed(labels: np.ndarray, accuracy: np.ndarray, goal: float) -> float:
    """Return the number of labels at which a rising curve through these points reaches a goal, or infinity."""
    order = np.argsort(labels)
    curve, size = isotonic_regression(accuracy[order]).x, np.log(labels[order])
    at = np.flatnonzero(curve >= goal - 1e-12)
    if len(at) == 0:
        return float("inf")
    first = int(at[0])
    if first == 0 or curve[first] == curve[first - 1]:
        return float(np.exp(size[first]))
    part = (goal - curve[first - 1]) / (curve[first] - curve[first - 1])
    return float(np.exp(size[first - 1] + part * (size[first] - size[first - 1])))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
