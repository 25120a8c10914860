"""Objectives of single replies of a policy: verdicts on them (KTO), and their likelihood (supervised fine-tuning)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.objectives.policy import kahneman_tversky_loss
from assay.scorers.interface import Batch
from assay.scorers.model_shape import Output
from assay.training.objective import lists_of, weighing
from assay.training.records import TrainingRecords


@dataclass(frozen=True)
class ProspectObjective:
    """Single verdicts on what a policy might say (KTO): `kahneman_tversky_loss` of its scores.

    A grade is P(good). The reference point is the mean score of the responses to other prompts in the micro-batch
    (``elsewhere`` in the batch), at least 0: an estimate of beta times the divergence from the reference. Where a
    micro-batch holds none it is 0.

    Attributes
    ----------
    good, bad
        Weights of good and of bad responses, both lambdas of the paper.
    """

    good: float = 1.0
    bad: float = 1.0
    views: ClassVar[int] = 1
    likelihoods: ClassVar[bool] = False
    prefixes: ClassVar[bool] = False

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Count graded responses; each weighs 1, whatever the weights of good and bad ones."""
        graded = data.graded_texts()
        return graded, weighing(data, graded.astype(np.float64))

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum of weighted losses."""
        scores, target, mask, weight = lists_of(output, batch)
        away = batch.get("elsewhere", torch.zeros_like(output["values"]))
        point = ((away * output["values"]).sum() / away.sum().clamp_min(1.0)).clamp_min(0.0).detach()
        p = torch.where(mask, target, 0.5)
        counts = mask * weight.unsqueeze(-1) * (p * self.good + (1.0 - p) * self.bad)
        # of a response that is good with p each side weighs as its verdict does
        share = p * self.good / (p * self.good + (1.0 - p) * self.bad)
        return kahneman_tversky_loss(scores, share, point, counts, reduction="none").sum()


@dataclass(frozen=True)
class LikelihoodObjective:
    """Minus the log-likelihood of replies to learn, per token (supervised fine-tuning).

    `TrainingRecords.told` names them: ``learned``, the weight of each. Every token of a step counts alike.

    Attributes
    ----------
    beta
        Scale of the scores, which are beta times log-likelihoods: no reference takes part.
    """

    beta: float = 1.0

    views: ClassVar[int] = 1
    likelihoods: ClassVar[bool] = False
    prefixes: ClassVar[bool] = False

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Count replies to learn; their weight is that of their tokens."""
        learned = data.told["learned"].astype(np.float64)
        # what begins a text has nothing to be predicted from
        tokens = np.maximum(data.records.lengths - np.maximum(data.records.reply_starts, 1), 1)
        ends = data.records.offsets
        counts, weights = (np.concatenate([[0], np.cumsum(each)]) for each in (learned > 0, learned * tokens))
        return (counts[ends[1:]] - counts[ends[:-1]]).astype(np.int64), weights[ends[1:]] - weights[ends[:-1]]

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum over replies."""
        return -(batch["learned"] * output["values"]).sum() / self.beta
