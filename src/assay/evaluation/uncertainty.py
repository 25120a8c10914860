"""Whether a model's uncertainty tells where it errs, and whether it tells more than the size of the margin does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from assay.evaluation.intervals import SHARE, Estimate, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms, decided, nll_terms
from assay.feedback.pairs import Pairs

#: Bins of like margins within which the more and the less certain half are compared.
MARGIN_BINS = 5
_DRAWS = 500


@dataclass(frozen=True)
class UncertaintyEvaluation:
    """What the deviation of margins says of mistakes.

    Attributes
    ----------
    auroc
        P(a mistake has a larger deviation than a right judgement); 0.5 says nothing.
    auroc_margin
        The same by the smallness of the margin, which every model has.
    sure, unsure
        Accuracy of the half with the smaller and with the larger deviations.
    difference
        The first minus the second.
    at_equal_margin
        The same difference where each half is taken among judgements of like margins; an interval above 0: the
        deviation says what the margin does not.
    moderated_nll
        NLL of ``sigmoid(m / sqrt(1 + pi * s^2 / 8))``, calibrated margin m and deviation s, minus that of
        ``sigmoid(m)``; below 0: probabilities get better where the deviation moves them towards one half
        (MacKay 1992).
    """

    auroc: Estimate
    auroc_margin: Estimate
    sure: Estimate
    unsure: Estimate
    difference: Estimate
    at_equal_margin: Estimate
    moderated_nll: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        return {name: Estimate(**value).to_dict() for name, value in asdict(self).items()}

    def sentence(self) -> str:
        """Say it in words."""
        found = self.at_equal_margin
        low, high = found.ci95 or (float("nan"), float("nan"))
        told = (
            "so it says where mistakes are, beyond the size of the margin"
            if found.excludes_zero() and found.value > 0
            else "so it says nothing for certain that the size of the margin does not"
        )
        return (
            f"The half that the model is surer of is right in {100 * self.sure.value:.1f} %, the other in "
            f"{100 * self.unsure.value:.1f} %; among margins of like size the difference is {100 * found.value:+.1f} "
            f"points ({100 * low:+.1f} to {100 * high:+.1f}), {told}."
        )


def evaluate_uncertainty(
    pairs: Pairs,
    delta: np.ndarray,
    std: np.ndarray,
    bootstrap: GroupBootstrap,
    calibrate: Callable[[np.ndarray], np.ndarray] | None = None,
) -> UncertaintyEvaluation:
    """Judge deviations of margins.

    Parameters
    ----------
    pairs
        E judgements.
    delta, std
        Margins of a over b, and their standard deviations, float ``[E]``.
    bootstrap
        Of the judgements' groups.
    calibrate
        From margins to calibrated ones; None: as they are. The deviation is scaled by the same local slope.
    """
    keep = decided(pairs.p)
    hits, w = np.where(keep, accuracy_terms(delta, pairs.p), 0.0), pairs.w * keep
    unsure = _upper_half(std, np.zeros(len(std), np.int64))
    size = np.abs(delta)
    quantiles = np.quantile(size[keep], np.linspace(0, 1, MARGIN_BINS + 1)[1:-1]) if keep.any() else np.zeros(0)
    matched = _upper_half(std, np.searchsorted(quantiles, size))
    halves = np.stack([w * ~unsure, w * unsure], axis=1)
    accuracies = bootstrap.ratios(np.stack([hits, hits], axis=1), halves, between=[SHARE, SHARE])
    calibrated = delta if calibrate is None else calibrate(delta)
    # where both are near 0 the slope is that of larger margins: calibrations here pass through 0
    slope = np.divide(calibrated, delta, out=np.ones_like(delta), where=np.abs(delta) > 1e-9)
    moderated = calibrated / np.sqrt(1 + np.pi / 8 * (slope * std) ** 2)
    better = nll_terms(moderated, pairs.p) - nll_terms(calibrated, pairs.p)
    wrong = hits < 0.5
    return UncertaintyEvaluation(
        auroc=_auroc(std, wrong, keep, bootstrap),
        auroc_margin=_auroc(-size, wrong, keep, bootstrap),
        sure=accuracies[0],
        unsure=accuracies[1],
        difference=bootstrap.difference(hits, w * ~unsure, w * unsure),
        at_equal_margin=bootstrap.difference(hits, w * ~matched, w * matched),
        moderated_nll=bootstrap.ratio(better, pairs.w),
    )


def moderated_probability(margins: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return ``sigmoid(m / sqrt(1 + pi * s^2 / 8))``: P(a better) where a margin is uncertain, float64 ``[E]``."""
    return np.asarray(expit(margins / np.sqrt(1 + np.pi / 8 * np.square(std))))


def _upper_half(std: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Mark the larger half of deviations within each bin; equal ones fall on one side."""
    upper = np.zeros(len(std), bool)
    for number in np.unique(bins):
        inside = bins == number
        middle = np.median(std[inside])
        # more than half may have the largest value there is
        upper[inside] = std[inside] > middle if (std[inside] > middle).any() else std[inside] > std[inside].min()
    return upper


def _auroc(score: np.ndarray, wrong: np.ndarray, keep: np.ndarray, bootstrap: GroupBootstrap) -> Estimate:
    def area(drawn: np.ndarray) -> float:
        drawn = drawn[keep[drawn]]
        bad = wrong[drawn]
        count = int(bad.sum())
        if count in (0, len(bad)):
            return float("nan")
        ranks = rankdata(score[drawn])
        return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * (len(bad) - count)))

    return bootstrap.resampled(area, min(bootstrap.resamples, _DRAWS))
