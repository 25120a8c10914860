"""Curves of gold by cycle, and what may be said of the gap between two arms that share their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from summary import judged

from assay.evaluation.verdicts import hierarchical_effect

SMALLEST = 0.1
Curve = list[dict[str, Any]]


def standardised(curve: Curve, start: float, deviation: float) -> np.ndarray:
    """Return gold by cycle, in standard deviations over what all arms begin with, ``[cycles]``."""
    return (np.array([row["gold"] for row in curve]) - start) / max(deviation, 1e-9)


def smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Return running means, as many as there are values."""
    padded = np.pad(values, width // 2, mode="edge")
    found: np.ndarray = np.convolve(padded, np.ones(width) / width, mode="valid")
    return found


def at_divergence(curve: Curve, gold: np.ndarray, away: float) -> float:
    """Return gold (smoothed over cycles that are as far away) where a curve is so far from the reference."""
    found = np.array([row["divergence"] for row in curve])
    order = np.argsort(found)
    return float(np.interp(away, found[order], smooth(gold[order])))


def equal_divergence(one: Curve, other: Curve) -> float:
    """Return how far both went at least."""
    return min(max(row["divergence"] for row in curve) for curve in (one, other))


def seed_verdict(claim: str, metric: str, name: str, gaps: Sequence[float]) -> dict[str, Any]:
    """Judge a claim from the gap of each seed, in standard deviations of gold."""
    terms = np.array(gaps, np.float64)[:, None]
    effect = hierarchical_effect(terms, np.ones(1), np.array(["all"], object))
    return {**judged(claim, metric, name, effect, SMALLEST), "unit": "deviations"}


def means(curves: Sequence[Curve], last: int = 10) -> dict[str, float]:
    """Return the mean of each number over the last cycles of several curves."""
    return {
        name: float(np.mean([[row[name] for row in curve[-last:]] for curve in curves]))
        for name in curves[0][-1]
        if all(name in row for curve in curves for row in curve[-last:])
    }


def median_of(values: Sequence[int | None]) -> str:
    """Return the median of what is there, and how many are."""
    known = [value for value in values if value is not None]
    return f"{np.median(known):.0f} ({len(known)} of {len(values)})" if known else "never"
