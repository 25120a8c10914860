"""Make a policy of a causal language model, or load one that was trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from assay.errors import ModelError
from assay.scorers import backbones
from assay.scorers.adapters import LoraOptions, add_lora, load_adapter
from assay.scorers.attention import prefer_trees
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.creation import make_encoder
from assay.scorers.policy import Form, Policy, PolicyConfig
from assay.scorers.provenance import Provenance, conversation_fingerprint, refuse_changed
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
        If it is no causal language model, its logits cannot be told from its states, or an option does not fit it.
    """
    tokenizer = backbones.load_tokenizer(options.backbone)
    model = backbones.load_causal(options.backbone, dtype)
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
    encoder = make_encoder(tokenizer, model.config, options, causal=True)
    if options.attention != "auto":
        backbones.choose_attention(model, options.attention)
    if options.lora is not None:
        model = add_lora(model, options.lora, options.seed, kind="language model")
    config = PolicyConfig(beta=options.beta, form=options.form, adapter=options.lora is not None)
    record = Provenance(encoder.settings, policy={"base": backbones.lasting_name(options.backbone)})
    return Policy(config, model, encoder, shape, record)


def load_policy(name: str, dtype: torch.dtype = torch.float32) -> Policy:
    """Load a policy that assay trained, as a scorer; its reference is not loaded.

    Raises
    ------
    ModelError
        If a part is missing, or template or tokenizer are no longer those of training.
    """
    folder = backbones.locate(name)
    record = Provenance.read(folder)
    tokenizer = backbones.load_tokenizer(folder, choose_pad=False)
    encoder = ConversationEncoder(tokenizer, record.conversation)
    refuse_changed(
        folder,
        "template or tokenizer",
        record.fingerprint.get("conversation"),
        conversation_fingerprint(encoder),
    )
    adapter = os.path.isfile(os.path.join(folder, "adapter_config.json"))
    model: Any = backbones.load_causal(record.policy["base"] if adapter else folder, dtype)
    prefer_trees(model.base_model)
    shape = logit_shape(folder, model, model.base_model)
    if adapter:
        model = load_adapter(model, folder)
    config = PolicyConfig(beta=record.policy["beta"], form=record.policy["form"], adapter=adapter)
    return Policy(config, model, encoder, shape, record).eval()


def load_policy_with_reference(name: str, dtype: torch.dtype = torch.float32) -> Policy:
    """Load a policy, and what it was compared with in training.

    Raises
    ------
    ModelError
        As `load_policy`, or if the reference is not to be found.
    """
    from assay.scorers.references import AdapterOff, FrozenReference

    policy = load_policy(name, dtype)
    stored = policy.record.policy
    other = stored.get("reference")
    if other == "start" and policy.config.adapter:
        policy.reference = AdapterOff(policy)
    elif other is not None:
        base = stored["base"] if other == "start" else other
        policy.reference = FrozenReference(create_policy(PolicyOptions(base), dtype))
    return policy
