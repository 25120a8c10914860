"""What a preference step minimises: the pairwise kernel, plus optional terms, as sums that the trainer divides once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.objectives import centring_loss, pairwise_loss
from assay.scorers.interface import Batch
from assay.scorers.reward_model import Output


@dataclass(frozen=True)
class PairwiseObjective:
    """Soft Bradley-Terry, with an optional pull of the scores towards zero.

    Attributes
    ----------
    centring
        Factor of `centring_loss`; 0 leaves it out. 0.01 is usual.
    """

    centring: float = 0.0

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the *sum* of weighted losses of a micro-batch: a scalar, or one per member."""
        losses = pairwise_loss(output["margins"], batch["target"], batch["margin"], batch["weight"], reduction="none")
        total = losses.sum(dim=0)
        if self.centring:
            a, b = batch["edges"].unbind(dim=1)
            total = total + self.centring * _centring(output["values"][a], output["values"][b], batch["weight"])
        return total


def _centring(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Return the centring term, one per member where there are several: members share nothing."""
    if a.dim() == 1:
        return centring_loss(a, b, weight)
    weight = weight.reshape(len(a), -1).expand_as(a)
    return torch.stack([centring_loss(*member) for member in zip(a.T, b.T, weight.T, strict=True)])
