"""Make a policy of a causal language model, or load one that was trained."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from assay.errors import ModelError
from assay.scorers import backbones, provenance
from assay.scorers.adapters import LoraOptions, add_lora, load_adapter
from assay.scorers.attention import prefer_trees
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.creation import make_encoder
from assay.scorers.folders import find_folder
from assay.scorers.policy import Form, Policy, PolicyConfig, Reference
from assay.scorers.provenance import Provenance, base_fingerprint, conversation_fingerprint, refuse_changed
from assay.scorers.references import AdapterOff, FrozenReference, MixedReference
from assay.scorers.traits import traits_of
from assay.scorers.vocabulary import logit_shape


@dataclass(frozen=True)
class PolicyOptions:
    """What a policy is made of.

    Attributes
    ----------
    backbone
        Hub id or folder of a causal language model.
    beta, form
        See `assay.scorers.policy.Policy`.
    template, end_token, max_length_tokens, truncation
        See `assay.scorers.ConversationSettings`.
    lora
        LoRA options, or None to train all weights.
    dropout, attention
        See `assay.scorers.ModelOptions`.
    seed
        Seeds the adapter.
    """

    backbone: str
    beta: float = 0.1
    form: Form = "sum"
    template: str = "auto"
    end_token: str = "auto"
    max_length_tokens: int | None = None
    truncation: Literal["left", "right"] = "left"
    lora: LoraOptions | None = None
    dropout: Literal["hidden", "all", "none"] = "none"
    attention: str = "auto"
    seed: int = 0


def create_policy(options: PolicyOptions, dtype: torch.dtype = torch.float32) -> Policy:
    """Build a policy around a causal language model, as it came.

    Raises
    ------
    ModelError
        If it is no causal language model, nothing ends a reply, its logits cannot be told from its states, or an option
        does not fit it.
    """
    place = plain_folder(options.backbone)
    model = backbones.load_causal(place, dtype)
    tokenizer = backbones.load_tokenizer(place)
    if not traits_of(model.base_model).causal:
        raise ModelError(
            "this model sees what follows, so it says no text token by token",
            where=options.backbone,
            expected="a causal language model",
            got=type(model).__name__,
        )
    if options.dropout != "all":
        backbones.switch_off_dropout(model, of_attention_only=options.dropout == "hidden")
    prefer_trees(model.base_model)
    shape = logit_shape(options.backbone, model, model.base_model)
    encoder = make_encoder(tokenizer, model.config, replace(options, backbone=place), causal=True, ends_cut=False)
    if not encoder.tail and options.end_token == "auto":
        raise ModelError(
            "nothing ends a reply, so a policy would never learn to stop",
            where=options.backbone,
            expected="a tokenizer with an end token, or a template that writes one",
            got="neither",
            remedy="--end-token TOKEN, one of the tokenizer's",
        )
    if options.attention != "auto":
        backbones.choose_attention(model, options.attention)
    record = Provenance(encoder.settings, policy={"base": backbones.lasting_name(place)})
    record.fingerprint["base"] = base_fingerprint(model.state_dict())
    if options.lora is not None:
        model = add_lora(model, options.lora, options.seed, kind="language model")
    config = PolicyConfig(beta=options.beta, form=options.form, adapter=options.lora is not None)
    return Policy(config, model, encoder, shape, record)


def load_policy(name: str, dtype: torch.dtype = torch.float32, *, reference: bool = True) -> Policy:
    """Load a policy that assay trained, as a scorer.

    Parameters
    ----------
    name
        Folder, run folder that holds ``model/``, or Hub id.
    dtype
        Of the weights.
    reference
        Load what it was compared with too; without it scores are those of no reference, which calibration and
        thresholds do not fit.

    Raises
    ------
    ModelError
        If a part is missing, or template, tokenizer, base or reference are no longer those of training.
    """
    folder = find_folder(name)
    record = Provenance.read(folder)
    if not record.policy:
        raise ModelError("this is no policy", where=name, expected="a folder of assay align")
    tokenizer = backbones.load_tokenizer(folder, choose_pad=False)
    encoder = ConversationEncoder(tokenizer, record.conversation)
    found = conversation_fingerprint(encoder)
    refuse_changed(folder, "template or tokenizer", record.fingerprint.get("conversation"), found)
    adapter = os.path.isfile(os.path.join(folder, "adapter_config.json"))
    model: Any = backbones.load_causal(record.policy["base"] if adapter else folder, dtype)
    prefer_trees(model.base_model)
    shape = logit_shape(folder, model, model.base_model)
    if adapter:
        _refuse_other_weights(folder, record, "base", model, dtype)
        model = load_adapter(model, folder)
    config = PolicyConfig(beta=record.policy["beta"], form=record.policy["form"], adapter=adapter)
    policy = Policy(config, model, encoder, shape, record).eval()
    if reference:
        policy.reference = _stored_reference(policy, folder, dtype)
    return policy


def policy_from(name: str, max_length_tokens: int | None = None) -> Policy:
    """Load a policy that assay trained, without what it is compared with, or any causal language model.

    Parameters
    ----------
    name
        Folder, run folder, or Hub id.
    max_length_tokens
        Longest prompt and response together; None: as in training, or the default of a model that came so.

    Raises
    ------
    ModelError
        If it cannot be loaded, or has no positions for texts as long.
    """
    inside = any(os.path.isfile(os.path.join(name, *place, provenance.FILE)) for place in ((), ("model",)))
    policy = load_policy(name, reference=False) if inside else create_policy(PolicyOptions(name))
    if max_length_tokens is not None:
        backbones.refuse_beyond_window(policy.whole.config, max_length_tokens, remedy=f"a shorter one for {name}")
        settings = replace(policy.encoder.settings, max_length_tokens=max_length_tokens)
        policy.encoder = ConversationEncoder(policy.encoder.tokenizer, settings)
    return policy


def _stored_reference(policy: Policy, folder: str, dtype: torch.dtype) -> Reference | None:
    """Load what a policy was compared with in training."""
    other = policy.record.policy.get("reference")
    if other is None:
        return None
    one = _first_reference(policy, other, folder, dtype)
    mixture = policy.record.policy.get("mixture")
    if mixture is None:
        return one
    others: list[Reference] = []
    for number, name in enumerate(mixture["others"]):
        found = create_policy(PolicyOptions(name), dtype)
        _refuse_other_weights(folder, policy.record, f"reference {number + 2}", found.language_model, dtype, name)
        others.append(FrozenReference(found))
    return MixedReference([one, *others], mixture["weights"])


def _first_reference(policy: Policy, other: str, folder: str, dtype: torch.dtype) -> Reference:
    if other == "start" and policy.config.adapter:
        return AdapterOff(policy)
    base = policy.record.policy["base"] if other == "start" else other
    found = create_policy(PolicyOptions(base), dtype)
    kind = "base" if other == "start" else "reference"
    _refuse_other_weights(folder, policy.record, kind, found.language_model, dtype)
    return FrozenReference(found)


def _refuse_other_weights(
    folder: str, record: Provenance, kind: str, model: Any, dtype: torch.dtype, name: str | None = None
) -> None:
    if dtype == torch.float16:  # which rounds to other values than bfloat16 does
        return
    name = name or (record.policy["base"] if kind == "base" else record.policy["reference"])
    what = "model under the adapter, or before training" if kind == "base" else "reference"
    refuse_changed(folder, f"{what} ({name})", record.fingerprint.get(kind), base_fingerprint(model.state_dict()))


def plain_folder(name: str) -> str:
    """Return where a whole model lies; of a run folder, its ``model/``.

    Raises
    ------
    ModelError
        If it is an adapter, which is no whole model.
    """
    place = backbones.locate(name)
    if os.path.exists(os.path.join(place, "adapter_config.json")):
        raise ModelError(
            "this is an adapter, and no whole model",
            where=name,
            expected="a causal language model",
            remedy="merge it into its base first (peft: merge_and_unload), and name the result",
        )
    return place
