"""What a preference step minimises: sums over a micro-batch that the trainer divides once by the weight of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from assay.objectives import (
    clipped_margins,
    listmle_loss,
    listnet_loss,
    pointwise_loss,
    quantile_loss,
    regression_loss,
)
from assay.objectives.policy import Kernel, margin_loss
from assay.objectives.prefixes import prefix_margins
from assay.scorers.interface import Batch
from assay.scorers.model_shape import Output
from assay.training.records import TrainingRecords
from assay.training.terms import Term, TextRegulariser


class Objective(Protocol):
    """A loss, and what it counts: the plan puts so many items into a step, and the loss is divided by their weight."""

    @property
    def views(self) -> int:
        """How often each text is to be encoded, under new draws of dropout: 1, or 2."""
        ...

    @property
    def likelihoods(self) -> bool:
        """Whether it looks at log-probabilities of replies."""
        ...

    @property
    def prefixes(self) -> bool:
        """Whether it looks at scores after every token of replies."""
        ...

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Return how many items each record has, int64 ``[R]``, and their weight, ``[R]`` or ``[R, members]``."""
        ...

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the *sum* of weighted losses of a micro-batch: a scalar, or one per member."""
        ...


@dataclass(frozen=True)
class PairwiseObjective:
    """Soft Bradley-Terry over judgements, or another kernel of their margins.

    Attributes
    ----------
    kernel, beta
        See `assay.objectives.policy.margin_loss`.
    clip
        Largest size of a score that counts (`clipped_margins`); infinite: all count. For scorers with one value a text.
    terms
        What is added.
    text
        What a language model still learns from text, as a share of the loss; None: nothing.
    prefixes
        A judgement's loss is the mean of those after each token from where its replies part (`prefix_margins`), which
        trains scores of prefixes; where these were not asked for, as on held-out records, that of whole replies.
    """

    kernel: Kernel = "logistic"
    beta: float = 1.0
    clip: float = math.inf
    terms: tuple[Term, ...] = ()
    text: TextRegulariser | None = None
    prefixes: bool = False

    @property
    def views(self) -> int:
        """The most that a term asks for."""
        return max((term.views for term in self.terms), default=1)

    @property
    def likelihoods(self) -> bool:
        """Whether it learns from text too."""
        return self.text is not None and self.text.share > 0

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Count judgements."""
        return data.judgements()

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum of weighted losses: a scalar, or one per member."""
        margins, (a, b) = output["margins"], batch["edges"].unbind(dim=1)
        if self.clip != math.inf:
            margins = clipped_margins(output["values"][a], output["values"][b], self.clip)
        judged = batch["target"], batch["margin"], batch["weight"]
        if self.prefixes and "prefixes" in output:
            losses = self._of_prefixes(output, batch)
        else:
            losses = margin_loss(self.kernel, margins, *judged, reduction="none", beta=self.beta)
        total = losses.sum(dim=0)
        if self.text is not None and self.text.share > 0:
            total = self.text.mixed(total, output, batch)
        for term in self.terms:
            total = total + term(output, batch)
        return total

    def _of_prefixes(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over tokens of each judgement's losses, ``[E]`` or ``[E, members]``."""
        values, counts = output["prefixes"]
        margins, there = prefix_margins(values, counts, batch["edges"], batch["parted"])
        mask, p, m, w = there, batch["target"].unsqueeze(1), batch["margin"].unsqueeze(1), batch["weight"].unsqueeze(1)
        if margins.dim() == 3:
            mask, p, m = mask.unsqueeze(-1), p.unsqueeze(-1), m.unsqueeze(-1)
            w = w if w.dim() == 3 else w.unsqueeze(-1)
        each = [one.expand(margins.shape) for one in (p, m, w * mask)]
        losses = margin_loss(self.kernel, margins, each[0], each[1], each[2], "none", beta=self.beta).sum(dim=1)
        share = there.sum(dim=1)
        return losses / (share if losses.dim() == 1 else share.unsqueeze(-1))


@dataclass(frozen=True)
class ListwiseObjective:
    """Lists of graded responses, one per record; ungraded responses are no part of them.

    Attributes
    ----------
    loss
        ``listnet``: all grades count, in their unit. ``listmle``: their order alone.
    """

    loss: Literal["listnet", "listmle"] = "listnet"
    views: ClassVar[int] = 1
    likelihoods: ClassVar[bool] = False
    prefixes: ClassVar[bool] = False

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Count the comparisons that a list of k stands for, k - 1; its weight is that of one list."""
        graded = data.graded_texts()
        return np.maximum(graded - 1, 0), weighing(data, (graded > 1).astype(np.float64))

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum of weighted losses: a scalar, or one per member."""
        scores, grades, mask, weight = lists_of(output, batch)
        kernel = listnet_loss if self.loss == "listnet" else listmle_loss
        return kernel(scores, grades, mask, weight, reduction="none").sum(dim=-1)


@dataclass(frozen=True)
class GradedObjective:
    """Single graded responses.

    Attributes
    ----------
    loss
        ``regression``: squared error. ``pointwise``: cross-entropy; a grade is then P(good), from 0 to 1. ``quantile``:
        each member learns one quantile.
    levels
        Of quantiles; members that stand in groups of as many have one each.
    """

    loss: Literal["regression", "pointwise", "quantile"] = "regression"
    levels: tuple[float, ...] = ()
    views: ClassVar[int] = 1
    likelihoods: ClassVar[bool] = False
    prefixes: ClassVar[bool] = False

    def items(self, data: TrainingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Count graded responses."""
        graded = data.graded_texts()
        return graded, weighing(data, graded.astype(np.float64))

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum of weighted losses: a scalar, or one per member."""
        scores, grades, mask, weight = lists_of(output, batch)
        target = torch.where(mask, grades, 0.5).expand_as(scores)
        if self.loss == "quantile":
            levels = scores.new_tensor(self.levels).repeat(len(scores) // len(self.levels)).reshape(-1, 1, 1)
            each = quantile_loss(scores, target, levels, reduction="none")
        else:
            kernel = regression_loss if self.loss == "regression" else pointwise_loss
            each = kernel(scores, target, reduction="none")
        return (each * mask * weight.unsqueeze(-1)).sum(dim=(-2, -1))


def weighing(data: TrainingRecords, items: np.ndarray) -> np.ndarray:
    """Return the weight of so many items of each record."""
    weight = data.record_weights()
    return weight * items.reshape(-1, *[1] * (weight.ndim - 1))


def lists_of(output: Output, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores ``[B, k]`` or ``[members, B, k]``, grades and mask alike, and the weights of the lists."""
    index, values = batch["lists"], output["values"]
    there = index >= 0
    scores, grades = values[index.clamp_min(0)], batch["grades"][index.clamp_min(0)]
    mask, weight = there & ~torch.isnan(grades), batch["record_weight"]
    if values.dim() == 1:
        return scores, grades, mask, weight
    scores = scores.permute(2, 0, 1)
    weight = weight.T if weight.dim() == 2 else weight.expand(len(scores), -1)
    return scores, grades.expand_as(scores), mask.expand_as(scores), weight
