"""From the settings to the options of the parts: the model's and the trainer's."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

from assay.scorers import LoraOptions, ModelOptions, PolicyOptions
from assay.training import PreferenceArguments
from assay.workflows import hardware
from assay.workflows.model_settings import ModelSettings, OptimiserSettings, TextSettings
from assay.workflows.online_settings import OnlineSettings
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.settings import TrainSettings

EPOCHS_OF_HEADS, EPOCHS_OF_BACKBONES = 30, 3
#: Of linear heads on vectors as they are; see also `assay.workflows.head_settings.OneHead.usual_rate`.
LINEAR_RATE = 1e-3


def head_rate(settings: TrainSettings) -> float:
    """Return the learning rate of the head, given or usual."""
    return settings.head_learning_rate or settings.head.usual_rate


def lora_options(settings: TextSettings) -> LoraOptions | None:
    """Return the options of the adapter; None: all weights train."""
    lora = settings.lora
    return LoraOptions(lora.rank, lora.alpha, lora.dropout, lora.targets or None) if lora else None


def model_options(settings: ModelSettings, seed: int) -> ModelOptions:
    """Turn settings into the options of `create_reward_model`."""
    levels = getattr(getattr(settings, "objective", None), "levels", ())
    several = settings.ensemble.members if settings.ensemble and settings.ensemble.kind == "heads" else len(levels) or 1
    return ModelOptions(
        backbone=settings.backbone,
        layout=settings.layout,
        pooling=settings.pooling,
        members=1 if settings.freeze_backbone else several,
        levels=levels,
        head=settings.head.kind,
        head_options=settings.head.options() | ({"bias": True} if levels else {}),
        template=settings.template,
        end_token=settings.end_token,
        max_length_tokens=settings.max_length_tokens,
        truncation=settings.truncation,
        freeze_backbone=settings.freeze_backbone,
        vocabulary=getattr(settings, "grm", None) is not None,
        dropout=settings.dropout,
        attention=settings.attention,
        lora=lora_options(settings),
        seed=seed,
    )


def policy_options(settings: AlignSettings) -> PolicyOptions:
    """Turn settings into the options of `create_policy`."""
    return replace(writer_options(settings), beta=settings.scale, form=settings.form)


def writer_options(settings: AlignSettings | OnlineSettings) -> PolicyOptions:
    """Return the same without what makes a policy a scorer."""
    return PolicyOptions(
        backbone=settings.backbone,
        template=settings.template,
        end_token=settings.end_token,
        max_length_tokens=settings.max_length_tokens,
        truncation=settings.truncation,
        lora=lora_options(settings),
        dropout=settings.dropout,
        attention=settings.attention,
        seed=settings.seed,
    )


def resolved(settings: TrainSettings, parameters: int) -> TrainSettings:
    """Replace settings that depend on others by the values that will be used."""
    frozen = settings.freeze_backbone
    rate = 2e-4 if settings.lora else 1e-4 if parameters < 100_000_000 else 1e-5
    # features are computed once and the model scores in fp32, so a frozen backbone gets bf16 only where it is asked for
    bf16 = settings.precision == "bf16" or (
        settings.precision == "auto" and not frozen and hardware.multiplies_in_bf16()
    )
    return settings.model_copy(
        update={
            "epochs": settings.epochs or (EPOCHS_OF_HEADS if frozen else EPOCHS_OF_BACKBONES),
            "learning_rate": None if frozen else settings.learning_rate or rate,
            "head_learning_rate": head_rate(settings),
            "precision": "bf16" if bf16 else "fp32",
        }
    )


def epochs_within(settings: TrainSettings, judgements: int, most_steps: int) -> int:
    """Return how many epochs a training has: those that were asked for or are usual, within about so many steps."""
    usual = EPOCHS_OF_HEADS if settings.freeze_backbone else EPOCHS_OF_BACKBONES
    within = most_steps * settings.pairs_per_step / max(judgements, 1)
    return max(1, min(settings.epochs or usual, round(within)))


def arguments(settings: OptimiserSettings, folder: Path, seed: int) -> PreferenceArguments:
    """Turn resolved settings into training arguments; checkpoints and logs go below ``folder``."""
    on_cpu = hardware.best_device().type == "cpu"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    return PreferenceArguments(
        **_recomputing(settings.gradient_checkpointing),
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=settings.epochs or 1,
        learning_rate=settings.learning_rate or 0.0,
        head_learning_rate=getattr(settings, "head_learning_rate", None) or LINEAR_RATE,
        pairs_per_step=settings.pairs_per_step,
        token_budget=settings.token_budget,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type=settings.scheduler,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        bf16=settings.precision == "bf16",
        compile_layers=settings.compile,
        dataloader_num_workers=0 if on_cpu else 1,  # a CPU has no time to spare beside its own
        use_cpu=on_cpu,
        optim="adamw_torch_fused",
        evaluations_per_epoch=settings.evaluations_per_epoch,
        patience=settings.patience,
        logging_steps=settings.logging_steps,
        report_to=list(settings.report_to) or "none",
        seed=seed,
        save_strategy="steps",
        save_steps=0.1,
        disable_tqdm=True,
    )


def _recomputing(wanted: bool) -> dict[str, bool]:
    """Name the option as this version of transformers does."""
    known = {entry.name for entry in fields(PreferenceArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: True} if wanted else {}
