"""How sure a model is: what its members learn from, and the posterior of its last layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from assay.console import say
from assay.feedback.splitting import group_columns
from assay.scorers import RewardModel
from assay.scorers.heads import Head
from assay.scorers.laplace import fit_laplace
from assay.training.records import TrainingRecords
from assay.workflows.heads import bootstrap_of_groups
from assay.workflows.settings import TrainSettings

_TEXTS_AT_ONCE = 4096


def warn_of_one(settings: TrainSettings, what: str = "--ensemble.members") -> None:
    """Say that an ensemble of one is none."""
    if settings.ensemble is not None and settings.ensemble.members == 1:
        say(f"an ensemble of one tells nothing of how sure it is: raise {what}")


def samples_of(settings: TrainSettings, data: Dataset) -> np.ndarray | None:
    """Return how often each record is in what each member learns from, ``[R, members]``; None: there is one."""
    several = settings.ensemble
    if settings.objective.kind == "quantile":
        return np.ones((len(data), len(settings.objective.levels)))
    if several is None:
        return None
    if several.members == 1:
        return None
    if several.sample == "all":
        return np.ones((len(data), several.members))
    return bootstrap_of_groups(group_columns(data)[0], several.members, settings.seed)


@torch.no_grad()
def add_laplace(
    settings: TrainSettings, model: RewardModel, learned: TrainingRecords, states_of: Callable[[np.ndarray], Tensor]
) -> None:
    """Give a trained model the posterior of its last layer, if it is wanted; ``states_of`` are vectors of its texts."""
    head = model.head
    if settings.laplace is None or not isinstance(head, Head):
        return
    device = head.last_weights().device
    parts = []
    head.eval()
    for start in range(0, int(learned.records.offsets[-1]), _TEXTS_AT_ONCE):
        texts = np.arange(start, min(start + _TEXTS_AT_ONCE, int(learned.records.offsets[-1])))
        basis = head.basis(states_of(texts).to(device))
        assert basis is not None  # refused by the settings
        parts.append(basis[:, 0].cpu().numpy())
    given = learned.records.pairs
    first = learned.records.offsets[given.row]
    model.laplace = fit_laplace(
        np.concatenate(parts),
        first + given.a,
        first + given.b,
        head.last_weights()[0].cpu().numpy(),
        given.w,
        settings.laplace.precision,
    )
