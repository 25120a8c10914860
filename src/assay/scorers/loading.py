"""Make a new reward model around a backbone, or load a stored one and check that it is still itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from assay.errors import ModelError
from assay.scorers import backbones, provenance
from assay.scorers.conversation import ConversationEncoder, ConversationSettings
from assay.scorers.heads import HeadKind
from assay.scorers.provenance import Provenance
from assay.scorers.reward_model import TOKENIZER, RewardModel, RewardModelConfig
from assay.scorers.templates import resolve_template


@dataclass(frozen=True)
class LoraOptions:
    """LoRA inside the backbone (Hu et al. 2021); ``targets`` None: every linear layer."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None


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
        ``"auto"``: last token for causal backbones, mean for encoders.
    head, head_hidden, members
        See `assay.scorers.heads`.
    template, end_token, max_length_tokens, truncation
        See `ConversationSettings`; ``end_token`` ``"auto"``: with the chat template as it renders, else the
        tokenizer's.
    lora
        LoRA options, or None to train all weights.
    freeze_backbone
        Train the head only.
    seed
        Seeds the head.
    """

    backbone: str = backbones.MINILM
    layout: Literal["assay", "native"] = "assay"
    pooling: Literal["auto", "last", "mean", "cls"] = "auto"
    head: HeadKind = "linear"
    head_hidden: int = 256
    members: int = 1
    template: str = "auto"
    end_token: str = "auto"
    max_length_tokens: int | None = None
    truncation: Literal["left", "right"] = "left"
    lora: LoraOptions | None = None
    freeze_backbone: bool = False
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def create_reward_model(options: ModelOptions) -> RewardModel:
    """Build a reward model around a pretrained backbone; its scores are all 0 until it is trained.

    Raises
    ------
    ModelError
        If the backbone cannot be loaded, or an option does not fit it.
    """
    tokenizer = backbones.load_tokenizer(options.backbone)
    native = options.layout == "native"
    backbone: Any = (backbones.load_classifier if native else backbones.load_backbone)(options.backbone)
    bare = backbone.base_model if native else backbone
    causal = backbones.is_causal(bare)
    encoder = make_encoder(tokenizer, bare.config, options, causal=causal)
    if native:
        # the native class reads the score at the last token that is not the pad token
        backbone.config.get_text_config().pad_token_id = encoder.pad_id
        backbone.config.pad_token_id = encoder.pad_id
    config = RewardModelConfig(
        base_model=options.backbone,
        layout=options.layout,
        pooling=("last" if causal else "mean") if options.pooling == "auto" else options.pooling,
        causal=causal,
        width=int(bare.config.get_text_config().hidden_size),
        head=options.head,
        head_hidden=options.head_hidden,
        head_seed=options.seed,
        members=options.members,
        adapter=options.lora is not None,
    )
    if native and (options.members > 1 or options.head != "linear"):
        raise ModelError("the native layout has one linear head", remedy="--layout assay")
    if options.lora is not None:
        if options.freeze_backbone:
            raise ModelError("LoRA trains inside the backbone, and the backbone is to be frozen", remedy="choose one")
        backbone = _add_lora(backbone, options.lora, options.seed, native=native)
    model = RewardModel(config, backbone, encoder)
    if options.freeze_backbone:
        if native:
            raise ModelError("the native layout cannot freeze its backbone alone", remedy="--layout assay")
        model.backbone.requires_grad_(False)
    return model


def make_encoder(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, options: ModelOptions, *, causal: bool
) -> ConversationEncoder:
    """Decide template, end token and maximum length for a backbone."""
    template, source = resolve_template(tokenizer, options.template, causal=causal)
    longest = backbones.default_max_length(config, tokenizer)
    wanted = options.max_length_tokens or longest
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit and wanted > limit:
        raise ModelError(
            "the maximum length is beyond the backbone's window",
            expected=f"at most {limit} tokens",
            got=str(wanted),
            remedy=f"--max-length-tokens {longest}",
        )
    end: str | None = options.end_token
    if end == "auto":
        end = None if template == "chat" else (tokenizer.eos_token if causal else tokenizer.sep_token)
    elif end == "none":
        end = None
    settings = ConversationSettings(template, wanted, end, options.truncation, source)
    return ConversationEncoder(tokenizer, settings)


def _add_lora(backbone: nn.Module, lora: LoraOptions, seed: int, *, native: bool) -> nn.Module:
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        task_type=TaskType.SEQ_CLS if native else TaskType.FEATURE_EXTRACTION,
    )
    # peft draws its first matrices from torch's global state; keep the caller's
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        return get_peft_model(backbone, config)
    except ValueError as error:
        raise ModelError(
            f"LoRA does not fit this backbone: {str(error).splitlines()[0]}", remedy="name --lora.targets"
        ) from error
    finally:
        torch.set_rng_state(state)


def load_reward_model(name: str, dtype: torch.dtype = torch.float32, **encoder_options: Any) -> RewardModel:
    """Load an assay model folder, a run folder that holds one, or a plain sequence classifier with one label.

    ``encoder_options`` (``template``, ``end_token``, ``max_length_tokens``, ``truncation``) apply to plain
    classifiers only.
    """
    if os.path.isdir(os.path.join(name, "model")) and not os.path.exists(os.path.join(name, "config.json")):
        name = os.path.join(name, "model")
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "config.json")):
        raise ModelError(
            "this folder holds no model",
            where=name,
            expected="config.json, or a run folder with model/",
            remedy="check the path",
        )
    if os.path.exists(os.path.join(name, provenance.FILE)):
        return _load_stored(name, dtype)
    config = _config_of(name)
    if config.get("model_type") == RewardModelConfig.model_type:
        Provenance.read(name)  # raises: assay.json is missing
    return _import_classifier(name, dtype, encoder_options)


def _config_of(name: str) -> dict[str, Any]:
    path = os.path.join(name, "config.json")
    if os.path.exists(path):
        import json

        try:
            with open(path, encoding="utf-8") as file:
                return dict(json.load(file))
        except ValueError as error:
            raise ModelError(f"config.json is damaged: {error}", where=path) from error
    if os.path.sep in name and not _is_hub_id(name):
        raise ModelError("no such model folder", where=name, remedy="check the path")
    downloaded = _download(name)
    return _config_of(downloaded) if downloaded != name else {}


def _is_hub_id(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def _download(name: str) -> str:
    """Return the local snapshot of a Hub model, or the name unchanged where transformers should try it itself."""
    if not _is_hub_id(name):
        return name
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"cannot find the model {name!r}: {str(error).strip().splitlines()[0]}",
            expected="a folder of assay train, a sequence classifier with one label, or a Hub id that can be reached",
            remedy="check the spelling and the network",
        ) from error


def _load_stored(folder: str, dtype: torch.dtype) -> RewardModel:
    record = Provenance.read(folder)
    config = RewardModelConfig.from_pretrained(folder)
    tokenizer = backbones.load_tokenizer(os.path.join(folder, TOKENIZER))
    encoder = ConversationEncoder(tokenizer, record.conversation)
    _refuse_changed(
        folder,
        "template or tokenizer",
        record.fingerprint.get("conversation"),
        provenance.conversation_fingerprint(encoder),
    )
    native = config.layout == "native"
    if config.adapter:
        from peft import PeftModel

        base = (backbones.load_classifier if native else backbones.load_backbone)(config.base_model, dtype)
        try:
            backbone: nn.Module = PeftModel.from_pretrained(base, os.path.join(folder, "adapter"), is_trainable=False)
        except (ValueError, OSError) as error:
            raise ModelError(f"cannot load the adapter: {str(error).splitlines()[0]}", where=folder) from error
    else:
        loader = backbones.load_classifier if native else backbones.load_backbone
        backbone = loader(os.path.join(folder, "backbone"), dtype)
    model = RewardModel(config, backbone, encoder, record)
    model._load_head(folder)
    _refuse_changed(
        folder, "score head", record.fingerprint.get("head"), provenance.weights_fingerprint(model._head_state())
    )
    return model.eval()


def _refuse_changed(folder: str, what: str, stored: str | None, found: str) -> None:
    if stored != found:
        raise ModelError(
            f"the {what} is not the one this model was trained with; its scores would mean something else",
            where=folder,
            expected=f"fingerprint {str(stored)[:12]}",
            got=found[:12],
            remedy="restore the folder as it was saved",
        )


def _import_classifier(name: str, dtype: torch.dtype, encoder_options: dict[str, Any]) -> RewardModel:
    """Wrap a plain sequence classifier; its missing head is an error, not a random one."""
    from transformers import AutoModelForSequenceClassification

    config = backbones.load_config(name)
    labels = getattr(config, "num_labels", None)
    architectures = getattr(config, "architectures", None) or []
    if labels != 1 or not any("SequenceClassification" in a or "RewardModel" in a for a in architectures):
        raise ModelError(
            "this is not a reward model",
            where=name,
            expected="a folder written by assay train, or a sequence classifier with one label",
            got=f"architectures {architectures}, {labels} labels",
        )
    backbone, info = backbones._load(
        "classifier", name, AutoModelForSequenceClassification, dtype=dtype, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            "the classifier's folder lacks weights; it would score at random", where=name, got=f"missing: {missing[:3]}"
        )
    tokenizer = backbones.load_tokenizer(name)
    causal = backbones.is_causal(backbone.base_model)
    options = ModelOptions(backbone=name, layout="native", **_plain_template(tokenizer, causal), **encoder_options)
    encoder = make_encoder(tokenizer, config, options, causal=causal)
    encoder.pad_id = config.get_text_config().pad_token_id if causal else encoder.pad_id
    wrapped = RewardModelConfig(
        base_model=name, layout="native", causal=causal, width=int(config.get_text_config().hidden_size)
    )
    return RewardModel(wrapped, backbone, encoder).eval()


def _plain_template(tokenizer: PreTrainedTokenizerBase, causal: bool) -> dict[str, Any]:
    """Without a chat template, trainers of plain classifiers join prompt and response and end with the end token."""
    return {} if tokenizer.chat_template else {"template": "plain"}
