"""Verdicts of studies: an effect over seeds and split groups, its interval, and what may be said of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from assay.evaluation.resampling import RESAMPLES, GroupSums

Verdict = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Effect:
    """A mean over seeds and judgements with its hierarchical bootstrap interval.

    Attributes
    ----------
    value
        Weighted mean, signed so that above zero favours the claim.
    ci95, ci90
        Percentile intervals; the 90 % one serves the equivalence test.
    standard_error
        Standard deviation of the resampled means.
    seeds, groups
        How many of each there were.
    """

    value: float
    ci95: tuple[float, float]
    ci90: tuple[float, float]
    standard_error: float
    seeds: int
    groups: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def hierarchical_effect(
    terms: np.ndarray, weight: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Effect:
    """Resample seeds and, within them, whole split groups; return the weighted mean of ``terms`` with intervals.

    Parameters
    ----------
    terms
        ``[S, E]``: for each seed and judgement, hits or the paired difference of two scorers; NaN where a seed did not
        judge (cross-validation: each seed may have its own test judgements).
    weight
        ``[E]``, at least 0.
    groups
        ``[E]``: split group of each judgement. The same draw of groups serves all seeds of a resample, since they
        share the test set.
    """
    found = GroupSums.of(terms[None], weight, groups)
    means = found.resampled(resamples, seed)[:, 0]
    low, low90, high90, high = np.quantile(means, [0.025, 0.05, 0.95, 0.975])
    return Effect(
        value=float(found.means()[0]),
        ci95=(float(low), float(high)),
        ci90=(float(low90), float(high90)),
        standard_error=float(means.std(ddof=1)),
        seeds=found.mass.shape[0],
        groups=found.mass.shape[1],
    )


def verdict_on(effect: Effect, smallest_effect: float) -> Verdict:
    """Judge a claim of an effect above zero.

    "holds": the 95 % interval lies above zero. "does not hold": the effect is shown to be smaller than the smallest
    effect of interest (the 90 % interval lies below it: two one-sided tests at 5 %). Otherwise "undecided".
    """
    if effect.ci95[0] > 0:
        return "holds"
    return "does not hold" if effect.ci90[1] < smallest_effect else "undecided"


def minimum_detectable_effect(effect: Effect) -> float:
    """Return the effect that a study of this size would find with 80 % power at the two-sided 5 % level: 2.8 errors."""
    return 2.8 * effect.standard_error
