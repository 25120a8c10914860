"""Training in which ranks hold parts of the weights, the gradients or the optimiser: FSDP2 and DeepSpeed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled

from assay.errors import ConfigError
from assay.training.arguments import PreferenceArguments

# What `accelerate launch` sets.
_ASKED_FOR = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


def is_sharded(args: PreferenceArguments) -> bool:
    """Tell whether ranks hold parts, and so must meet in every layer."""
    wanted = (os.environ.get(name, "false").lower() == "true" for name in _ASKED_FOR)
    return args.world_size > 1 and bool(args.fsdp or args.deepspeed or any(wanted))


def refuse_zero_3() -> None:
    """Refuse what cuts the weights themselves up in a way that scoring between steps knows nothing of.

    Raises
    ------
    ConfigError
        Under DeepSpeed's ZeRO 3.
    """
    if is_deepspeed_zero3_enabled():
        raise ConfigError(
            "DeepSpeed's ZeRO 3 is not supported",
            expected="ZeRO 1 or 2, where every rank has whole weights, or FSDP2",
            remedy="set zero_stage: 2, or use the configuration fsdp.yaml",
        )


def keep_scores_whole(plugin: Any) -> None:
    """Let FSDP2 return fp32 also where it computes in 16 bits, which would make texts of high scores tie."""
    policy = plugin.mixed_precision_policy
    if hasattr(policy, "output_dtype"):
        plugin.mixed_precision_policy = replace(policy, output_dtype=torch.float32)
