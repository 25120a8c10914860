"""Settings of what is learned from feedback: targets of judgements, and the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from assay.config import Settings


class Graded(Settings):
    """Where the gap between two responses is taken from."""

    signal: Literal["auto", "grades", "confidence"] = Field(
        default="auto", description="gap of grades, or confidence of the judge; auto: grades where there are any"
    )
    dimensions: dict[str, float] = Field(
        default_factory=dict, description="weights of the dimensions of grades; none: all alike"
    )
    scale: Literal["raw", "log"] = Field(default="raw", description="log: grades are counts, so gaps are log-ratios")
    transform: Literal["identity", "log1p", "rank"] = Field(default="identity", description="of the gaps")
    clip: float | None = Field(default=None, gt=0, description="gaps beyond it count as this large; none: as they are")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would have no effect."""
        if self.signal == "confidence":
            for name in ("dimensions", "scale"):
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    yield name, "is about grades, and the gap is the judge's confidence"


class Judged(Settings):
    """Judgements as they are."""

    kind: Literal["judged"] = Field(default="judged", description="the targets that the data gives")


class MarginMatching(Graded):
    """MMPO: p = sigmoid(gamma * gap)."""

    kind: Literal["mmpo"] = Field(description="margin matching: p = sigmoid(gamma * gap)")
    gamma: float | Literal["fit", "off"] | None = Field(
        default=None,
        description="in one over the unit of the gap; fit: by likelihood, on pairs that were judged again; "
        "off: the sign of the gap; none: 1",
    )
    sweep: tuple[float | Literal["off"], ...] = Field(
        default=(), description="several values of gamma; the one with the best held-out NLL is kept"
    )
    ties: Literal["keep", "drop"] = Field(default="keep", description="judgements without a gap of their grades")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield values that cannot be."""
        yield from super().conflicts()
        for gamma in (*self.sweep, self.gamma):
            if isinstance(gamma, float) and gamma < 0:
                yield "gamma", f"must be 0 or above, is {gamma:g}: a negative gamma prefers the worse response"
        if self.sweep and self.gamma is not None:
            yield "sweep", "tries its own values of gamma; choose one"


class Smoothed(Settings):
    """Label smoothing."""

    kind: Literal["smooth"] = Field(description="label smoothing: p = 1 - epsilon")
    epsilon: float = Field(default=0.1, ge=0, le=0.5, description="share of judgements assumed to be wrong")


class AdditiveMargin(Graded):
    """Bradley-Terry with an additive margin."""

    kind: Literal["margin"] = Field(description="additive margin: m = factor * gap, in score units")
    factor: float = Field(default=1.0, ge=0, description="score units per unit of the gap")


class WeightByGap(Graded):
    """Judgements weigh as much as their gap says."""

    kind: Literal["weight"] = Field(description="weight in proportion to the size of the gap")


class Votes(Settings):
    """One target per pair from several annotators."""

    kind: Literal["votes"] = Field(description="one target per pair of responses, from all votes on it")
    method: Literal["share", "dawid_skene"] = Field(
        default="share", description="share of the votes, or posterior with a quality of each annotator"
    )


class PriorConstraint(Settings):
    """PCRM: an upper bound for the margin of similar responses, as an appended reversed judgement."""

    kind: Literal["pcrm"] = Field(description="append the reversed judgement with margin D0 = b1 / (sim + b2) + b3")
    similarity: Literal["length", "cosine"] = Field(
        default="length", description="of lengths behind what both begin with; or angular, of the backbone's states"
    )
    b1: float | None = Field(default=None, gt=0, description="numerator; none: 20 by length, 30 by cosine")
    b2: float = Field(default=0.001, gt=0, description="keeps the quotient finite")
    b3: float | None = Field(default=None, description="offset; none: -15 by length, -25 by cosine")

    def bound(self, similarity: np.ndarray | float) -> np.ndarray:
        """Return D0 of similarities from 0 to 1; the defaults are those of the released code."""
        b1, b3 = (20.0, -15.0) if self.similarity == "length" else (30.0, -25.0)
        b1, b3 = b1 if self.b1 is None else self.b1, b3 if self.b3 is None else self.b3
        return np.asarray(b1 / (np.asarray(similarity) + self.b2) + b3)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield a bound that would turn preferences round."""
        if (least := float(self.bound(1.0))) <= 0:
            yield "b3", f"makes the bound of responses that are most alike {least:.3g}; it must stay above 0"


Target = Annotated[
    Judged | MarginMatching | Smoothed | AdditiveMargin | WeightByGap | Votes | PriorConstraint,
    Field(discriminator="kind"),
]


class PairwiseLoss(Settings):
    """Bradley-Terry on judgements."""

    kind: Literal["pairwise"] = Field(default="pairwise", description="Bradley-Terry on judgements")
    clip: float | None = Field(default=None, gt=0, description="scores beyond it do not count (TSO); none: all do")
    average: Literal["end", "tokens"] = Field(
        default="end",
        description="of whole replies; or the mean after each token from where replies part, which trains prefixes",
    )


