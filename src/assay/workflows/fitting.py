"""Fit a reward model on shares of judgements and calibrate it: all weights, LoRA, or the head on a frozen backbone."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset

from assay.errors import DataError
from assay.evaluation import Temperature, fit_temperature
from assay.feedback import folds
from assay.scorers import LoraOptions, ModelOptions, RewardModel, RewardModelConfig, create_reward_model
from assay.scorers.encoding import EncodedRecords, encode_records, score_records
from assay.scorers.features import FeatureCache
from assay.training import PairwiseObjective, PreferenceArguments, PreferenceTrainer
from assay.training.checkpoints import newest_complete, step_of
from assay.training.data import TrainingRecords
from assay.training.progress import TerminalProgress
from assay.workflows import hardware, ranks
from assay.workflows.data import Shares
from assay.workflows.settings import ModelSettings, OptimiserSettings, TrainSettings


@dataclass
class Fit:
    """A trained model and how it came about.

    Attributes
    ----------
    model
        With score statistics and calibration stored.
    train_loss, validation_loss
        (step, loss in nats) as logged.
    seconds
        Of training alone.
    pairs, tokens
        Judgements and tokens that training went through in those seconds, all epochs.
    counts
        What truncation cut and what was dropped.
    temperature
        The calibration, or None.
    """

    model: RewardModel
    train_loss: list[tuple[float, float]] = field(default_factory=list)
    validation_loss: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    pairs: int = 0
    tokens: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    temperature: Temperature | None = None

    def throughput(self) -> dict[str, float]:
        """Return judgements and tokens per second of training."""
        seconds = max(self.seconds, 1e-9)
        return {
            "pairs_per_second": self.pairs / seconds,
            "tokens_per_second": self.tokens / seconds,
            "training_seconds": self.seconds,
        }


def model_options(settings: ModelSettings, seed: int) -> ModelOptions:
    """Turn settings into the options of `create_reward_model`."""
    lora = settings.lora
    return ModelOptions(
        backbone=settings.backbone,
        layout=settings.layout,
        pooling=settings.pooling,
        head=settings.head,
        head_hidden=settings.head_hidden,
        template=settings.template,
        end_token=settings.end_token,
        max_length_tokens=settings.max_length_tokens,
        truncation=settings.truncation,
        freeze_backbone=settings.freeze_backbone,
        dropout=settings.dropout,
        attention=settings.attention,
        lora=LoraOptions(lora.rank, lora.alpha, lora.dropout, lora.targets or None) if lora else None,
        seed=seed,
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
            "epochs": settings.epochs or (30 if frozen else 3),
            "learning_rate": None if frozen else settings.learning_rate or rate,
            "precision": "bf16" if bf16 else "fp32",
        }
    )


def arguments(settings: OptimiserSettings, folder: Path, seed: int) -> PreferenceArguments:
    """Turn resolved settings into training arguments; checkpoints and logs go below ``folder``."""
    on_cpu = hardware.best_device().type == "cpu"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "logs")
    return PreferenceArguments(
        **_recomputing(settings.gradient_checkpointing),
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=settings.epochs or 1,
        learning_rate=settings.learning_rate or 0.0,
        head_learning_rate=settings.head_learning_rate,
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


def fit(settings: TrainSettings, shares: Shares, folder: Path, model: RewardModel | None = None) -> Fit:
    """Train and calibrate a reward model.

    Parameters
    ----------
    settings
        Resolved by `resolved`.
    shares
        Judgements by purpose.
    folder
        For checkpoints and logs; with ``settings.resume`` the newest whole checkpoint there is continued.
    model
        A fresh model, where one was made already; None: made from the settings.
    """
    model = model or create_reward_model(model_options(settings, settings.seed))
    if settings.freeze_backbone:
        return _fit_frozen(settings, shares, folder, model)
    with ranks.first_alone():
        train = encode_records(shares.fit, model.encoder)
        held_out = encode_records(shares.validation, model.encoder) if shares.validation is not None else None
    _refuse_nothing(train)
    shown = TerminalProgress()
    args = arguments(settings, folder, settings.seed)
    judged = held_out is not None and bool((held_out.pairs.w > 0).any())
    if not judged:
        args.patience = 0  # nothing to look at
    trainer = PreferenceTrainer(
        model,
        args,
        TrainingRecords(train, model.encoder.pad_id),
        held_out,
        PairwiseObjective(settings.centring),
        callbacks=[shown],
    )
    whole = newest_complete(folder / "checkpoints") if settings.resume else None
    try:
        trainer.train(resume_from_checkpoint=settings.resume)
    finally:
        # an interrupted run must give the terminal its cursor back
        shown.on_train_end(trainer.args, trainer.state, trainer.control)
    whole_model = trainer.gathered(lambda: create_reward_model(model_options(settings, settings.seed)))
    if whole_model is None:
        return Fit(model)  # another process has the weights, and does the rest
    model = cast(RewardModel, whole_model)
    result = _result(model, trainer, train, since=step_of(whole) if whole else 0)
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    if held_out is not None and judged:
        values = score_records(model, held_out, token_budget=settings.token_budget)
        result.temperature = fit_temperature(held_out.margins(values), held_out.pairs.p, held_out.pairs.w)
        # the scores of unseen texts show where scores lie in use; those of training texts are stretched
        _store(result, values, "temperature on the validation share")
    else:
        _store(result, score_records(model, train, dtype=dtype, token_budget=settings.token_budget), None)
    return result


def _refuse_nothing(records: EncodedRecords) -> None:
    if len(records.pairs) == 0:
        raise DataError(
            "there is no judgement to train on",
            expected="pairs of responses that differ within the maximum length",
            got=f"{records.dropped_identical} pairs, each of two equal texts once truncated",
            remedy="raise --max-length-tokens",
        )


def _fit_frozen(settings: TrainSettings, shares: Shares, folder: Path, model: RewardModel) -> Fit:
    """Train heads on cached features: one per fold, blind to it, and one on everything, side by side.

    The folds' margins are all out of sample, so they calibrate the last head without costing it a judgement.
    """
    data = shares.training
    records = encode_records(data, model.encoder)
    _refuse_nothing(records)
    model.to(hardware.best_device())
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    cache = FeatureCache(model, dtype=dtype, token_budget=settings.token_budget)
    features = cache.features_of(records)
    fold_of = _fold_numbers(data, records, settings.calibration_folds, settings.seed)
    count = int(fold_of.max()) + 1
    weight = np.repeat(records.pairs.w[:, None], count + 1, axis=1)
    weight[np.arange(len(fold_of)), fold_of] = 0.0
    heads = RewardModel(_with_members(model, count + 1), model.backbone, model.encoder)
    heads.backbone.requires_grad_(False)
    args = arguments(settings, folder, settings.seed)
    args.learning_rate, args.max_grad_norm, args.bf16 = settings.head_learning_rate, 0.0, False
    args.save_strategy, args.patience = "no", 0  # seconds of work: nothing worth resuming, nothing held out
    trainer = PreferenceTrainer(
        _HeadOnly(heads),
        args,
        TrainingRecords(records, features=features, weight=weight),
        objective=PairwiseObjective(settings.centring),
    )
    trainer.train()
    values = heads.score_features(features)
    heads.select_member(count)
    result = _result(heads, trainer, records)
    result.counts |= {"features_computed": cache.computed, "features_reused": cache.reused}
    margins = records.margins(values)
    out_of_fold = margins[np.arange(len(fold_of)), fold_of]
    learning = max(1, int((weight > 0).any(axis=0).sum()))
    result.train_loss = [(step, loss / learning) for step, loss in result.train_loss]
    if count > 1:  # with one group, the head that is blind to it has learned nothing
        result.temperature = fit_temperature(out_of_fold, records.pairs.p, records.pairs.w)
    _store(result, values[:, count], f"temperature on margins out of {count} folds")
    return result


class _HeadOnly(torch.nn.Module):
    """Shows the trainer the head alone, so that a frozen backbone is neither moved, wrapped nor saved."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        self.head = model.head
        self._forward = model.forward

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> Any:
        return self._forward(features=features, edges=edges)


