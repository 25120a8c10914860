"""Scores with mean 0 and deviation 1 in use, whatever unit a reward model came to (Offline-RaM, Tan et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from assay.errors import ModelError
from assay.scorers.conversation import Prompt, Reply
from assay.scorers.interface import Batch
from assay.scorers.reward_model import RewardModel


class Standardised:
    """A scorer around another one: ``(score - mean) / std``.

    No order changes, and no calibrated probability: `RewardModel.probability` knows the raw unit. What reads scores in
    a fixed unit, such as a softmax of them or a sum of several models, wants them like this.

    Parameters
    ----------
    scorer
        Any reward model.
    mean, std
        Of its raw scores where it is used; None: as it stored them, which is on texts that did not train it where
        there were such.

    Raises
    ------
    ModelError
        If nothing is stored, or all scores were equal.
    """

    def __init__(self, scorer: RewardModel, mean: float | None = None, std: float | None = None) -> None:
        stored = scorer.record.score or {}
        mean = stored.get("mean") if mean is None else mean
        std = stored.get("std") if std is None else std
        if mean is None or std is None or not std > 0:
            raise ModelError(
                "this model's scores cannot be standardised",
                expected="the mean and the deviation of its scores, the latter above 0",
                got=f"mean {mean}, deviation {std}",
                remedy="give them, from scores of responses like those to be scored",
            )
        self.scorer, self.mean, self.std = scorer, mean, std

    @classmethod
    def on(cls, scorer: RewardModel, prompts: Sequence[Prompt], responses: Sequence[Reply]) -> Standardised:
        """Take mean and deviation from the scores of some responses."""
        scores = scorer.score(prompts, responses).astype(np.float64)
        return cls(scorer, float(scores.mean()), float(scores.std()))

    def nodes(self, batch: Batch) -> Tensor:
        """Return the states of the scorer inside."""
        return self.scorer.nodes(batch)

    def values(self, states: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return standardised scores; shapes as inside."""
        return (self.scorer.values(states, prompts) - self.mean) / self.std

    def edge_margins(self, states: Tensor, edges: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return the margins of standardised scores."""
        return self.scorer.edge_margins(states, edges, prompts) / self.std

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Reply], **options: Any) -> np.ndarray:
        """Return standardised scores of responses, float32 ``[n]``; options as for `RewardModel.score`."""
        scores = self.scorer.score(prompts, responses, **options)
        return ((scores - self.mean) / self.std).astype(np.float32)
