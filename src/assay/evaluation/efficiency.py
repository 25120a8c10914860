"""Which method needs fewest labels: accuracy over fractions of the data, over seeds and split groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from assay.evaluation.metrics import accuracy_terms, decided, hard_labels, nll_terms
from assay.evaluation.verdicts import RESAMPLES, Verdict

#: Power of 80 % at the two-sided 5 % level, in standard errors.
_POWER = 2.8
_DRAWS_AT_ONCE = 100


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
    """

    fractions: np.ndarray
    labels: np.ndarray
    hits: np.ndarray
    gains: np.ndarray


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
    """Build a curve from margins ``[S, E]`` of each fraction (NaN: not tested) and temperatures ``[S]``."""
    hits, gains = [], []
    hard = hard_labels(held_out.p)
    for delta, temperature in zip(margins, temperatures, strict=True):
        there = np.isfinite(delta)
        safe = np.where(there, delta, 0.0)
        right = np.stack([accuracy_terms(row, held_out.p) for row in safe])
        loss = np.stack([nll_terms(row / t, hard) for row, t in zip(safe, temperature, strict=True)])
        hits.append(np.where(there, np.nan_to_num(right), np.nan))  # ties weigh nothing
        gains.append(np.where(there, -loss, np.nan))
    return Curve(np.asarray(fractions, float), np.asarray(labels, float), np.stack(hits), np.stack(gains))


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
        self._resamples, self._seed = resamples, seed
        stacked = np.concatenate([np.concatenate([c.hits, c.gains]) for c in self.curves.values()])
        self._values, self._draws = self._means(stacked)

    def _means(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means ``[K]`` of ``terms`` ``[K, S, E]``, and those of every resample, ``[resamples, K]``."""
        names, codes = np.unique(self.held_out.groups, return_inverse=True)
        place = np.zeros((len(codes), len(names)))
        place[np.arange(len(codes)), codes] = self.weight
        there = np.isfinite(terms[0])
        sums = np.where(np.isfinite(terms), terms, 0.0) @ place
        mass = there.astype(float) @ place
        random = np.random.default_rng(self._seed)
        flat, seeds, groups = sums.reshape(len(terms), -1).T, len(there), len(names)
        draws = []
        for start in range(0, self._resamples, _DRAWS_AT_ONCE):
            count = min(_DRAWS_AT_ONCE, self._resamples - start)
            rows = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
            drawn = random.multinomial(groups, np.full(groups, 1 / groups), size=count)
            each = (rows[:, :, None] * drawn[:, None, :]).reshape(count, -1).astype(float)
            total = each @ mass.ravel()
            draws.append((each @ flat)[total > 0] / total[total > 0, None])
        return sums.sum(axis=(1, 2)) / mass.sum(), np.concatenate(draws)

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
        """Return the accuracy of a method (or its calibrated NLL, negated) at each fraction."""
        at = self._place(method, metric)
        return [self._estimate(v, d) for v, d in zip(self._values[at], self._draws[:, at].T, strict=True)]

    def over_baseline(self, method: str, metric: str = "accuracy") -> dict[float, Uncertain]:
        """Return by how much a method is ahead of the baseline, by fraction; on NLL, how much less it has."""
        own, other = self._place(method, metric), self._place(self.baseline, metric)
        places = {fraction: other.start + at for at, fraction in enumerate(self.curves[self.baseline].fractions)}
        found = {}
        for at, fraction in enumerate(self.curves[method].fractions, own.start):
            if fraction in places:
                there = places[fraction]
                draws = self._draws[:, at] - self._draws[:, there]
                found[float(fraction)] = self._estimate(self._values[at] - self._values[there], draws)
        return found

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
        few = int(np.abs(np.log(labels[:-1] / labels[-1]) - np.log(0.1)).argmin())
        at = self._place(self.baseline, "accuracy")
        values, draws = self._values[at], self._draws[:, at]
        return self._estimate(values[-1] - values[few], draws[:, -1] - draws[:, few])

    def labels_needed(self, method: str) -> dict[str, Any] | None:
        """Return how many labels a method needs for the accuracy that the baseline has with all of them.

        Between fractions, accuracy follows the logarithm of the number of labels, along the rising curve that is
        nearest to what was measured. None where the baseline learns nothing from more labels.

        Returns
        -------
        dict
            ``labels`` (None: not reached), ``ci95`` (an end that is not reached: None), and ``reached``, the share of
            resamples that reach it.
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
        }

    def verdict(self, estimate: Uncertain, smallest: float) -> Verdict:
        """Say whether a method is ahead (all comparisons together), by less than matters (tests at 5 %), or neither."""
        if estimate.simultaneous[0] > 0:
            return "holds"
        return "does not hold" if estimate.ci90[1] < smallest else "undecided"

    def judgements_to_see(self, fraction: float, smallest: float) -> int | None:
        """Return how many judgements a test needs to show a difference of this size with 80 % power.

        By the typical standard error of a difference from the baseline, which falls with the root of their number.
        None where no method differs.
        """
        found = [self.over_baseline(name).get(fraction) for name in self.curves if name != self.baseline]
        errors = [estimate.standard_error for estimate in found if estimate is not None and estimate.standard_error > 0]
        tested = int((self.weight > 0).sum())
        return int(np.ceil(tested * (_POWER * np.median(errors) / smallest) ** 2)) if errors else None


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


