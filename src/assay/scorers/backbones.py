"""Loading the pretrained part: any Hub id or local folder, or the packaged MiniLM."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from assay.errors import ModelError
from assay.scorers.attention import prefer_trees
from assay.scorers.packaged import MINILM as MINILM
from assay.scorers.packaged import minilm_folder

_LONGEST_DEFAULT = 1024
_ORIGINAL = "original_max_position_embeddings"
#: Model types that number positions from the pad token's place on, and so lose two of them.
_POSITIONS_FROM_TWO = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer"),
    *("mpnet", "data2vec-text", "xmod", "ibert", "luke", "mluke"),
)


def locate(name: str) -> str:
    """Return the folder or Hub id behind a backbone's name; a folder as its absolute path, of a run its ``model/``."""
    if name == MINILM:
        return minilm_folder()
    folder = os.path.abspath(os.path.expanduser(name))
    inner = os.path.join(folder, "model")
    if os.path.isdir(inner) and not os.path.exists(os.path.join(folder, "config.json")):
        return inner
    return folder if os.path.isdir(folder) else name


def lasting_name(name: str) -> str:
    """Return the name under which a backbone is found again, from whatever working directory."""
    return name if name == MINILM else locate(name)


def _load(what: str, name: str, loader: Any, **options: Any) -> Any:
    """Call a ``from_pretrained`` and turn its many failures into one message."""
    try:
        return loader.from_pretrained(locate(name), **options)
    except ModelError:
        raise
    except (ImportError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        # minilm writes nothing
        also = ("", "") if what == "language model" else (", or 'minilm'", ", or use --backbone minilm")
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot load the {what} {name!r}: {first}",
            expected="a local model folder, or a Hub id that can be reached or is cached" + also[0],
            remedy="check the spelling and the network (HF_HUB_OFFLINE)" + also[1],
        ) from error


def _refuse_missing(
    name: str, missing: Iterable[str], expected: str = "every weight of the architecture in config.json"
) -> None:
    found = sorted(missing)
    if found:
        raise ModelError(
            "weights are missing; the model would be partly random",
            where=name,
            expected=expected,
            got=f"{len(found)} missing: {', '.join(found[:3])}",
            remedy="copy the whole folder again",
        )


def load_config(name: str, what: str = "backbone") -> PretrainedConfig:
    """Load a backbone's configuration; ``what`` is said of it in messages.

    Raises
    ------
    ModelError
        If it cannot be found, or is that of an encoder-decoder, whose states belong to two texts.
    """
    config: PretrainedConfig = _load(what, name, AutoConfig)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            "an encoder-decoder cannot be the backbone of a reward model",
            where=name,
            expected="a causal language model, or an encoder",
            got=str(config.model_type),
        )
    return config


def load_backbone(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load the bare transformer (no language-model head) in ``dtype``; a missing weight is an error."""
    load_config(name)
    model, info = _load("backbone", name, AutoModel, dtype=dtype, output_loading_info=True)
    unread = {key for key in info["missing_keys"] if "pooler" in key.split(".")}
    _refuse_missing(name, info["missing_keys"] - unread)
    with torch.no_grad():
        for key in unread:
            # nothing reads it, but random values would make the same backbone look different in every run
            model.get_parameter(key).zero_()
    freeze_unread(model)
    prefer_trees(model)
    return model


def load_causal(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load a whole causal language model with its vocabulary head; a missing weight is an error."""
    load_config(name, "language model")
    model, info = _load("language model", name, AutoModelForCausalLM, dtype=dtype, output_loading_info=True)
    _refuse_missing(name, info["missing_keys"], "a causal language model with its vocabulary head; this may be another")
    return model


def choose_attention(model: Any, name: str) -> None:
    """Let a backbone attend by an implementation that transformers knows.

    Raises
    ------
    ModelError
        If it cannot, or not on this machine.
    """
    if name == "flex_attention" and not torch.cuda.is_available():
        raise _no_attention(model, name, "it has no backward pass on CPUs, and there is no GPU")
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError, KeyError) as error:
        raise _no_attention(model, name, str(error)) from error
    if model.config.get_text_config()._attn_implementation != name:
        raise _no_attention(model, name, "its code does not let it be chosen")


def _no_attention(model: Any, name: str, reason: str) -> ModelError:
    what = f"{type(model).__name__} cannot attend by {name}: {reason.splitlines()[0]}"
    return ModelError(what, remedy="leave out --attention")


def freeze_unread(model: nn.Module) -> None:
    """Exclude the pooler from training: nothing here reads it, and parallel training waits for every gradient."""
    for name, parameter in model.named_parameters():
        if "pooler" in name.split("."):
            parameter.requires_grad_(False)


