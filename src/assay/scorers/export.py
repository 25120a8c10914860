"""Export: the same scores from a plain transformers sequence classifier, where one can express the model."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from assay.errors import ModelError
from assay.scorers.backbones import seeded, share_pad
from assay.scorers.batches import pad
from assay.scorers.evaluating import evaluating
from assay.scorers.reward_model import RewardModel
from assay.scorers.templates import DATE_STRING

TOLERANCE = 1e-5
_PROMPT = "Where is the key?"
_CHECKS = ("Yes.", "No, and here is a somewhat longer answer to look at.", "")


def export(model: RewardModel, folder: str | os.PathLike[str]) -> float:
    """Write a folder that ``AutoModelForSequenceClassification`` loads with equal scores; LoRA weights are merged.

    The tokenizer gets the model's template as its chat template, end token included, so that
    ``apply_chat_template`` and ``logits[:, 0]`` give `RewardModel.score`.

    Returns
    -------
    float
        The largest difference seen between the two on a few probe conversations.

    Raises
    ------
    ModelError
        If the plain class cannot express the model (pooling, head, pad token), with the reason.
    """
    reason = why_not(model)
    if reason:
        raise ModelError(
            "this model cannot be exported as a plain sequence classifier",
            got=reason,
            remedy="train with --layout native, or serve the assay folder itself",
        )
    model.merge_adapter()
    plain: Any = model.backbone if model.config.layout == "native" else _native_from(model)
    share_pad(plain, model.encoder.pad_id)
    difference = _largest_difference(model, plain)
    if not difference <= TOLERANCE:
        raise ModelError(
            "the exported classifier would score differently",
            expected=f"within {TOLERANCE:g}",
            got=f"{difference:.3g}",
            remedy="serve the assay folder itself",
        )
    tokenizer = model.encoder.tokenizer
    kept = tokenizer.chat_template
    tokenizer.chat_template = chat_template_of(model)
    try:
        _refuse_other_tokens(model, tokenizer)
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = kept
    return difference


def why_not(model: RewardModel) -> str | None:
    """Return why the plain class cannot express a model, or None where it can."""
    config = model.config
    if config.layout == "native":
        return None if not config.causal else _pad_problem(model)
    if not config.causal or config.pooling != "last":
        return f"its {config.pooling} pooling does not exist in the plain class of this backbone"
    if config.head != "linear" or config.members != 1:
        return "its head is not a single linear layer"
    return _pad_problem(model)


def _pad_problem(model: RewardModel) -> str | None:
    if model.encoder.pad_id == model.encoder.tokenizer.eos_token_id:
        return "pad and end token are the same, so the plain class cannot find the last token"
    return None


def _native_from(model: RewardModel) -> Any:
    config: Any = copy.deepcopy(model.backbone.config)
    config.num_labels = 1
    try:
        with seeded(0):  # every weight is overwritten below; the caller's random state is not ours to move
            plain = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ModelError(f"transformers has no sequence classifier for {type(config).__name__}") from error
    linear = getattr(plain, "score", None)
    if not isinstance(linear, nn.Linear) or linear.bias is not None:
        raise ModelError(f"{type(plain).__name__} has no bias-free layer named score")
    plain.base_model.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        linear.weight.copy_(model.head.weight)
    return plain.to(device=model.device, dtype=model.dtype)


def _largest_difference(model: RewardModel, plain: nn.Module) -> float:
    """Score probes through the plain class in one padded batch, as a foreign user would."""
    encoded = [e.ids for e in model.encoder.encode([_PROMPT] * len(_CHECKS), list(_CHECKS))]
    ours = model.score_encoded(encoded)
    ids, mask = pad(encoded, model.encoder.pad_id)
    with evaluating(plain):
        theirs = plain(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0]
    return float(np.abs(ours - theirs.float().cpu().numpy()).max())


def chat_template_of(model: RewardModel) -> str:
    """Return the model's template as a chat template, with its marks, its fixed date and its end token written out."""
    template, end = model.encoder.template, model.encoder.settings.end_token
    marks = {"bos": template.bos, "sep": template.sep, "date_string": DATE_STRING}
    head = "".join(f"{{% set {name} = {value!r} %}}" for name, value in marks.items())
    # an empty expression on either side keeps Jinja from trimming the source's own white space
    source = template.jinja.removesuffix("\n")  # Jinja drops it at the end of a source, but not within
    text = f"{{% set text %}}{{{{ '' }}}}{source}{{{{ '' }}}}{{% endset %}}"
    start = _where_missing(model.encoder.leading_token, "not text.startswith(mark)")
    finish = _where_missing(end, "not add_generation_prompt and not text.endswith(mark)")
    return f"{head}{text}{start}{{{{ text }}}}{finish}"


def _where_missing(mark: str | None, condition: str) -> str:
    return f"{{% set mark = {mark!r} %}}{{% if {condition} %}}{{{{ mark }}}}{{% endif %}}" if mark else ""


def _refuse_other_tokens(model: RewardModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Encode a probe through the exported template, as a foreign user would, and compare."""
    chat = [{"role": "user", "content": _PROMPT}, {"role": "assistant", "content": _CHECKS[0]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
    ours = model.encoder.encode([_PROMPT], [_CHECKS[0]])[0]
    if theirs != ours.ids and not ours.cut_prompt:
        raise ModelError(
            "the exported template would write other tokens", got=repr(text), remedy="serve the assay folder itself"
        )
