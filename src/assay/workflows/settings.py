"""Settings of the verbs that train and judge; one source for flags, YAML files, help and checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.feedback import ColumnMapping
from assay.workflows.feedback_settings import (
    AdditiveMargin,
    Auxiliary,
    Cleaning,
    Ensemble,
    Judged,
    Loss,
    MarginMatching,
    Meta,
    PairwiseLoss,
    Target,
    Unclean,
)
from assay.workflows.head_settings import Head, Linear

#: Those of transformers that need no further numbers.
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "constant", "constant_with_warmup"
]


class RunSettings(Settings):
    """How it runs."""

    seed: int = Field(default=0, ge=0, description="decides splits, batches and initial weights")
    overwrite: bool = Field(default=False, description="replace the output if it exists")
    dry_run: bool = Field(default=False, description="check everything and say what would be done; write nothing")


class ReadingSettings(Settings):
    """What the data looks like."""

    format: str = Field(default="auto", description="name of the layout; auto: by columns and values")
    mapping: ColumnMapping | None = Field(
        default=None, description="which cells hold what, for any other layout (docs/data.md)"
    )
    split: str | None = Field(default=None, description="split of DATA, a Hub data set or folder; others: NAME:SPLIT")
    tokenizer: str | None = Field(default=None, description="decodes data that comes as token ids")
    group: str | None = Field(default=None, description="column that must not be on both sides of a split")
    ties: Literal["keep", "drop"] = Field(default="keep", description="equal grades: keep as ties (p = 0.5), or drop")

    def reading(self) -> dict[str, Any]:
        """Return the options of `assay.feedback.read`; the split is that of DATA, other sources name their own."""
        return {
            "format": self.format,
            "mapping": self.mapping,
            "split": self.split,
            "tokenizer": self.tokenizer,
            "group": self.group,
            "ties": self.ties,
        }


class LoraSettings(Settings):
    """LoRA inside the backbone."""

    rank: int = Field(default=16, ge=1, description="rank of the added matrices")
    alpha: float = Field(default=32.0, gt=0, description="scale: the change is multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the added matrices")
    targets: tuple[str, ...] = Field(default=(), description="names of layers; none: every linear layer")


class MembersSettings(Settings):
    """Several members, whose disagreement tells how sure the model is."""

    members: int = Field(default=5, ge=1, description="how many")
    kind: Literal["heads", "lora", "models"] = Field(
        default="heads",
        description="heads: on one backbone, in one pass; lora: adapters on one base; models: whole ones",
    )
    sample: Literal["bootstrap", "all"] = Field(
        default="bootstrap", description="what each learns from: a bootstrap sample of the groups, or everything"
    )


class LaplaceSettings(Settings):
    """A Gaussian posterior of the last layer, which tells how sure the model is."""

    precision: float | None = Field(
        default=None, gt=0, description="of the prior of the weights; none: by the evidence of the judgements"
    )


class ModelSettings(Settings):
    """The reward model."""

    backbone: str = Field(default="minilm", description="Hub id, folder, or minilm (packaged, needs no network)")
    layout: Literal["assay", "native"] = Field(
        default="assay", description="native: a plain transformers sequence classifier, which can always be exported"
    )
    pooling: Literal["auto", "last", "mean", "cls", "reply"] = Field(
        default="auto", description="auto: last token of causal backbones, mean over the reply's tokens of encoders"
    )
    head: Head = Field(default=Linear(), description="from a text's vector to its score")
    template: str = Field(
        default="auto", description="chat, plain, pair, hh, or a .jinja file; auto: chat template if there is one"
    )
    end_token: str = Field(
        default="auto", description="token every text ends with; none: as the template ends; auto: decided and stored"
    )
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    truncation: Literal["left", "right"] = Field(
        default="left", description="side of the prompt that is cut; right for documents to be summarised"
    )
    attention: Literal["auto", "sdpa", "eager", "flex_attention"] = Field(
        default="auto",
        description="speed only; sdpa: without the short cut for trunks; flex_attention: packed rows, on GPUs",
    )
    dropout: Literal["hidden", "all", "none"] = Field(
        default="hidden",
        description="as the backbone was pretrained; all: in attention weights too, slow on CPUs; TRL trains with none",
    )
    freeze_backbone: bool = Field(default=False, description="train the head only, on features computed once")
    lora: LoraSettings | None = Field(default=None, description="train small added matrices in place of all weights")
    ensemble: MembersSettings | None = Field(default=None, description="several members, and how far they disagree")
    laplace: LaplaceSettings | None = Field(
        default=None, description="a posterior of the last layer: one-pass deviations"
    )


class LearningSettings(Settings):
    """What is learned from the feedback."""

    target: Target = Field(default=Judged(), description="what a judgement becomes")
    objective: Loss = Field(default=PairwiseLoss(), description="the loss")
    clean: Cleaning = Field(default=Unclean(), description="what is done to judgements that other models doubt")
    cross_prompt: float = Field(
        default=0.0, ge=0, le=1, description="share of judgements that get a loser: a good answer to another prompt"
    )
    auxiliary: Auxiliary = Field(default=Auxiliary(), description="terms added to the pairwise loss")
    meta: Meta | None = Field(default=None, description="MetaRM: scores of unlabelled responses are kept apart")


class OptimiserSettings(Settings):
    """The training."""

    epochs: int | None = Field(default=None, ge=1, description="passes over the data; none: 3, frozen backbone 30")
    learning_rate: float | None = Field(
        default=None, gt=0, description="none: 1e-4 below 100M parameters, else 1e-5; LoRA 2e-4"
    )
    head_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="of the head; none: linear 1e-3 (normalised 3e-4), kernel 1e-2, mlp and prototypes 3e-4",
    )
    pairs_per_step: int = Field(default=16, ge=1, description="judgements per optimiser step, over all processes")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass; memory, not results")
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="share of steps in which the rate rises")
    scheduler: Schedule = Field(default="linear", description="learning-rate schedule after the warm-up")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW weight decay, of matrices only")
    max_gradient_norm: float = Field(default=1.0, ge=0, description="gradients are clipped to it; 0: never")
    centring: float = Field(default=0.0, ge=0, description="pull scores to zero: factor of (s_a + s_b)^2")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 compute where the hardware multiplies in it; weights stay fp32"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for about a third more work")
    compile: bool = Field(
        default=False, description="compile the backbone's layers, which takes a while; try whether it pays"
    )
    validation_share: float = Field(
        default=0.1, ge=0, lt=0.5, description="of the training groups, held out for early stopping and calibration"
    )
    evaluations_per_epoch: int = Field(default=2, ge=1, description="how often the validation share is scored")
    patience: int = Field(default=3, ge=0, description="evaluations without a better validation loss; 0: never stop")
    logging_steps: int = Field(default=10, ge=1, description="steps between two lines of the log")
    report_to: tuple[str, ...] = Field(default=(), description="loggers that transformers knows, such as tensorboard")


def not_among(name: str, known: Sequence[str]) -> str | None:
    """Say that a name is not known, with the nearest one; None where it is."""
    if name in known:
        return None
    near = get_close_matches(name, known, n=1)
    return f"{name!r} is not one of {', '.join(sorted(known))}" + (f"; did you mean {near[0]!r}?" if near else "")


_OF_OUR_HEAD = ("head", "pooling", "head_learning_rate")
# Heads are trained on everything; those of the folds calibrate, so there is no validation share.
_OF_THE_VALIDATION_SHARE = ("evaluations_per_epoch", "patience")
_OF_THE_BACKBONE = (
    *("dropout", "learning_rate", "max_gradient_norm", "gradient_checkpointing", "compile", "validation_share"),
    *_OF_THE_VALIDATION_SHARE,
)


class TrainSettings(RunSettings, ReadingSettings, ModelSettings, LearningSettings, OptimiserSettings):
    """What is trained on what."""

    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    out: str = Field(description="run folder to make")
    test: str | None = Field(default=None, description="judgements to test on; none: a share of the data")
    test_share: float = Field(default=0.2, ge=0, lt=1, description="share of the groups held out as test; 0: no test")
    test_groups_seed: int | None = Field(default=None, ge=0, description="seed of the split; none: --seed")
    calibration: Literal["temperature", "isotonic"] = Field(
        default="temperature", description="of margins; isotonic: steps, for hundreds of judgements and more"
    )
    calibration_folds: int = Field(default=5, ge=2, description="cross-fitting folds where the backbone is frozen")
    baseline_blind: bool = Field(default=False, description="also train the same model without seeing the prompt")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    resume: bool = Field(default=False, description="continue an interrupted run, or begin if there is none")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or that would be accepted and then ignored."""
        if self.resume and self.overwrite:
            yield "resume", "continues what --overwrite would delete; choose one"
        if self.freeze_backbone and self.lora is not None:
            yield "lora", "trains inside the backbone, which --freeze-backbone keeps as it is; choose one"
        if self.compile and self.gradient_checkpointing:
            yield "compile", "would have no effect on layers that --gradient-checkpointing recomputes; choose one"
        yield from self._of_the_loss()
        yield from self._of_uncertainty()
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
        if self.test is not None:
            yield from self._without_effect(("test_share",), "nothing is split off beside --test")
        elif self.test_share == 0:
            none = "belongs to a test, and --test-share 0 holds nothing out"
            yield from self._without_effect(("baseline_blind", "resamples"), none)
        yield from self._unknown_names()

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
        if self.dropout == "none" and self.auxiliary.contrast:
            yield "auxiliary.contrast", "needs dropout, which makes the two encodings of a text differ"
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

    def _unknown_names(self) -> Iterator[tuple[str, str]]:
        """Yield loggers that are not there; transformers would notice only when training begins."""
        if self.report_to:
            from transformers.integrations import get_available_reporting_integrations

            ready = [*get_available_reporting_integrations(), "none", "all"]
            for name in self.report_to:
                if problem := not_among(name, ready):
                    yield "report_to", f"{problem}; others need their package (pip install {name})"

    def _without_effect(self, names: tuple[str, ...], reason: str) -> Iterator[tuple[str, str]]:
        yield from ((name, reason) for name in names if self._changed(name))

    def _changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)


