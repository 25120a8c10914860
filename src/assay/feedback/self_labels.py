"""Which pairs a reward model may label for itself: the two status rules of SER (Huang et al., ICLR 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

Rule = Literal["one", "two"]


def kept_by_rule(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    rule: Rule,
    *,
    high: float = 0.55,
    low: float = 0.45,
    gap: float = 0.3,
) -> np.ndarray:
    """Mark the pairs whose self-label is kept, bool ``[E]``.

    Parameters
    ----------
    scores_a, scores_b
        Scores of the two responses, centred on a set of judged responses: Bradley-Terry leaves their zero free, and
        the rules look at single scores.
    rule
        ``"one"``: one response is good and the other bad, sigmoid above ``high`` and below ``low``. ``"two"``: their
        sigmoids differ by more than ``gap``.
    high, low, gap
        Thresholds, in probabilities.

    Raises
    ------
    ValueError
        If the rule is unknown, or ``low`` above ``high``.
    """
    if rule not in ("one", "two") or low > high:
        raise ValueError(f"expected rule one or two, and low <= high; got {rule!r}, {low} and {high}")
    a, b = expit(np.asarray(scores_a, np.float64)), expit(np.asarray(scores_b, np.float64))
    if rule == "two":
        return np.asarray(np.abs(a - b) > gap)
    return np.asarray((np.maximum(a, b) > high) & (np.minimum(a, b) < low))


def standard(scores: np.ndarray, centre: float, scale: float) -> np.ndarray:
    """Return scores as the rules read them: their zero is the mean of judged responses, their unit the temperature."""
    return (np.asarray(scores, np.float64) - centre) / scale


@dataclass(frozen=True)
class SelfLabelling:
    """How a model labels pairs for itself.

    Attributes
    ----------
    rule
        ``"one"`` or ``"two"``, see `kept_by_rule`; ``"auto"``: one, and two once rule one keeps enough.
    high, low, gap
        See `kept_by_rule`.
    coverage
        Share of judged pairs from which on ``"auto"`` takes rule two.
    """

    rule: Rule | Literal["auto"] = "auto"
    high: float = 0.55
    low: float = 0.45
    gap: float = 0.3
    coverage: float = 0.5

    def kept(self, scores_a: np.ndarray, scores_b: np.ndarray, rule: Rule) -> np.ndarray:
        """Mark the pairs whose label is kept by a rule, bool ``[E]``."""
        return kept_by_rule(scores_a, scores_b, rule, high=self.high, low=self.low, gap=self.gap)

    def rule_by(self, judged_a: np.ndarray, judged_b: np.ndarray) -> tuple[Rule, float]:
        """Return the rule for this round, and how many of some judged pairs the first rule would keep.

        These are pairs that the model has not learned from; their verdicts are not looked at.
        """
        covered = float(self.kept(judged_a, judged_b, "one").mean())
        if self.rule != "auto":
            return self.rule, covered
        return ("two" if covered > self.coverage else "one"), covered
