"""What may be added to the pairwise loss; each term weighs as much as the judgements of its micro-batch.

Terms that are a mean or a correlation over a micro-batch (`Contrast`, `AttributeRegression`, `LengthDecorrelation`)
depend on what is in it, and so on the token budget and the number of processes, as the losses do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from assay.objectives import TextLoss, centring_loss, contrastive_loss, gap_correlation, text_loss, triplet_loss
from assay.scorers.interface import Batch
from assay.scorers.model_shape import Output


class Term(Protocol):
    """A term of the loss, which the trainer divides by the weight of the step like the rest."""

    @property
    def views(self) -> int:
        """How often each text is to be encoded, under new draws of dropout."""
        ...

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the term: a scalar, or one per member."""
        ...


@dataclass(frozen=True)
class Centring:
    """`centring_loss`: ties scores to 0. A factor of 0.01 is usual."""

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the term; members share nothing, so each has its own."""
        a, b = (output["values"][texts] for texts in batch["edges"].unbind(dim=1))
        if a.dim() == 1:
            return self.factor * centring_loss(a, b, batch["weight"])
        weight = batch["weight"].reshape(len(a), -1).expand_as(a)
        members = zip(a.T, b.T, weight.T, strict=True)
        return self.factor * torch.stack([centring_loss(*member) for member in members])


@dataclass(frozen=True)
class Contrast:
    """SimCSE on the states of the texts (`contrastive_loss`; Secrets of RLHF II, Wang et al. 2024).

    A text's negatives are the other texts of its micro-batch.
    """

    factor: float
    temperature: float = 0.05
    views: ClassVar[int] = 2

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over texts, times the weight of the judgements."""
        return self.factor * batch["weight"].sum() * contrastive_loss(*output["views"], self.temperature)


@dataclass(frozen=True)
class Triplet:
    """`triplet_loss` over paraphrased prompts (Aissi et al. 2025): asked otherwise, the same answer stays where it is.

    States are brought to length 1 first, which the paper does not: theirs differ in length from one backbone to
    another, and the margin of 1 is meant for vectors that are at most 2 apart. ``roles`` of a batch says which texts
    are anchors (1), the same asked otherwise (2) and other examples (3); each record has one of each, in this order.

    Attributes
    ----------
    factor
        0.25 in the paper.
    margin
        In squared units of length 1.
    """

    factor: float
    margin: float = 1.0
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over triplets of the micro-batch, times the weight of the judgements."""
        weight = batch["weight"].sum(dim=0)
        if "roles" not in batch:
            return torch.zeros_like(weight)
        states = torch.nn.functional.normalize(output["states"].float(), dim=-1)
        anchor, positive, negative = (states[batch["roles"] == role] for role in (1, 2, 3))
        each = triplet_loss(anchor, positive, negative, self.margin)
        # no triplet in the micro-batch: the sum of nothing, with a gradient of 0
        return self.factor * weight * (each.sum() / max(len(each), 1))


@dataclass(frozen=True)
class AttributeRegression:
    """Mean squared error of a head's attributes to the standardised grades; what is not graded does not count."""

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the mean over grades of the micro-batch, times the weight of the judgements."""
        found, grades, weight = output["attributes"], batch["attributes"].unsqueeze(1), batch["text_weight"]
        known = ~torch.isnan(grades)
        weight = weight.reshape(len(weight), -1, 1) * known
        errors = (weight * torch.where(known, found - grades, 0.0).square()).sum(dim=(0, 2))
        total = weight.sum(dim=(0, 2))
        # no grade in the micro-batch: 0/1 gives 0 and a gradient of 0, not NaN
        mean = errors / torch.where(total > 0, total, torch.ones_like(total))
        return self.factor * batch["weight"].sum(dim=0) * (mean if batch["weight"].dim() == 2 else mean[0])


@dataclass(frozen=True)
class Penalty:
    """What the head adds for its own weights, such as prototypes that are too near each other."""

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return it times the weight of the judgements."""
        weight = batch["weight"].sum(dim=0)
        return self.factor * weight * output["penalty"] if "penalty" in output else torch.zeros_like(weight)


@dataclass(frozen=True)
class Likelihood:
    """Minus the log-likelihood of the better reply per token, so that training does not unlearn it (policies).

    Where a judgement is uncertain, either reply is the better one with its probability.
    """

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum over judgements, each with its weight."""
        each = -output["likelihoods"] / output["reply_tokens"]
        a, b = batch["edges"].unbind(dim=1)
        p = batch["target"]
        return self.factor * (batch["weight"] * (p * each[a] + (1.0 - p) * each[b])).sum()


@dataclass(frozen=True)
class Optimism:
    """SELM's term: what the policy said before is to become less probable, and so others more (Zhang et al. 2024).

    Attributes
    ----------
    factor
        Of the score of each such response, alpha of the paper; the score holds beta.
    """

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the sum of the scores of the policy's own responses, each with the weight of its prompt."""
        return self.factor * (batch["own"] * output["values"]).sum()


@dataclass(frozen=True)
class LengthDecorrelation:
    """`gap_correlation` of margins with the log-ratio of lengths, per micro-batch.

    In a micro-batch of n judgements ``1 / n`` of it is chance, whatever the scores: micro-batches should be large.
    """

    factor: float
    views: ClassVar[int] = 1

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Return the squared correlation, times the weight of the judgements."""
        weight = batch["weight"]
        return self.factor * weight.sum(dim=0) * gap_correlation(output["margins"], batch["length_gap"], weight)


@dataclass(frozen=True)
class TextRegulariser:
    """GRM: the language model keeps saying what it said, beside the reward (Yang et al. 2024, equation 2).

    The loss of the judgements and `assay.objectives.text_loss` are mixed, ``(1 - share) * BT + share * text``; a
    judgement weighs as much in one as in the other.

    Attributes
    ----------
    share
        Of the text, from 0 (not looked at) to below 1.
    kind, beta
        See `assay.objectives.text_loss`.
    """

    share: float
    kind: TextLoss = "sigmoid"
    beta: float = 0.1

    def mixed(self, judgements: Tensor, output: Output, batch: Batch) -> Tensor:
        """Return the mix of the loss of the judgements of a micro-batch, ``[]`` or ``[members]``, with that of text."""
        said = output["likelihoods"]
        if "reference" in batch:
            said = said - batch["reference"]
        a, b = batch["edges"].unbind(dim=1)
        each = text_loss(self.kind, said[a], said[b], batch["target"], beta=self.beta)
        weight = batch["weight"]
        text = (weight * (each if weight.dim() == 1 else each.unsqueeze(1))).sum(dim=0)
        return (1.0 - self.share) * judgements + self.share * text
