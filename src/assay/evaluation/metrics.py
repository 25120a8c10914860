"""Metrics of a scorer on judgements, from margins (logits) rather than probabilities.

Everywhere: ``delta`` float [E] is the scorer's margin of response a over response b, its prediction P(a better) =
sigmoid(delta); ``p`` float [E] in [0, 1] is the judged target P(a better), 0.5 a tie; ``w`` float [E] >= 0 weighs the
judgements (None: all 1). All metrics are ratios of sums, ``sum(w * term) / sum(w)``, and do not change when a and b of
any judgement are exchanged (delta -> -delta, p -> 1 - p).
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr


def checked(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the three arrays as float64 of one length.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, a target is outside [0, 1] or a weight is negative.
    """
    delta, p = np.asarray(delta, dtype=np.float64), np.asarray(p, dtype=np.float64)
    w = np.ones_like(p) if w is None else np.asarray(w, dtype=np.float64)
    if delta.ndim != 1 or not delta.shape == p.shape == w.shape:
        raise ValueError(f"delta, p and w must be flat and of one length, got {delta.shape}, {p.shape}, {w.shape}")
    for name, values in (("delta", delta), ("p", p), ("w", w)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(f"{name} must be finite: {len(bad)} of {len(values)} are not, the first at {bad[0]}")
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"targets p must lie in [0, 1], got {p.min()} .. {p.max()}")
    if np.any(w < 0):
        raise ValueError(f"weights w must not be negative, got {w.min()}")
    return delta, p, w


def weighted_mean(terms: np.ndarray, w: np.ndarray) -> float:
    """Return ``sum(w * terms) / sum(w)``; NaN where all weights are 0."""
    total = float(np.sum(w))
    return float(np.sum(w * terms)) / total if total > 0 else float("nan")


def decided(p: np.ndarray) -> np.ndarray:
    """Mark the judgements that take a side: True where the target is not exactly 0.5."""
    return np.asarray(p) != 0.5


def accuracy_terms(delta: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return 1 where margin and target take the same side, 0 where not, 0.5 for a margin of 0, NaN for a judged tie."""
    hit = np.where(delta == 0, 0.5, (np.sign(delta) == np.sign(p - 0.5)).astype(np.float64))
    return np.where(decided(p), hit, np.nan)


def nll_terms(delta: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return ``-p log P - (1-p) log(1-P)`` in nats; exact for any finite margin (no probability is ever formed)."""
    return p * np.logaddexp(0.0, -delta) + (1.0 - p) * np.logaddexp(0.0, delta)


def brier_terms(delta: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return ``(P - p)^2``, in [0, 1]; the one-sided form, half of the sum over both classes."""
    return (expit(delta) - p) ** 2


def accuracy(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> float:
    """Share of decided judgements whose preferred side the scorer picks; NaN when all are ties.

    A predicted tie (margin 0) counts one half. Judged ties (p = 0.5) are left out: no side is right. A soft target
    counts by the side of 0.5 on which it lies.
    """
    delta, p, w = checked(delta, p, w)
    keep = decided(p)
    return weighted_mean(accuracy_terms(delta, p)[keep], w[keep])


def nll(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> float:
    """Mean cross-entropy against the targets in nats; log 2 for a scorer that says nothing. Ties count with p = 0.5."""
    delta, p, w = checked(delta, p, w)
    return weighted_mean(nll_terms(delta, p), w)


def brier(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> float:
    """Mean squared distance of P from the targets; 0.25 for a scorer that says nothing on hard labels (Brier, 1950)."""
    delta, p, w = checked(delta, p, w)
    return weighted_mean(brier_terms(delta, p), w)


def hard_labels(p: np.ndarray) -> np.ndarray:
    """Round targets to the side of 0.5 on which they lie; ties stay 0.5."""
    return (np.sign(np.asarray(p, dtype=np.float64) - 0.5) + 1.0) / 2.0


def spread(delta: np.ndarray) -> dict[str, float]:
    """Describe the size of the margins: mean and root mean square of |delta|, its quantiles, share of exact zeros."""
    size = np.abs(np.asarray(delta, dtype=np.float64))
    if not len(size):
        return {}
    levels = np.quantile(size, [0.1, 0.5, 0.9])
    return {
        "mean_abs": float(size.mean()),
        "rms": float(np.sqrt(np.mean(size**2))),
        "abs_q10": float(levels[0]),
        "abs_median": float(levels[1]),
        "abs_q90": float(levels[2]),
        "max_abs": float(size.max()),
        "zero_share": float(np.mean(size == 0)),
    }


def score_drift(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Describe how scores [n] of the same responses moved from one scorer to another.

    Returns
    -------
    dict
        ``shift`` (mean of after - before, in standard deviations of before), ``scale`` (ratio of standard deviations)
        and ``rank_correlation`` (Spearman). NaN where a standard deviation is 0.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError(f"both score arrays must be flat and of one length, got {before.shape} and {after.shape}")
    std_before, std_after = (float(s.std()) if len(s) else 0.0 for s in (before, after))
    if std_before == 0.0 or std_after == 0.0:
        return {"shift": float("nan"), "scale": float("nan"), "rank_correlation": float("nan")}
    return {
        "shift": float((after - before).mean()) / std_before,
        "scale": std_after / std_before,
        "rank_correlation": float(spearmanr(before, after).statistic),
    }
