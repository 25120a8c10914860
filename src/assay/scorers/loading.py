"""Load a stored reward model, or wrap a plain sequence classifier, and check that it is what it says it is."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from assay.errors import ModelError
from assay.scorers import backbones, provenance, storage
from assay.scorers.adapters import LoraOptions as LoraOptions
from assay.scorers.adapters import load_adapter
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.creation import ModelOptions as ModelOptions
from assay.scorers.creation import create_reward_model as create_reward_model
from assay.scorers.creation import make_encoder as make_encoder
from assay.scorers.ensemble import MEMBER, EnsembleModel
from assay.scorers.folders import find_folder as find_folder
from assay.scorers.model_shape import RewardModelConfig
from assay.scorers.policy import Policy
from assay.scorers.policy_loading import load_policy
from assay.scorers.provenance import Provenance, refuse_changed
from assay.scorers.reward_model import RewardModel
from assay.scorers.traits import traits_of


def load_reward_model(name: str, dtype: torch.dtype = torch.float32, **encoder_options: Any) -> RewardModel:
    """Load an assay model folder, a run folder that holds one, or a plain sequence classifier with one label.

    ``encoder_options`` (``template``, ``end_token``, ``max_length_tokens``, ``truncation``) apply to plain
    classifiers only.
    """
    folder = find_folder(name)
    if os.path.exists(os.path.join(folder, provenance.FILE)):
        if Provenance.read(folder).policy:
            raise ModelError(
                "this is a policy, and no reward model",
                where=name,
                expected="a folder of assay train, or a sequence classifier with one label",
                remedy="assay.scorers.load_policy; assay evaluate, score and calibrate take policies as scorers",
            )
        config = RewardModelConfig.from_dict(_read_config(folder))
        return _load_ensemble(folder, config, dtype) if config.head == "ensemble" else _load_stored(folder, dtype)
    if _read_config(folder).get("model_type") == RewardModelConfig.model_type:
        Provenance.read(folder)  # raises: assay.json is missing
    return _import_classifier(folder, name, dtype, encoder_options)


def load_scorer(name: str, dtype: torch.dtype = torch.float32, **encoder_options: Any) -> RewardModel | Policy:
    """Load whatever scores responses: as `load_reward_model`, or a policy with the reference of its training."""
    folder = find_folder(name)
    if os.path.exists(os.path.join(folder, provenance.FILE)) and Provenance.read(folder).policy:
        return load_policy(folder, dtype)
    return load_reward_model(name, dtype, **encoder_options)


def _read_config(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError as error:
        raise ModelError("config.json is missing", where=folder, remedy="copy the whole model folder again") from error
    except (ValueError, TypeError) as error:
        raise ModelError(f"config.json is damaged: {error}", where=path, remedy="restore the file") from error


def _load_stored(folder: str, dtype: torch.dtype) -> RewardModel:
    record = Provenance.read(folder)
    config = RewardModelConfig.from_dict(_read_config(folder))
    if config.model_type != RewardModelConfig.model_type:
        raise ModelError("config.json is not that of an assay model", where=folder, got=str(config.model_type))
    tokenizer = backbones.load_tokenizer(os.path.join(folder, storage.TOKENIZER), choose_pad=False)
    encoder = ConversationEncoder(tokenizer, record.conversation)
    refuse_changed(
        folder,
        "template or tokenizer",
        record.fingerprint.get("conversation"),
        provenance.conversation_fingerprint(encoder),
    )
    backbone = (
        _adapted(folder, config, record, encoder.pad_id, dtype) if config.adapter else _whole(folder, config, dtype)
    )
    model = RewardModel(config, backbone, encoder, record)
    storage.load_head(model, folder)
    model.laplace = storage.load_laplace(folder)
    refuse_changed(
        folder, "score head", record.fingerprint.get("head"), provenance.weights_fingerprint(model.head_state())
    )
    return model.eval()


def _load_ensemble(folder: str, config: RewardModelConfig, dtype: torch.dtype) -> RewardModel:
    """Load the members of an ensemble; a missing one is an error."""
    places = [os.path.join(folder, MEMBER.format(number)) for number in range(config.members)]
    missing = [os.path.basename(place) for place in places if not os.path.isdir(place)]
    if missing:
        raise ModelError(
            f"members of this ensemble are missing: {', '.join(missing)}",
            where=folder,
            expected=f"{config.members} folders of models",
            remedy="copy the whole model folder again",
        )
    return EnsembleModel([_load_stored(place, dtype) for place in places], Provenance.read(folder)).eval()


def _whole(folder: str, config: RewardModelConfig, dtype: torch.dtype) -> nn.Module:
    part = os.path.join(folder, storage.BACKBONE)
    return (backbones.load_classifier if config.layout == "native" else backbones.load_backbone)(part, dtype)


def _adapted(folder: str, config: RewardModelConfig, record: Provenance, pad_id: int, dtype: torch.dtype) -> nn.Module:
    if config.layout == "native":
        base, _ = backbones.start_classifier(config.base_model, dtype)
        backbones.share_pad(base, pad_id)
        bare: Any = base.base_model
    else:
        bare = base = backbones.load_backbone(config.base_model, dtype)
    if dtype != torch.float16:  # which rounds to other values than bfloat16 does
        found = provenance.base_fingerprint(bare.state_dict())
        refuse_changed(
            folder, f"backbone {config.base_model!r} under the adapter", record.fingerprint.get("base"), found
        )
    return load_adapter(base, os.path.join(folder, storage.ADAPTER))


def _import_classifier(folder: str, name: str, dtype: torch.dtype, encoder_options: dict[str, Any]) -> RewardModel:
    """Wrap a plain sequence classifier; its missing head is an error, not a random one."""
    config = backbones.load_config(folder)
    labels = getattr(config, "num_labels", None)
    architectures = getattr(config, "architectures", None) or []
    if labels != 1 or not any("SequenceClassification" in a or "RewardModel" in a for a in architectures):
        raise ModelError(
            "this is not a reward model",
            where=name,
            expected="a folder written by assay train, or a sequence classifier with one label",
            got=f"architectures {architectures}, {labels} labels",
            remedy="train one around it: assay train DATA --backbone " + name,
        )
    backbone: Any = backbones.load_classifier(folder, dtype)
    tokenizer = backbones.load_tokenizer(folder)
    causal = traits_of(backbone.base_model).causal
    text_config = backbone.config.get_text_config()
    if text_config.pad_token_id is not None and 0 <= text_config.pad_token_id < len(tokenizer):
        # the class reads the score at the last token that is not this one, so the batches must be padded with it
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(text_config.pad_token_id)
    options = ModelOptions(backbone=name, layout="native", **_plain_template(tokenizer) | encoder_options)
    encoder = make_encoder(tokenizer, config, options, causal=causal)
    backbones.share_pad(backbone, encoder.pad_id)
    separator = tokenizer.sep_token_id if encoder.settings.template == "pair" else None
    types = "token_type_ids" in tokenizer.model_input_names and getattr(text_config, "type_vocab_size", 0) > 1
    wrapped = RewardModelConfig(
        base_model=name,
        layout="native",
        separator_id=separator,
        segments=separator is not None and types,
        causal=causal,
        width=int(text_config.hidden_size),
    )
    return RewardModel(wrapped, backbone, encoder).eval()


def _plain_template(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Without a chat template, trainers of plain classifiers join prompt and response and end with the end token.

    Others give the tokenizer two texts (template ``pair``); nothing in the folder tells which.
    """
    return {} if tokenizer.chat_template else {"template": "plain"}