class EvolveSettings(TrainSettings):
    """What labels itself, and when that ends."""

    unlabelled: str | None = Field(default=None, description="unjudged pairs: a file, a folder, or a Hub id")
    judged_share: float = Field(
        default=1.0, gt=0, le=1, description="of the training groups, whose judgements are known; the rest is unjudged"
    )
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


class StrengthSettings(Ensemble, RunSettings, ReadingSettings):
    """What is doubted, and by whom."""

    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    backbone: str = Field(default="minilm", description="Hub id, folder, or minilm (packaged, needs no network)")
    template: str = Field(default="auto", description="as in training")
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    truncation: Literal["left", "right"] = Field(default="left", description="side of the prompt that is cut")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass")
    epochs: int = Field(default=30, ge=1, description="passes of the heads over the data")
    suspicious: int = Field(default=10, ge=0, description="how many of the weakest judgements are shown")
    out: str | None = Field(default=None, description="folder for metrics.json and all judgements, weakest first")


class CheckSettings(RunSettings, ReadingSettings):
    """What is checked."""

    data: Annotated[str, Positional] = Field(description="feedback: a file, a folder, or a Hub id")
    test: str | None = Field(default=None, description="second data set that must share no group with the first")
    backbone: str = Field(default="minilm", description="whose tokens count for truncation; none: no token counts")
    template: str = Field(default="auto", description="as in training, for the token counts")
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    out: str | None = Field(default=None, description="JSON file to write the report to")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.backbone == "none" and (self.max_length_tokens is not None or self.template != "auto"):
            yield "backbone", "none counts no tokens, so --max-length-tokens and --template have no effect"


