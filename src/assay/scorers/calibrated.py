"""What a stored calibration makes of margins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from assay.scorers.batches import DEFAULT_TOKEN_BUDGET
from assay.scorers.conversation import Prompt, Reply, same_length, warn_of_lost_instructions, warn_truncated


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
    """For models that score conversations, and keep a calibration in their ``record``."""

    encoder: Any
    record: Any
    score_conversations: Any

    def score(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Reply],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """Score responses.

        Parameters
        ----------
        prompts
            Strings (one user message) or message lists, length n.
        responses
            Strings, or message lists where a reply is more than one text, length n.
        token_budget
            Padded tokens per forward pass; it changes speed and memory, never a score.
        dtype
            Compute in this dtype by autocast; None: in that of the weights, float32 unless loaded otherwise.

        Returns
        -------
        ndarray
            Raw scores, float32, shape ``[n]``; the mean over members where there are several. Their differences are
            log-odds; their zero has no meaning. How many texts were truncated is told by a warning.
        """
        same_length(prompts, responses)
        warn_of_lost_instructions(self.encoder, prompts)
        encoded = self.encoder.encode(prompts, responses)
        warn_truncated(encoded)
        return self.score_conversations(encoded, prompts, token_budget=token_budget, dtype=dtype)

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
