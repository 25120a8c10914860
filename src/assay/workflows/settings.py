"""Settings of the verbs that train; one source for flags, YAML files, help and checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.feedback.self_labels import SelfLabelling
from assay.workflows.feedback_settings import AdditiveMargin, MarginMatching
from assay.workflows.model_settings import LearningSettings, ModelSettings, OptimiserSettings
from assay.workflows.run_settings import ReadingSettings, RunSettings, not_among

_OF_OUR_HEAD = ("head", "pooling", "head_learning_rate")
# Heads are trained on everything; those of the folds calibrate, so there is no validation share.
_OF_THE_VALIDATION_SHARE = ("evaluations_per_epoch", "patience")
_OF_A_TEST = ("baseline_blind", "resamples")
_OF_THE_BACKBONE = (
    *("dropout", "learning_rate", "max_gradient_norm", "gradient_checkpointing", "compile", "validation_share"),
    *_OF_THE_VALIDATION_SHARE,
)


class JobSettings(RunSettings, ReadingSettings):
    """What a run learns from, what it is tested on, and where it goes."""

    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    out: str = Field(description="run folder to make")
    test: str | None = Field(default=None, description="judgements to test on; none: a share of the data")
    test_share: float = Field(default=0.2, ge=0, lt=1, description="share of the groups held out as test; 0: no test")
    test_groups_seed: int | None = Field(default=None, ge=0, description="seed of the split; none: --seed")
    calibration: Literal["temperature", "isotonic"] = Field(
        default="temperature", description="of margins; isotonic: steps, for hundreds of judgements and more"
    )
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    resume: bool = Field(default=False, description="continue an interrupted run, or begin if there is none")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        if self.resume and self.overwrite:
            yield "resume", "continues what --overwrite would delete; choose one"
        if self.test is not None:
            yield from self._without_effect(("test_share",), "nothing is split off beside --test")
        elif self.test_share == 0:
            yield from self._without_effect(_OF_A_TEST, "belongs to a test, and --test-share 0 holds nothing out")

    def _without_effect(self, names: tuple[str, ...], reason: str) -> Iterator[tuple[str, str]]:
        yield from ((name, reason) for name in names if self._changed(name))

    def _changed(self, name: str) -> bool:
        fields = type(self).model_fields
        return name in fields and bool(getattr(self, name) != fields[name].default)


class TrainSettings(JobSettings, ModelSettings, LearningSettings, OptimiserSettings):
    """What is trained on what."""

    calibration_folds: int = Field(default=5, ge=2, description="cross-fitting folds where the backbone is frozen")
    baseline_blind: bool = Field(default=False, description="also train the same model without seeing the prompt")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        yield from super().conflicts()
        if self.freeze_backbone and self.lora is not None:
            yield "lora", "trains inside the backbone, which --freeze-backbone keeps as it is; choose one"
        if self.compile and self.gradient_checkpointing:
            yield "compile", "would have no effect on layers that --gradient-checkpointing recomputes; choose one"
        yield from self._of_the_loss()
        yield from self._of_uncertainty()
        if self.objective.kind == "pairwise" and self.objective.average == "tokens":
            yield from self._of_prefixes()
        if self.freeze_backbone and self.layout == "native":
            yield "layout", "native cannot be trained with a frozen backbone; use assay"
        if self.head.kind != "attributes":
            if self.auxiliary.attributes != type(self.auxiliary).model_fields["attributes"].default:
                yield "auxiliary.attributes", "belongs to --head attributes"
        elif self.objective.kind != "pairwise":
            yield "head", "attributes learns grades beside judgements; use --objective.kind pairwise"
        if self.head.kind == "preference":
            yield from self._of_native_margins()
        if self.head.kind in ("prototypes", "kernel") and self.objective.kind != "pairwise":
            yield "head", f"{self.head.kind} is built from what was chosen and rejected; use --objective.kind pairwise"
        if self.layout == "native":
            yield from self._without_effect(_OF_OUR_HEAD, "belongs to --layout assay; the native layout has its own")
        if self.freeze_backbone:
            yield from self._without_effect(
                _OF_THE_BACKBONE, "has no effect on a frozen backbone; only the head trains"
            )
        else:
            yield from self._without_effect(("calibration_folds",), "belongs to --freeze-backbone")
            if self.validation_share == 0:
                yield from self._without_effect(_OF_THE_VALIDATION_SHARE, "needs a validation share")
        yield from unknown_loggers(self)

    def _of_prefixes(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go with a loss of prefixes."""
        reasons = {
            "freeze_backbone": (self.freeze_backbone, "computes the states of whole texts once"),
            "objective.clip": (self.objective.kind == "pairwise" and self.objective.clip, "is about whole scores"),
            "grm": (self.grm is not None, "looks at replies in another way"),
            "auxiliary.contrast": (self.auxiliary.contrast, "encodes texts twice"),
            "head": (self.head.kind in ("preference", "attributes"), "of this kind has no scores of prefixes"),
            "layout": (self.layout == "native", "native gives the score of the last token only"),
        }
        for name, (there, reason) in reasons.items():
            if there:
                yield name, f"{reason}; leave out --objective.average tokens"

    def _of_native_margins(self) -> Iterator[tuple[str, str]]:
        """Yield what is about scores, where there are margins only."""
        if self.objective.kind != "pairwise":
            yield "head", "preference has margins and no scores; use --objective.kind pairwise"
        elif self.objective.clip is not None:
            yield "objective.clip", "is about scores, and --head preference has margins only"
        if self.centring:
            yield "centring", "is about scores, and --head preference has margins only"
        if self.ensemble is not None:
            yield "ensemble", "compares scores of members, and --head preference has margins only"

    def _of_uncertainty(self) -> Iterator[tuple[str, str]]:
        """Yield members that could not differ, and posteriors of what is not the last layer."""
        if self.laplace is not None:
            if self.ensemble is not None:
                yield "laplace", "tells how sure one head is, and an ensemble tells it by its members; choose one"
            if (
                self.head.kind in ("attributes", "preference")
                or getattr(self.head, "class_weight", False)
                or self.layout == "native"
            ):
                yield "laplace", "needs a score that is linear in its last layer: linear, mlp, prototypes, kernel"
            if self.objective.kind != "pairwise":
                yield "laplace", "is a posterior given judgements; use --objective.kind pairwise"
        several = self.ensemble
        if self.objective.kind == "quantile":
            if self.head.kind not in ("linear", "mlp"):
                yield "head", f"{self.head.kind} has no quantiles; use linear or mlp"
            if several is not None:
                yield "ensemble", "its members would be quantiles already; choose one"
            if self.layout == "native":
                yield "layout", "native has one score; use assay"
        if several is None:
            return
        if several.kind == "heads" and several.sample == "all" and self.head.kind not in ("mlp", "prototypes"):
            yield "ensemble.sample", f"all gives {self.head.kind} heads that are the same; use bootstrap, or --head mlp"
        if several.kind != "heads" and self.freeze_backbone:
            yield (
                "ensemble.kind",
                f"{several.kind} trains inside the backbone, which --freeze-backbone keeps; use heads",
            )
        if several.kind == "lora" and self.lora is None:
            yield "ensemble.kind", "lora needs to know the size of the adapters: --lora.rank 16"
        if several.kind == "models" and self.lora is not None:
            yield "ensemble.kind", "models trains whole models, and --lora adapters; use lora"
        if several.kind == "heads" and self.layout == "native":
            yield "layout", "native has one head; use assay, or --ensemble.kind models"

    def _of_the_loss(self) -> Iterator[tuple[str, str]]:
        """Yield what the loss would not look at, and what two settings would both decide."""
        if self.objective.kind != "pairwise":
            reason = f"is about judgements, and --objective.kind {self.objective.kind} learns from grades"
            yield from self._without_effect(("target", "clean", "cross_prompt", "centring", "auxiliary"), reason)
        if self.freeze_backbone and self.auxiliary.contrast:
            yield "auxiliary.contrast", "has no effect on a frozen backbone, whose states stay as they are"
        if self.auxiliary.triplet:
            if self.freeze_backbone:
                yield "auxiliary.triplet", "has no effect on a frozen backbone, whose states stay as they are"
            if self.layout == "native":
                yield "auxiliary.triplet", "compares vectors of texts, which --layout native does not give; use assay"
            if self.head.kind in ("attributes", "preference", "prototypes"):
                yield "auxiliary.triplet", f"adds texts that --head {self.head.kind} would learn from; leave one out"
        if self.dropout == "none" and self.auxiliary.contrast:
            yield "auxiliary.contrast", "needs dropout, which makes the two encodings of a text differ"
        if self.grm is not None:
            if self.freeze_backbone:
                yield "grm", "keeps the backbone's states good for text, and --freeze-backbone changes none of them"
            if self.target.kind == "pcrm":
                yield "grm", "would learn the worse replies too, which --target pcrm appends as reversed judgements"
            if self.layout == "native":
                yield "grm", "needs the vocabulary head, which --layout native has not; use assay"
            if self.objective.kind != "pairwise":
                yield "grm", "learns from the better of two replies; use --objective.kind pairwise"
        if self.freeze_backbone and self.meta is not None:
            yield "meta", "moves all weights, and --freeze-backbone trains the head only"
        if self.clean.kind != "none" and self.layout == "native":
            yield "clean", "trains heads of its own, which --layout native has not; use assay"
        if self.layout == "native":
            if self.auxiliary.contrast:
                yield (
                    "auxiliary.contrast",
                    "compares vectors of texts, which --layout native does not give; use assay",
                )
            if self.target.kind == "pcrm" and self.target.similarity == "cosine":
                yield "target.similarity", "needs the vectors of texts, which --layout native does not give; use length"
        by_grades = isinstance(self.target, MarginMatching | AdditiveMargin) and self.target.signal != "confidence"
        if self.clean.kind in ("flip", "soft") and by_grades:
            yield (
                "clean.kind",
                "changes verdicts, and these targets come from grades; use drop, or --target.signal confidence",
            )
        if self.clean.kind == "margin" and self.target.kind in ("margin", "mmpo", "votes"):
            yield "clean.kind", f"sets the margin that --target.kind {self.target.kind} sets too; choose one"
        if not self.freeze_backbone and self.validation_share == 0:
            if isinstance(self.target, MarginMatching) and self.target.sweep:
                yield "target.sweep", "chooses gamma on the validation share; raise --validation-share"
            yield from self._without_effect(("calibration",), "needs a validation share")


