"""Prediction-powered intervals: few judged pairs, many unjudged ones, and the model's own opinion of all of them.

The model says how often it expects to be right; the judged pairs say how far that is off; together they give an
interval for its accuracy that is valid whatever the model is worth, and narrower where its opinion of itself is worth
something (Angelopoulos et al. 2023; power-tuned: PPI++, 2023). Judged and unjudged pairs must come from one population.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from assay.errors import ConfigError
from assay.evaluation.metrics import accuracy_terms, decided
from assay.feedback.pairs import Pairs


@dataclass(frozen=True)
class PoweredEstimate:
    """An accuracy with two 95 % intervals.

    Attributes
    ----------
    value, ci95
        With the unjudged pairs.
    alone, alone_ci95
        By the judged pairs alone, from the same normal approximation.
    groups, unlabelled_groups
        Split groups on either side; pairs of one group count as one observation.
    """

    value: float
    ci95: tuple[float, float]
    alone: float
    alone_ci95: tuple[float, float]
    groups: int
    unlabelled_groups: int

    @property
    def worth(self) -> float:
        """How many times the judgements one would need for an interval as narrow without the unjudged pairs."""
        powered, alone = (high - low for low, high in (self.ci95, self.alone_ci95))
        return (alone / powered) ** 2 if powered > 0 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "value": self.value,
            "ci95": list(self.ci95),
            "alone": self.alone,
            "alone_ci95": list(self.alone_ci95),
            "worth": self.worth,
            "groups": self.groups,
            "unlabelled_groups": self.unlabelled_groups,
        }

    def sentence(self) -> str:
        """Say it in words."""
        low, high = (100 * bound for bound in self.ci95)
        return (
            f"With {self.unlabelled_groups:,} groups of unjudged pairs the accuracy is {100 * self.value:.1f} % "
            f"({low:.1f} to {high:.1f}); by the judged ones alone {100 * self.alone:.1f} % "
            f"({100 * self.alone_ci95[0]:.1f} to {100 * self.alone_ci95[1]:.1f}): worth {self.worth:.2f} times the "
            "judgements."
        )


def powered_accuracy(
    pairs: Pairs, margins: np.ndarray, unlabelled: np.ndarray, unlabelled_groups: np.ndarray
) -> PoweredEstimate:
    """Estimate the accuracy of a model on the population of pairs that some were judged of.

    Parameters
    ----------
    pairs
        Judged pairs, E of them; ties are left out, the others count by their weight.
    margins
        Calibrated margins of them, ``[E]``; the model expects to be right with probability ``sigmoid(|m|)``.
    unlabelled, unlabelled_groups
        Calibrated margins of pairs that nobody judged, ``[N]``, and their split groups.

    Raises
    ------
    ConfigError
        If the library is not installed, or there are fewer than two groups on a side.
    """
    ppi = _library()
    keep = decided(pairs.p) & (pairs.w > 0)
    hits = accuracy_terms(margins, pairs.p)[keep]
    hoped = expit(np.abs(margins[keep]))
    groups, others = len(np.unique(pairs.group[keep])), len(np.unique(unlabelled_groups))
    if min(groups, others) < 2:
        raise ConfigError(
            "a prediction-powered interval needs several groups on both sides",
            expected="two split groups or more, judged and unjudged",
            got=f"{groups} judged, {others} unjudged",
            remedy="leave --unlabelled out",
        )
    judged = np.stack([_per_group(values, pairs.group[keep], pairs.w[keep]) for values in (hits, hoped)])
    free = _per_group(expit(np.abs(unlabelled)), unlabelled_groups, np.ones(len(unlabelled)))
    with warnings.catch_warnings():
        value = ppi.ppi_mean_pointestimate(*judged, free)
        low, high = ppi.ppi_mean_ci(*judged, free, alpha=0.05)
        # without the model's opinion it is the classical interval
        alone = ppi.ppi_mean_ci(*judged, free, alpha=0.05, lam=0)
    return PoweredEstimate(
        float(np.squeeze(value)),
        (float(np.squeeze(low)), float(np.squeeze(high))),
        float(judged[0].mean()),
        (float(np.squeeze(alone[0])), float(np.squeeze(alone[1]))),
        groups,
        others,
    )


def _per_group(values: np.ndarray, groups: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return one number per group whose mean is the weighted one of the values, its spread that of sums of groups."""
    _, index = np.unique(groups, return_inverse=True)
    mean, count = np.average(values, weights=weight), index.max() + 1
    return np.asarray(mean + np.bincount(index, weight * (values - mean)) * count / weight.sum())


def _library() -> Any:
    # its import silences all warnings of the program; leaving the context brings them back
    with warnings.catch_warnings():
        try:
            import ppi_py
        except ImportError as error:
            raise ConfigError(
                "prediction-powered intervals need a further package",
                expected="ppi-python",
                remedy='pip install "assay[ppi]", or leave --unlabelled out',
            ) from error
    return ppi_py