def load_classifier(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a sequence classifier with one label as it is; a missing weight is an error, never a random one."""
    model, info = _load(
        "classifier", name, AutoModelForSequenceClassification, dtype=dtype, num_labels=1, output_loading_info=True
    )
    _refuse_missing(name, info["missing_keys"])
    return model


def load_stored_weights(model: Any, folder: str) -> None:
    """Load a stored backbone's weights into a model of the same shape; all of them must be there."""
    fresh, info = _load("backbone", folder, type(model), dtype=model.dtype, output_loading_info=True)
    _refuse_missing(folder, info["missing_keys"])
    model.load_state_dict(fresh.state_dict())


def start_classifier(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[nn.Module, list[str]]:
    """Make a sequence classifier with one label from any backbone, to be trained.

    Layers above the backbone that the folder lacks start from ``seed``, the last of them at zero. Returns the
    classifier and the names of the modules that were made new.
    """
    load_config(name)
    with seeded(seed):
        model, info = _load(
            "classifier",
            name,
            AutoModelForSequenceClassification,
            dtype=dtype,
            num_labels=1,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    new = {*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])}
    inner = f"{model.base_model_prefix}."
    _refuse_missing(name, (key for key in new if key.startswith(inner) and "pooler" not in key.split(".")))
    if new:
        zero_output(model)
    return model, sorted({key.removeprefix(inner).split(".")[0] for key in new})


def share_pad(classifier: Any, pad_id: int) -> None:
    """Tell a sequence classifier the pad token: it reads the score at the last token that is another one."""
    classifier.config.get_text_config().pad_token_id = pad_id
    classifier.config.pad_token_id = pad_id


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for what can draw from nothing else, and put its state back."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def zero_output(classifier: nn.Module) -> None:
    """Set the last linear layer of a sequence classifier to zero, so that every score starts at 0."""
    linear = [module for module in classifier.modules() if isinstance(module, nn.Linear) and module.out_features == 1]
    if not linear:
        raise ModelError(f"{type(classifier).__name__} has no linear layer with one output", remedy="--layout assay")
    nn.init.zeros_(linear[-1].weight)
    if linear[-1].bias is not None:
        nn.init.zeros_(linear[-1].bias)


# What an attention layer drops outside its weights: states that it reads or gives out, and embeddings of positions.
_NOT_OF_WEIGHTS = ("resid", "hidden", "pos", "out_")


def switch_off_dropout(module: nn.Module, *, of_attention_only: bool = False) -> None:
    """Set dropout rates inside a module to 0: all of them, or those of attention weights only.

    Evaluation mode would do the same to the values, but it also switches off what architectures do only in training,
    such as recomputing activations. Rates are kept in dropout layers, or as plain numbers by those attention layers
    that hand theirs on to a fused kernel.
    """
    for part in module.modules():
        if of_attention_only and "attention" not in type(part).__name__.lower():
            continue
        numbers = [name for name, value in vars(part).items() if "dropout" in name and isinstance(value, float)]
        for name, layer in [*part.named_children(), *((name, None) for name in numbers)]:
            if of_attention_only and any(word in name for word in _NOT_OF_WEIGHTS):
                continue
            if layer is None:
                setattr(part, name, 0.0)
            elif isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.p = 0.0


def drops(module: nn.Module) -> bool:
    """Tell whether anything inside a module is dropped in training."""
    rates = [part.p for part in module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
    rates += [
        value
        for part in module.modules()
        for name, value in vars(part).items()
        if "dropout" in name and isinstance(value, float)
    ]
    return any(rate > 0 for rate in rates)


def load_tokenizer(name: str, *, choose_pad: bool = True) -> PreTrainedTokenizerBase:
    """Load a tokenizer, with a pad token that differs from the end token wherever the vocabulary offers one.

    ``choose_pad=False`` keeps the pad token that was stored.
    """
    tokenizer: PreTrainedTokenizerBase = _load("tokenizer of", name, AutoTokenizer)
    if not tokenizer.is_fast:
        raise ModelError(
            "this tokenizer cannot tell which characters a token came from",
            where=name,
            expected="a fast tokenizer (tokenizer.json)",
            got=type(tokenizer).__name__,
        )
    if choose_pad and (tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id):
        for token in (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token):
            if token is not None and token != tokenizer.eos_token:
                tokenizer.pad_token = token
                break
        else:
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def window(config: PretrainedConfig) -> int | None:
    """Return how many positions a backbone has, or None where it sets no limit.

    Some backbones read longer texts by turning *all* positions of a batch as the longest of its texts needs: beyond
    their original length a score would depend on what else is in the batch, so that length is their limit here.
    """
    text = config.get_text_config()
    limits = [limit for limit in (getattr(text, "max_position_embeddings", None), *_lengths_turned(text)) if limit]
    limit = min(limits, default=0)
    if limit <= 0:
        return None
    return int(limit) - 2 if text.model_type in _POSITIONS_FROM_TWO else int(limit)


def refuse_beyond_window(config: PretrainedConfig, wanted: int, remedy: str) -> None:
    """Refuse a maximum length, in tokens, that a backbone has no positions for.

    Raises
    ------
    ModelError
        If it is so.
    """
    limit = window(config)
    if limit is not None and wanted > limit:
        raise ModelError(
            "the maximum length is beyond the backbone's window",
            expected=f"at most {limit} tokens",
            got=str(wanted),
            remedy=remedy,
        )


def _lengths_turned(config: Any) -> Iterator[int]:
    """Yield the original lengths of rotary positions that depend on the longest text of a batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in (rope, *rope.values()):
        if isinstance(kind, dict) and kind.get("rope_type") in ("dynamic", "longrope"):
            known = (kind.get(_ORIGINAL), getattr(config, _ORIGINAL, None), config.max_position_embeddings)
            yield next(length for length in known if length)


def default_max_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the longest sequence the backbone was made for, at most 1,024 tokens unless asked for more."""
    limits = (window(config), tokenizer.model_max_length, _LONGEST_DEFAULT)
    return min(int(limit) for limit in limits if limit and limit > 0)
