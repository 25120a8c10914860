"""How right any model could be against these judgements: what repeated judgements of one pair say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.intervals import SHARE, Estimate, GroupBootstrap
from assay.feedback.annotators import noise_ceiling, once_each, votes
from assay.feedback.pairs import Pairs

#: Pairs that were judged again, below which nothing is said.
LEAST = 10


@dataclass(frozen=True)
class Ceiling:
    """Bounds of the best accuracy against single judgements.

    Attributes
    ----------
    agreeing
        Of two decided judgements of one pair by different people, how often they agree; each pair counts once.
    low, high
        The best accuracy lies between them (`assay.feedback.annotators.noise_ceiling`).
    least, most
        The same at the ends of the interval of ``agreeing``.
    nameless
        Whether nobody's name stands by some of the judgements: they are taken for different people's.
    """

    agreeing: Estimate
    low: float
    high: float
    least: float
    most: float
    nameless: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "agreeing": self.agreeing.to_dict(),
            "accuracy": [self.low, self.high],
            "accuracy_with_sampling": [self.least, self.most],
            "nameless": self.nameless,
        }

    def sentence(self) -> str:
        """Say it in words."""
        low, high = (100 * bound for bound in self.agreeing.ci95 or (float("nan"), float("nan")))
        return (
            f"Two judgements of one pair agree in {100 * self.agreeing.value:.1f} % ({low:.1f} to {high:.1f}) of "
            f"{self.agreeing.n:,} pairs judged again, so no model could be right in more than "
            f"{100 * self.high:.1f} % ({100 * self.most:.1f} with the sampling error); the best one is right in "
            f"{100 * self.low:.1f} % or more."
            + (" Judgements without a name are taken for different people's." if self.nameless else "")
        )


def ceiling_of(pairs: Pairs, bootstrap: GroupBootstrap) -> Ceiling | None:
    """Return the noise ceiling of judgements; None where fewer than `LEAST` pairs were judged again by someone else.

    Ties say nothing here. A judge's repeats of himself count once.
    """
    keep = np.flatnonzero(((pairs.p == 0) | (pairs.p == 1)) & (pairs.w > 0))
    if len(keep) < 2:
        return None
    # whoever judged a pair several times is one judge
    found = once_each(votes(pairs.take(keep)))
    units = len(found.first)
    total = np.bincount(found.unit, minlength=units)
    wins = np.bincount(found.unit, found.verdict, minlength=units)
    again = total > 1
    if again.sum() < LEAST:
        return None
    share = np.zeros(units)
    t, w = total[again], wins[again]
    share[again] = (w * (w - 1) + (t - w) * (t - w - 1)) / (t * (t - 1))
    terms, weight = np.zeros(len(pairs)), np.zeros(len(pairs))
    terms[keep[found.first]], weight[keep[found.first]] = share, again
    agreeing = bootstrap.ratio(terms, weight, between=SHARE)
    low, high = noise_ceiling(agreeing.value)
    least, most = (noise_ceiling(bound)[side] for side, bound in enumerate(agreeing.ci95 or (agreeing.value,) * 2))
    nameless = bool((~found.named[again[found.unit]]).any())
    return Ceiling(agreeing, low, high, least, most, nameless)
