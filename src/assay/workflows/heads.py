"""Heads on a frozen backbone: many side by side on features that were computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset

from assay.feedback.splitting import fold_of_rows, group_columns
from assay.scorers import ModelOptions, RewardModel, RewardModelConfig
from assay.training import PreferenceArguments, PreferenceTrainer
from assay.training.objective import Objective
from assay.training.records import TrainingRecords
from assay.training.schedule import StopAfter
from assay.workflows.banks import start_bank

#: Kinds of heads that may serve another purpose than to be the model's own.
HELPERS = ("linear", "mlp", "attributes")


def train_heads(
    model: RewardModel,
    args: PreferenceArguments,
    data: TrainingRecords,
    objective: Objective,
    part: Literal["all", "first epoch", "the rest"] = "all",
) -> tuple[RewardModel, PreferenceTrainer]:
    """Train as many heads as the shares have columns, on cached features; the backbone stays as it is.

    Parameters
    ----------
    model
        Whose backbone the features are of.
    args
        Of the training; nothing is saved or held out, since it is seconds of work.
    data
        With features, and shares ``[R, members]``.
    objective
        What is minimised; members share nothing.
    part
        Of the training: the first epoch ends with a checkpoint below ``args.output_dir``, from which the rest goes on.

    Returns
    -------
    tuple
        A model with all heads, and its trainer.
    """
    assert data.share is not None
    members = data.share.shape[1]
    if members == 1:  # a single head gives one margin per judgement, not a list of one
        data = replace(data, share=data.share[:, 0])
    width = model.config.width if data.features is None else data.features.shape[1]
    heads = RewardModel(_with(model, members=members, width=width), model.backbone, model.encoder)
    features = data.features
    assert features is not None
    data = replace(data, with_classes="classes" in heads.head_reads)
    start_bank(heads, data, lambda texts: torch.from_numpy(features[texts]))
    trainer = PreferenceTrainer(_HeadOnly(heads), args, data, objective=objective)
    if part == "first epoch":
        trainer.add_callback(StopAfter(trainer.plan.epoch_ends[0]))
    trainer.train(resume_from_checkpoint=part == "the rest")
    return heads, trainer


def head_arguments(args: PreferenceArguments, learning_rate: float) -> PreferenceArguments:
    """Return arguments fit for heads alone."""
    args = replace(args)
    args.learning_rate, args.max_grad_norm, args.bf16 = learning_rate, 0.0, False
    args.save_strategy, args.patience = "no", 0
    # of the backbone, which has no part in it, and of the log of the run itself
    args.compile_layers, args.report_to = False, []
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        if hasattr(args, name):
            setattr(args, name, False)
    return args


class _HeadOnly(torch.nn.Module):
    """Shows the trainer the head alone, so that a frozen backbone is neither moved, wrapped nor saved."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        self.head = model.head
        self._forward = model.forward

    def forward(self, **batch: Any) -> Any:
        return self._forward(**batch)


def with_head(model: RewardModel, options: ModelOptions) -> RewardModel:
    """Return an untrained model around the same backbone with the head that the options name."""
    config = _with(
        model,
        head=options.head,
        head_options=dict(options.head_options),
        head_seed=options.seed,
        members=options.members,
        levels=list(options.levels),
    )
    return RewardModel(config, model.backbone, model.encoder)


def without_bank(model: RewardModel) -> RewardModel:
    """Return the model with a plain head, of what was trained nothing: for heads that serve another purpose."""
    if model.config.head in HELPERS:
        return model
    return RewardModel(_with(model, head="linear", head_options={}), model.backbone, model.encoder)


def _with(model: RewardModel, **changed: Any) -> RewardModelConfig:
    return RewardModelConfig.from_dict({**model.config.to_dict(), **changed})


def record_folds(data: Dataset, count: int, seed: int) -> np.ndarray:
    """Return the fold of every record, by split group, int64 ``[R]``; fewer groups than folds: one fold per group."""
    groups = len(np.unique(group_columns(data)[0]))
    return fold_of_rows(data, min(count, groups), seed) if groups > 1 else np.zeros(len(data), np.int64)


def blind_to(fold_of: np.ndarray, samples: np.ndarray | None = None) -> np.ndarray:
    """Return shares of heads blind to each fold, and of those that learn from everything, ``[R, (folds + 1) * M]``.

    ``samples`` ``[R, M]`` says how often each of M members has each record (`bootstrap_of_groups`); None: one has all.
    Members of one fold stand side by side. With a single fold, whose blind head would learn nothing, there is none:
    ``[R, M]``.
    """
    count = int(fold_of.max()) + 1
    share = np.ones((len(fold_of), count + 1 if count > 1 else 1))
    if count > 1:
        share[np.arange(len(fold_of)), fold_of] = 0.0
    if samples is None:
        return share
    return (share[:, :, None] * samples[:, None, :]).reshape(len(share), -1)


def bootstrap_of_groups(groups: Sequence[str] | np.ndarray, members: int, seed: int) -> np.ndarray:
    """Draw whole groups for each member; return how often each record is in its sample, float64 ``[R, members]``."""
    names, of = np.unique(np.asarray(groups), return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=members)
    return drawn.T[of].astype(np.float64)