class ListLoss(Settings):
    """A loss of whole graded lists."""

    kind: Literal["listnet", "listmle"] = Field(description="graded lists: by their grades, or by their order alone")
    gamma: float | None = Field(default=None, gt=0, description="score units per unit of the grade; none: 1")
    dimensions: dict[str, float] = Field(default_factory=dict, description="weights of the dimensions of grades")
    scale: Literal["raw", "log"] = Field(default="raw", description="log: grades are counts")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would have no effect."""
        if self.kind == "listmle" and self.gamma is not None:
            yield "gamma", "has no effect on listmle, which looks at the order of the grades alone"


class RegressionLoss(Settings):
    """Squared error to standardised grades."""

    kind: Literal["regression"] = Field(description="squared error to the standardised grades")
    dimensions: dict[str, float] = Field(default_factory=dict, description="weights of the dimensions of grades")
    scale: Literal["raw", "log"] = Field(default="raw", description="log: grades are counts")


class QuantileLoss(Settings):
    """Quantiles of standardised grades."""

    kind: Literal["quantile"] = Field(description="quantiles of the standardised grades: how far a score may be off")
    levels: tuple[float, ...] = Field(
        default=(0.1, 0.3, 0.5, 0.7, 0.9), description="P that a grade lies below each quantile, rising"
    )
    dimensions: dict[str, float] = Field(default_factory=dict, description="weights of the dimensions of grades")
    scale: Literal["raw", "log"] = Field(default="raw", description="log: grades are counts")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield levels that are none."""
        inside = all(0 < level < 1 for level in self.levels)
        if len(self.levels) < 2 or not inside or list(self.levels) != sorted(set(self.levels)):
            yield "levels", "must be two or more numbers between 0 and 1, each above the one before"


class PointwiseLoss(Settings):
    """Cross-entropy of single verdicts."""

    kind: Literal["pointwise"] = Field(description="good or bad, each response by itself")
    good_from: float | None = Field(
        default=None, description="a grade from here on is good; none: grades are P(good), from 0 to 1"
    )
    dimensions: dict[str, float] = Field(default_factory=dict, description="weights of the dimensions of grades")


class Auxiliary(Settings):
    """Terms added to the pairwise loss."""

    attributes: float = Field(
        default=1.0, ge=0, description="squared error of the attributes of --head attributes to their grades"
    )
    contrast: float = Field(
        default=0.0, ge=0, description="SimCSE: two encodings of a text, under two draws of dropout, are to be alike"
    )
    contrast_temperature: float = Field(default=0.05, gt=0, description="of the cosines")
    triplet: float = Field(
        default=0.0,
        ge=0,
        description="paraphrased prompts, as pairs of assay task have them: the same answer asked otherwise is to be "
        "nearer than another one; 0.25 is usual",
    )
    length_decorrelation: float = Field(
        default=0.0, ge=0, description="squared correlation of margins with the log-ratio of lengths"
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would have no effect."""
        if self.contrast == 0 and self.contrast_temperature != type(self).model_fields["contrast_temperature"].default:
            yield "contrast_temperature", "belongs to --auxiliary.contrast"


class Meta(Settings):
    """MetaRM: the gradient of each step is taken where scores of unlabelled responses lie further apart."""

    data: str = Field(description="prompts with two responses or more, judged or not")
    rate: float = Field(default=1e-3, ge=0, description="how far the weights are moved along the gradient")
    prompts: int = Field(default=8, ge=1, description="prompts per step")


class KeptText(Settings):
    """GRM: the language-model head is kept, and goes on learning from the better replies."""

    kind: Literal["sigmoid", "sft", "dpo"] = Field(
        default="sigmoid",
        description="sigmoid: -log sigmoid(beta * log pi) of the better reply; sft: -log pi; dpo: of both",
    )
    share: float = Field(default=0.01, gt=0, lt=1, description="of the text in the loss; the judgements have the rest")
    beta: float = Field(default=0.1, gt=0, description="scale of log-probabilities")
    reference: bool = Field(default=False, description="dpo: measure them against those of the backbone as it came")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would have no effect."""
        if self.reference and self.kind != "dpo":
            yield "reference", "belongs to --grm.kind dpo"
        if self.kind == "sft" and self.beta != type(self).model_fields["beta"].default:
            yield "beta", "has no effect on --grm.kind sft"


Loss = Annotated[PairwiseLoss | ListLoss | RegressionLoss | QuantileLoss | PointwiseLoss, Field(discriminator="kind")]


class Ensemble(Settings):
    """Heads on the frozen backbone that judge how strong each preference is, none of which saw its group."""

    members: int = Field(default=10, ge=2, description="heads per fold, each on another sample of the groups")
    folds: int = Field(default=5, ge=2, description="parts of the groups, each judged by heads of the others")
    length_apart: bool = Field(
        default=False, description="let heads explain preferences by length too, and leave that out when they judge"
    )


class Unclean(Settings):
    """Judgements stay as they are."""

    kind: Literal["none"] = Field(default="none", description="nothing is cleaned")


class Flip(Ensemble):
    """The weakest preferences are turned round."""

    kind: Literal["flip"] = Field(description="turn the weakest preferences round")
    share: float = Field(default=0.1, ge=0, le=0.5, description="share of the judgements")


class Soften(Ensemble):
    """The weakest preferences become unsure."""

    kind: Literal["soft"] = Field(description="smooth the targets of the weakest preferences")
    share: float = Field(default=0.2, ge=0, le=1, description="share of the judgements")
    epsilon: float = Field(default=0.4, ge=0, le=0.5, description="share of those assumed to be wrong")


class Band(Ensemble):
    """A band of preferences is left out."""

    kind: Literal["drop"] = Field(description="leave a band of preferences out")
    low: float = Field(default=0.0, ge=0, le=1, description="where the band begins, as a share of the judgements")
    high: float = Field(default=0.1, ge=0, le=1, description="where it ends")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield a band that is none."""
        if self.low >= self.high:
            yield "high", f"must be above low, {self.low:g}"


class StrengthMargin(Ensemble):
    """The strength of each preference becomes its margin."""

    kind: Literal["margin"] = Field(description="additive margin: m = factor * strength, for all preferences")
    factor: float = Field(default=1.0, ge=0, description="factor of the strength")


Cleaning = Annotated[Unclean | Flip | Soften | Band | StrengthMargin, Field(discriminator="kind")]