def unknown_loggers(settings: Any) -> Iterator[tuple[str, str]]:
    """Yield loggers that are not there; transformers would notice only when training begins."""
    if settings.report_to:
        from transformers.integrations import get_available_reporting_integrations

        ready = [*get_available_reporting_integrations(), "none", "all"]
        for name in settings.report_to:
            if problem := not_among(name, ready):
                yield "report_to", f"{problem}; others need their package (pip install {name})"


class RoundsSettings(Settings):
    """Rounds of self-labels, and when they end."""

    check_share: float = Field(
        default=0.2, gt=0, lt=1, description="of the training groups, from which no round learns: it says when to end"
    )
    rounds: int = Field(default=3, ge=1, description="rounds of self-labels, at most")
    rule: Literal["auto", "one", "two"] = Field(
        default="auto",
        description="one: a good and a bad response; two: responses far apart; auto: one, and two once enough is sure",
    )
    high: float = Field(default=0.55, ge=0.5, lt=1, description="rule one: P that a good response is above")
    low: float = Field(default=0.45, gt=0, le=0.5, description="rule one: P that a bad response is below")
    gap: float = Field(default=0.3, ge=0, lt=1, description="rule two: difference of P")
    coverage: float = Field(default=0.5, ge=0, le=1, description="auto: rule two from this share of judged pairs on")
    soft: bool = Field(default=False, description="self-labels are calibrated probabilities; else verdicts")

    def labelling(self) -> SelfLabelling:
        """Return the rules."""
        return SelfLabelling(self.rule, self.high, self.low, self.gap, self.coverage)


class EvolveSettings(RoundsSettings, TrainSettings):
    """What labels itself, and when that ends."""

    unlabelled: str | None = Field(default=None, description="unjudged pairs: a file, a folder, or a Hub id")
    judged_share: float = Field(
        default=1.0, gt=0, le=1, description="of the training groups, whose judgements are known; the rest is unjudged"
    )
    back_to: int | None = Field(default=None, ge=0, description="of a finished run: make this round its result")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what rounds cannot do."""
        yield from super().conflicts()
        if self.unlabelled is None and self.judged_share == 1:
            yield "unlabelled", "names pairs to label; or hide judgements of DATA: --judged-share 0.1"
        if self.objective.kind != "pairwise":
            yield "objective.kind", "rounds label pairs; use pairwise"
        if self.head.kind == "preference":
            yield "head", "preference has margins and no scores, and the rules look at scores"
        if self.baseline_blind:
            yield "baseline_blind", "is a comparison of assay train"
