"""What a stored calibration makes of margins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from assay.scorers.conversation import Prompt, Reply, same_length


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


class CalibratedMixin:
    """For models that score prompts and responses, and keep a calibration in their ``record``."""

    record: Any
    score: Any

    def probability(self, prompts: Sequence[Prompt], a: Sequence[Reply], b: Sequence[Reply]) -> np.ndarray:
        """Return the calibrated probability that a is better than b, float64 ``[n]``.

        ``sigmoid((s_a - s_b) / T)``, or what an isotonic calibration says of the difference. A model that was never
        calibrated uses T = 1 and warns.
        """
        same_length(prompts, a, b)
        calibration = self.record.calibration
        if calibration is None:
            warnings.warn("this model is not calibrated: temperature 1 is used; run `assay calibrate`", stacklevel=2)
        scores = self.score([*prompts, *prompts], [*a, *b]).astype(np.float64)
        return calibrated_probability(scores[: len(a)] - scores[len(a) :], calibration)