class JudgeSettings(RunSettings, ReadingSettings):
    """What is judged on what."""

    model: Annotated[str, Positional] = Field(
        description="run or model folder, Hub id, or any sequence classifier with one label"
    )
    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    template: str = Field(default="auto", description="for plain classifiers: as in training")
    end_token: str = Field(default="auto", description="for plain classifiers: as in training")
    max_length_tokens: int | None = Field(default=None, ge=8, description="for plain classifiers: as in training")
    truncation: Literal["left", "right"] | None = Field(
        default=None, description="for plain classifiers: as in training; none: left"
    )
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass")

    def encoder_options(self) -> dict[str, Any]:
        """Return what a plain classifier cannot tell about its training."""
        names = ("template", "end_token", "max_length_tokens", "truncation")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value not in ("auto", None)}


class EvaluateSettings(JudgeSettings):
    """Against what, and where the result goes."""

    against: str | None = Field(default=None, description="second model, compared on the same judgements")
    train: str | None = Field(
        default=None, description="training data of the model, to fit the baselines on; none: those stored in its run"
    )
    unlabelled: str | None = Field(
        default=None, description="unjudged pairs of the same kind, for prediction-powered intervals"
    )
    include_seen: bool = Field(default=False, description="also judge on groups that trained the model")
    graded: bool = Field(
        default=False,
        description="judge by grades of single responses, or good/bad labels; needs no pairs",
    )
    good_from: float | None = Field(default=None, description="with --graded: a grade from here on is good")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    out: str | None = Field(default=None, description="folder for metrics.json and report.html")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.graded:
            for name in ("against", "train", "unlabelled"):
                if getattr(self, name) is not None:
                    yield name, "is compared on pairs, and --graded judges single responses; leave one out"
        elif self.good_from is not None:
            yield "good_from", "belongs to --graded"


