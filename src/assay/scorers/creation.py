"""Make a new reward model around a pretrained backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from assay.errors import ModelError
from assay.scorers import backbones
from assay.scorers.adapters import LoraOptions, add_lora
from assay.scorers.conversation import ConversationEncoder, ConversationSettings
from assay.scorers.head_kinds import HeadKind
from assay.scorers.model_shape import RewardModelConfig
from assay.scorers.pooling import Pooling, pooled_width
from assay.scorers.provenance import Provenance, base_fingerprint, kept_conversation
from assay.scorers.reward_model import RewardModel
from assay.scorers.templates import resolve_template
from assay.scorers.traits import traits_of
from assay.scorers.vocabulary import vocabulary_head


@dataclass(frozen=True)
class ModelOptions:
    """What a new reward model is made of. ``"auto"`` and None are decided from the backbone and then stored.

    Attributes
    ----------
    backbone
        Hub id, folder, or ``minilm``.
    layout
        ``"assay"`` or ``"native"`` (a transformers sequence classifier, which every encoder can be exported from).
    pooling
        ``"auto"``: last token for causal backbones; for encoders the mean over the reply where a separator stands
        before it (template ``pair``), else over all tokens. See `assay.scorers.pooling`.
    head, head_options, members
        See `assay.scorers.heads`.
    levels
        See `assay.scorers.RewardModelConfig`.
    template, end_token, max_length_tokens, truncation
        See `ConversationSettings`; ``end_token`` ``"auto"``: with the chat template as it renders, else the
        tokenizer's.
    lora
        LoRA options, or None to train all weights.
    freeze_backbone
        Train the head only.
    vocabulary
        Keep the language model's vocabulary head beside the backbone, for what also learns from text.
    dropout
        What is dropped in training, at the rates that the backbone was pretrained with. ``"hidden"``: states, but no
        attention weights, which no fused kernel drops on CPUs or in packed rows. ``"all"``: these too. ``"none"``:
        nothing, as in the trainers of TRL.
    attention
        ``"auto"``: what transformers chooses, in place of SDPA `assay.scorers.attention`; or ``"sdpa"``, ``"eager"``,
        ``"flex_attention"`` (on GPUs: rows are packed, and nothing is padded). A matter of speed that is not stored.
    seed
        Seeds the head.
    """

    backbone: str = backbones.MINILM
    layout: Literal["assay", "native"] = "assay"
    pooling: Pooling | Literal["auto"] = "auto"
    head: HeadKind = "linear"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1
    levels: tuple[float, ...] = ()
    template: str = "auto"
    end_token: str = "auto"
    max_length_tokens: int | None = None
    truncation: Literal["left", "right"] = "left"
    lora: LoraOptions | None = None
    freeze_backbone: bool = False
    vocabulary: bool = False
    dropout: Literal["hidden", "all", "none"] = "hidden"
    attention: str = "auto"
    seed: int = 0


def create_reward_model(options: ModelOptions) -> RewardModel:
    """Build a reward model around a pretrained backbone; its scores are all 0 until it is trained.

    Raises
    ------
    ModelError
        If the backbone cannot be loaded, or an option does not fit it.
    """
    _check(options)
    tokenizer = backbones.load_tokenizer(options.backbone)
    native = options.layout == "native"
    new: list[str] = []
    if native:
        backbone, new = backbones.start_classifier(options.backbone, seed=options.seed)
    else:
        backbone = backbones.load_backbone(options.backbone)
    if options.dropout != "all":
        backbones.switch_off_dropout(backbone, of_attention_only=options.dropout == "hidden")
    bare: Any = backbone.base_model if native else backbone
    traits = traits_of(bare)
    causal = traits.causal
    if options.vocabulary and not causal:
        raise ModelError(
            "an encoder knows no log-probabilities of replies",
            where=options.backbone,
            expected="a causal language model, to learn from text too (--grm)",
            got=str(bare.config.model_type),
        )
    if causal and options.pooling == "cls":
        raise ModelError("the first token of a causal backbone has seen nothing", remedy="--pooling last, or mean")
    encoder = make_encoder(tokenizer, bare.config, options, causal=causal)
    shape: dict[str, Any] = {"width": traits.width}
    if native:
        backbones.share_pad(backbone, encoder.pad_id)
    else:
        separator = tokenizer.sep_token_id if encoder.settings.template == "pair" else None
        pooling = _pooling(options.pooling, causal=causal, separator=separator)
        shape = {"pooling": pooling, "width": pooled_width(traits.width, pooling)}
        shape["separator_id"] = separator if pooling == "reply" else None
    config = RewardModelConfig(
        # an adapter needs its base again, from whatever working directory
        base_model=backbones.lasting_name(options.backbone) if options.lora else options.backbone,
        layout=options.layout,
        causal=causal,
        head=options.head,
        head_options=dict(options.head_options),
        head_seed=options.seed,
        members=options.members,
        levels=list(options.levels),
        adapter=options.lora is not None,
        **shape,
    )
    record = Provenance(encoder.settings)
    vocabulary = vocabulary_head(options.backbone, backbone) if options.vocabulary else None
    if options.attention != "auto":
        # what was tried above runs on CPUs, where not every implementation does
        backbones.choose_attention(backbone, options.attention)
    if options.lora is not None:
        record.fingerprint["base"] = base_fingerprint(bare.state_dict())
        backbone = add_lora(
            backbone, options.lora, options.seed, kind="classifier" if native else "transformer", whole=new
        )
        if not native:
            backbones.freeze_unread(backbone)
    model = RewardModel(config, backbone, encoder, record)
    model.vocabulary = vocabulary
    if options.freeze_backbone:
        model.backbone.requires_grad_(False)
    return model


def _check(options: ModelOptions) -> None:
    """Refuse options that exclude each other, before anything is loaded."""
    native = options.layout == "native"
    if native and (options.members > 1 or options.head != "linear"):
        raise ModelError("the native layout has one linear head", remedy="--layout assay")
    if native and options.pooling != "auto":
        raise ModelError("the native layout pools as its transformers class does", remedy="--layout assay")
    if native and options.vocabulary:
        raise ModelError("the native layout has no vocabulary head", remedy="--layout assay")
    if native and options.freeze_backbone:
        raise ModelError("the native layout cannot freeze its backbone alone", remedy="--layout assay")
    if options.lora is not None and options.freeze_backbone:
        raise ModelError("LoRA trains inside the backbone, and the backbone is to be frozen", remedy="choose one")


def _pooling(wanted: Pooling | Literal["auto"], *, causal: bool, separator: int | None) -> Pooling:
    """Decide the pooling rule."""
    if wanted == "reply" and separator is None:
        raise ModelError(
            "nothing tells where the reply begins",
            expected="a separator token before it, which --template pair writes where the tokenizer has one",
            remedy="--template pair, or --pooling mean",
        )
    if wanted != "auto":
        return wanted
    return "last" if causal else "mean" if separator is None else "reply"


class ConversationOptions(Protocol):
    """What an option of a model says of conversations."""

    @property
    def backbone(self) -> str:
        """Hub id or folder."""

    @property
    def template(self) -> str:
        """Name of a template, or ``"auto"``."""

    @property
    def end_token(self) -> str:
        """A token, ``"auto"`` or ``"none"``."""

    @property
    def max_length_tokens(self) -> int | None:
        """Longest text; None: what the backbone was made for."""

    @property
    def truncation(self) -> Literal["left", "right"]:
        """Side of the prompt that is cut."""


def make_encoder(
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    options: ConversationOptions,
    *,
    causal: bool,
    ends_cut: bool = True,
) -> ConversationEncoder:
    """Decide template, end token and maximum length for a backbone; ``ends_cut``: see `ConversationSettings`.

    What says ``"auto"`` is as in the policy or reward model of ours that the backbone is, if it is one: it was taught
    to read and write so.
    """
    kept = kept_conversation(options.backbone) if options.template == "auto" else None
    if kept is not None:
        template, source = kept.template, kept.template_source
    else:
        template, source = resolve_template(tokenizer, options.template, causal=causal)
    longest = backbones.default_max_length(config, tokenizer)
    wanted = longest if options.max_length_tokens is None else options.max_length_tokens
    backbones.refuse_beyond_window(config, wanted, remedy=f"--max-length-tokens {longest}")
    end: str | None = options.end_token
    if end == "auto" and kept is not None:
        end = kept.end_token
    elif end == "auto":
        end = None if template == "chat" else (tokenizer.eos_token if causal else tokenizer.sep_token)
    elif end == "none":
        end = None
    settings = ConversationSettings(template, wanted, end, options.truncation, source, ends_cut)
    return ConversationEncoder(tokenizer, settings)
