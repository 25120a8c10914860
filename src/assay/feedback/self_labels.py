"""Which pairs a reward model may label for itself: the two status rules of SER (Huang et al., ICLR 2025)."""

from __future__ import annotations

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