class CalibrateSettings(JudgeSettings):
    """Where the calibrated model goes."""

    out: str = Field(description="model folder to make")
    calibration: Literal["temperature", "isotonic"] = Field(
        default="temperature", description="of margins; isotonic: steps, for hundreds of judgements and more"
    )
    check_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of the groups kept aside to check that calibration helps"
    )
    include_seen: bool = Field(default=False, description="also use groups that trained the model")


class ScoreSettings(JudgeSettings):
    """What is written where."""

    out: str | None = Field(default=None, description="JSON Lines file; none: standard output")
    tokens: bool = Field(default=False, description="also the score after each token (causal models)")
    explain: bool = Field(default=False, description="also the prototypes that weigh most in each score")
    reduce: Literal["mean", "lcb", "min"] = Field(
        default="mean", description="of uncertain scores; lcb: mean minus b deviations; min: of the members"
    )
    b: float = Field(default=1.0, ge=0, description="deviations that lcb takes off")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.reduce != "lcb" and self.b != type(self).model_fields["b"].default:
            yield "b", "belongs to --reduce lcb"


class SelectSettings(JudgeSettings):
    """How many pairs, and by what."""

    out: str = Field(description="folder to make: pairs.jsonl for annotators, and why each was chosen")
    count: int = Field(default=100, ge=1, description="pairs to judge")
    method: Literal["auto", "bald", "disagreement", "margin", "novelty", "random"] = Field(
        default="auto",
        description="bald: what a judgement would tell of the model; disagreement: deviation of the margin; margin: P "
        "nearest to one half; novelty: far from all prototypes; auto: bald, or margin where nothing tells how sure",
    )
    diverse: bool = Field(default=True, description="of up to five times as many, those that are least alike")
    per_prompt: int = Field(default=1, ge=1, description="pairs of one prompt, at most")
    exclude: str | None = Field(default=None, description="judgements whose prompts are left out")
    include_seen: bool = Field(default=False, description="also choose among prompts that trained the model")


class ExportSettings(RunSettings):
    """What is exported."""

    model: Annotated[str, Positional] = Field(description="run or model folder")
    out: str = Field(description="folder to make: a plain sequence classifier with equal scores")
