"""Paired comparison of two scorers, and of a scorer with a baseline, on the same judgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.intervals import GAP, RESAMPLES, SHARE, Estimate, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms, brier_terms, checked, decided, nll_terms, weighted_mean
from assay.feedback.pairs import Pairs


def verdict(difference: Estimate) -> str:
    """Put a difference into one word: ``better``, ``worse``, or ``undecided`` (interval holds 0, or is missing)."""
    if not difference.excludes_zero():
        return "undecided"
    return "better" if difference.value > 0 else "worse"


@dataclass(frozen=True)
class BaselineResult:
    """A baseline, and the scorer's lead over it.

    Attributes
    ----------
    accuracy
        Of the baseline itself.
    difference
        Accuracy of the scorer minus accuracy of the baseline, paired; above 0 favours the scorer.
    reversed_difference
        The same against the baseline turned round, given where the baseline is below one half: beating a rule that
        errs most of the time says little.
    """

    accuracy: Estimate
    difference: Estimate
    reversed_difference: Estimate | None = None

    @property
    def verdict(self) -> str:
        """Whether the scorer is ``better`` than the baseline either way round, ``worse``, or ``undecided``."""
        return verdict(self.reversed_difference or self.difference)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON; ``accuracy`` is a plain number with ``accuracy_ci95`` beside it."""
        turned = {"reversed_difference": self.reversed_difference.to_dict()} if self.reversed_difference else {}
        return {
            "accuracy": self.accuracy.value,
            "accuracy_ci95": list(self.accuracy.ci95) if self.accuracy.ci95 else None,
            "difference": self.difference.to_dict(),
            "verdict": self.verdict,
            **turned,
        }


@dataclass(frozen=True)
class Comparison:
    """A scorer against another on the same judgements; differences are scorer minus other.

    Attributes
    ----------
    accuracy
        Difference in accuracy; above 0 favours the scorer.
    nll, brier
        Differences in NLL and Brier score; below 0 favours the scorer.
    other_accuracy, other_nll, other_brier
        Values of the other scorer.
    agreement
        Weighted share of judgements on which both prefer the same side.
    only_scorer_right, only_other_right
        Numbers of decided judgements on which just one of them is right.
    """

    accuracy: Estimate
    nll: Estimate
    brier: Estimate
    other_accuracy: float
    other_nll: float
    other_brier: float
    agreement: float
    only_scorer_right: int
    only_other_right: int

    @property
    def verdict(self) -> str:
        """Whether the scorer's accuracy is ``better``, ``worse``, or ``undecided``."""
        return verdict(self.accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        return {
            "accuracy_difference": self.accuracy.to_dict(),
            "nll_difference": self.nll.to_dict(),
            "brier_difference": self.brier.to_dict(),
            "other": {"accuracy": self.other_accuracy, "nll": self.other_nll, "brier": self.other_brier},
            "agreement": self.agreement,
            "only_scorer_right": self.only_scorer_right,
            "only_other_right": self.only_other_right,
            "verdict": self.verdict,
        }


def _hits(pairs: Pairs, delta: np.ndarray) -> np.ndarray:
    return np.where(decided(pairs.p), accuracy_terms(delta, pairs.p), 0.0)


def judge_baseline(
    pairs: Pairs, delta: np.ndarray, baseline_delta: np.ndarray, bootstrap: GroupBootstrap
) -> BaselineResult:
    """Compare the accuracy of a scorer's margins [E] with that of a baseline's margins [E]."""
    w = pairs.w * decided(pairs.p)
    model, baseline, turned = (_hits(pairs, d) for d in (delta, baseline_delta, -baseline_delta))
    accuracy = bootstrap.ratio(baseline, w, between=SHARE)
    difference, reversed_difference = bootstrap.ratios(
        np.stack([model - baseline, model - turned], axis=1), np.stack([w, w], axis=1), between=[GAP, GAP]
    )
    return BaselineResult(accuracy, difference, reversed_difference if accuracy.value < 0.5 else None)


def compare(
    pairs: Pairs, delta: np.ndarray, other: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two scorers by their margins on the same judgements, float [E] each, paired within split groups."""
    return compared(pairs, delta, other, GroupBootstrap(pairs.group, resamples, seed))


def compared(pairs: Pairs, delta: np.ndarray, other: np.ndarray, bootstrap: GroupBootstrap) -> Comparison:
    """Compare as ``compare`` does, with given resamples."""
    delta, p, w = checked(delta, pairs.p, pairs.w)
    other, keep = checked(other, p, w)[0], decided(p)
    mine, theirs = _hits(pairs, delta), _hits(pairs, other)
    nll_theirs, brier_theirs = nll_terms(other, p), brier_terms(other, p)
    terms = np.stack([mine - theirs, nll_terms(delta, p) - nll_theirs, brier_terms(delta, p) - brier_theirs], axis=1)
    accuracy, nll, brier = bootstrap.ratios(terms, np.stack([w * keep, w, w], axis=1), between=[GAP, None, None])
    return Comparison(
        accuracy=accuracy,
        nll=nll,
        brier=brier,
        other_accuracy=weighted_mean(theirs, w * keep),
        other_nll=weighted_mean(nll_theirs, w),
        other_brier=weighted_mean(brier_theirs, w),
        agreement=weighted_mean(np.sign(delta) == np.sign(other), w),
        only_scorer_right=int(np.sum((mine == 1) & (theirs == 0) & keep)),
        only_other_right=int(np.sum((theirs == 1) & (mine == 0) & keep)),
    )
