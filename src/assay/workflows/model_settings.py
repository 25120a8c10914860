"""Settings of what is trained: the model, what it learns from the feedback, and the training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assay.config import Settings
from assay.workflows.feedback_settings import (
    Auxiliary,
    Cleaning,
    Judged,
    KeptText,
    Loss,
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


class TextSettings(Settings):
    """The pretrained part, and how it reads conversations."""

    backbone: str = Field(default="minilm", description="Hub id, folder, or minilm (packaged, needs no network)")
    template: str = Field(
        default="auto",
        description="chat, plain, pair, hh, or a .jinja file; auto: as the backbone was taught, if assay trained "
        "it, else its chat template, if there is one",
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
    lora: LoraSettings | None = Field(default=None, description="train small added matrices in place of all weights")


class ModelSettings(TextSettings):
    """The reward model."""

    layout: Literal["assay", "native"] = Field(
        default="assay", description="native: a plain transformers sequence classifier, which can always be exported"
    )
    pooling: Literal["auto", "last", "mean", "cls", "reply"] = Field(
        default="auto", description="auto: last token of causal backbones, mean over the reply's tokens of encoders"
    )
    head: Head = Field(default=Linear(), description="from a text's vector to its score")
    head_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="of the head; none: linear 1e-3 (normalised 3e-4), kernel 1e-2, preference 1e-4, others 3e-4",
    )
    freeze_backbone: bool = Field(default=False, description="train the head only, on features computed once")
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
    centring: float = Field(default=0.0, ge=0, description="pull scores to zero: factor of (s_a + s_b)^2")
    auxiliary: Auxiliary = Field(default=Auxiliary(), description="terms added to the pairwise loss")
    grm: KeptText | None = Field(
        default=None, description="GRM: keep the language-model head, which goes on learning from text"
    )
    meta: Meta | None = Field(default=None, description="MetaRM: scores of unlabelled responses are kept apart")


class OptimiserSettings(Settings):
    """The training."""

    epochs: int | None = Field(default=None, ge=1, description="passes over the data; none: 3, frozen backbone 30")
    learning_rate: float | None = Field(
        default=None, gt=0, description="none: 1e-4 below 100M parameters, else 1e-5; LoRA 2e-4"
    )
    pairs_per_step: int = Field(default=16, ge=1, description="judgements per optimiser step, over all processes")
    token_budget: int = Field(
        default=8192,
        ge=16,
        description="padded tokens per forward pass; memory, not results (but of kto)",
    )
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="share of steps in which the rate rises")
    scheduler: Schedule = Field(default="linear", description="learning-rate schedule after the warm-up")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW weight decay, of matrices only")
    max_gradient_norm: float = Field(default=1.0, ge=0, description="gradients are clipped to it; 0: never")
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