def _with_members(model: RewardModel, members: int) -> RewardModelConfig:
    return RewardModelConfig.from_dict({**model.config.to_dict(), "members": members})


def _fold_numbers(data: Dataset, records: EncodedRecords, count: int, seed: int) -> np.ndarray:
    """Return the fold of every judgement, by split group; fewer groups than folds: one fold per group."""
    groups = len(set(data["split_group"]))
    if groups < 2:
        return np.zeros(len(records.pairs), np.int64)
    number = {}
    for fold, (_, held) in enumerate(folds(data.select_columns(["split_group", "edges"]), min(count, groups), seed)):
        number.update(dict.fromkeys(held["split_group"], fold))
    return np.array([number[group] for group in records.pairs.group], np.int64)


def _result(model: RewardModel, trainer: PreferenceTrainer, records: EncodedRecords, since: int = 0) -> Fit:
    """Gather what was logged; ``since`` is the step that a resumed run began at, whose work took other seconds."""
    history = trainer.state.log_history
    done = trainer.plan.epoch(trainer.state.global_step) - trainer.plan.epoch(since)
    return Fit(
        model=model,
        train_loss=[(entry["step"], entry["loss"]) for entry in history if "loss" in entry],
        validation_loss=[(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry],
        seconds=trainer.seconds,
        pairs=math.floor(done * len(records.pairs)),
        tokens=math.floor(done * int(records.lengths.sum())),
        counts={
            "texts_cut_in_the_prompt": records.cut_prompt,
            "texts_cut_in_the_response": records.cut_reply,
            "pairs_equal_after_tokenising": records.dropped_identical,
        },
    )


def _store(result: Fit, values: np.ndarray, method: str | None) -> None:
    """Keep score statistics and calibration with the model."""
    spread = values.astype(np.float64)
    result.model.record.score = {"mean": float(spread.mean()), "std": float(spread.std())}
    if result.temperature is not None and method:
        fitted = result.temperature.to_dict()
        result.model.record.calibration = {"temperature": fitted.pop("value"), "method": method, **fitted}
