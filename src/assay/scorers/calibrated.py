"""What a stored calibration makes of margins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit


def calibrated_probability(delta: np.ndarray, calibration: Mapping[str, Any] | None) -> np.ndarray:
    """Return P(a better) of margins, float64, same shape.

    Parameters
    ----------
    delta
        Raw margins.
    calibration
        As a model stores it: a ``temperature`` that divides margins, the ``slope`` of Platt's line for single
        responses, or the steps of an isotonic one (``margin``, ``level``). None: a temperature of 1.
    """
    margins = np.asarray(delta, np.float64)
    if calibration is None:
        return np.asarray(expit(margins))
    kind = calibration.get("kind", "temperature")
    if kind == "isotonic":
        return np.asarray(np.interp(margins, calibration["margin"], calibration["level"]))
    scale = calibration["slope"] if kind == "platt" else 1.0 / calibration["temperature"]
    return np.asarray(expit(margins * scale))