def recommendation(comparison: Comparison, smallest: float) -> list[str]:
    """Return what a study advises, in sentences; nothing where nothing is certain."""
    base, labels = comparison.baseline, comparison.curves[comparison.baseline].labels
    last = float(comparison.curves[base].fractions[-1])
    ahead, surer = (_certain(comparison, last, metric, smallest) for metric in ("accuracy", "nll"))
    told = []
    count = f"{round(labels[-1]):,} judgements"
    if ahead:
        best = max(ahead, key=lambda name: ahead[name].value)
        low, high = ahead[best].ci95
        told.append(
            f"With {count}, use {best}: {100 * ahead[best].value:+.1f} points of accuracy over {base} "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f})."
        )
    elif surer:
        best = max(surer, key=lambda name: surer[name].value)
        told.append(
            f"With {count}, no method is certainly more often right than {base}. The probabilities of {best} are "
            f"better: {surer[best].value:.4f} nats less, calibrated."
        )
    else:
        told.append(f"With {count}, nothing is certainly better than {base}: use {base}.")
    if len(labels) > 1:
        told += _at_few(comparison, smallest)
    wanted = comparison.judgements_to_see(last, smallest)
    if wanted is not None:
        tested = int((comparison.weight > 0).sum())
        told.append(
            f"To see a difference of {100 * smallest:g} points with 80 % power, a test needs about {wanted:,} "
            f"judgements; this one has {tested:,}."
        )
    return told


def _certain(comparison: Comparison, fraction: float, metric: str, smallest: float) -> dict[str, Uncertain]:
    """Return by how much those methods are ahead that certainly are, at a fraction."""
    found = {}
    for name in comparison.curves:
        estimate = comparison.over_baseline(name, metric).get(fraction) if name != comparison.baseline else None
        if estimate is not None and comparison.verdict(estimate, smallest) == "holds":
            found[name] = estimate
    return found


def _at_few(comparison: Comparison, smallest: float) -> list[str]:
    """Say what holds at smaller fractions, and whether more labels help at all."""
    base = comparison.baseline
    curve = comparison.curves[base]
    told = []
    for fraction, count in zip(curve.fractions[:-1], curve.labels[:-1], strict=True):
        found = _certain(comparison, float(fraction), "accuracy", smallest)
        if found:
            best = max(found, key=lambda name: found[name].value)
            told.append(f"With {round(count):,}, {best} is ahead by {100 * found[best].value:.1f} points.")
    gain = comparison.learns()
    if gain is not None and gain.value <= 2 * gain.standard_error:
        told.append(
            f"{base} gains {100 * gain.value:.1f} points from a tenth of the labels to all of them, within twice its "
            "error: these data say little about who needs fewer labels."
        )
    return told
