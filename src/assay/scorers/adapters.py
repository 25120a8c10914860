"""LoRA inside the backbone: adding it, and loading it back whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safetensors import SafetensorError
from torch import nn

from assay.errors import ModelError
from assay.scorers.backbones import seeded

#: The names that peft has for them.
_TASKS = {"transformer": "FEATURE_EXTRACTION", "classifier": "SEQ_CLS", "language model": "CAUSAL_LM"}


@dataclass(frozen=True)
class LoraOptions:
    """LoRA inside the backbone (Hu et al. 2021); ``targets`` None: every linear layer."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None


def add_lora(
    backbone: nn.Module,
    lora: LoraOptions,
    seed: int,
    *,
    kind: Literal["transformer", "classifier", "language model"],
    whole: Sequence[str] = (),
) -> Any:
    """Put LoRA weights into a backbone; they start without effect.

    Parameters
    ----------
    backbone
        What gets the adapter.
    lora, seed
        Options, and the seed of the first of each two matrices.
    kind
        What the backbone is. The score layer of a sequence classifier is trained and saved whole; the vocabulary head
        of a language model gets no adapter unless ``lora.targets`` names it.
    whole
        Further modules that are new, and so trained and saved whole.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) if lora.targets else "all-linear",
        task_type=_TASKS[kind],
        modules_to_save=list(whole) or None,
    )
    try:
        # peft draws from torch's global state
        with seeded(seed):
            return get_peft_model(backbone, config)
    except ValueError as error:
        raise ModelError(
            f"LoRA does not fit this backbone: {str(error).splitlines()[0]}", remedy="name --lora.targets"
        ) from error


def load_adapter(base: nn.Module, folder: str) -> Any:
    """Wrap ``base`` with the adapter stored in ``folder``.

    Raises
    ------
    ModelError
        If the adapter is missing, incomplete, or does not fit.
    """
    from peft import PeftConfig, get_peft_model

    if not os.path.isfile(os.path.join(folder, "adapter_config.json")):
        raise _missing(folder, "adapter_config.json")
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = True
        with seeded(0):
            model = get_peft_model(base, config)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(f"cannot load the adapter: {type(error).__name__}: {error}", where=folder) from error
    load_adapter_weights(model, folder)
    return model


def load_adapter_weights(model: Any, folder: str) -> None:
    """Load stored adapter weights into a model that carries the same adapter; all of them must be there."""
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    if not os.path.isfile(os.path.join(folder, "adapter_model.safetensors")):
        raise _missing(folder, "adapter_model.safetensors")
    try:
        state = load_peft_weights(folder, device="cpu")
        wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
        lacking = sorted(set(wanted) - set(state))
        if not lacking:
            set_peft_model_state_dict(model, state)
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            "the adapter does not fit its backbone", where=folder, got=str(error).splitlines()[-1].strip()
        ) from error
    if lacking:
        raise ModelError(
            "the adapter lacks weights; the model would be partly untrained",
            where=folder,
            got=f"{len(lacking)} missing: {', '.join(lacking[:3])}",
            remedy="copy the whole model folder again",
        )


def _missing(folder: str, name: str) -> ModelError:
    return ModelError(
        "the adapter is missing; without it the model would be the untrained backbone",
        where=folder,
        expected=name,
        remedy="copy the whole model folder again",
    )
