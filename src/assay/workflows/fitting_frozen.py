"""Fit heads on a frozen backbone, and calibrate the last of them out of fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset

from assay.scorers import RewardModel
from assay.scorers.encoding import EncodedRecords, encode_records, scores_in
from assay.scorers.features import FeatureCache
from assay.workflows import hardware
from assay.workflows.banks import bank_of, refuse_few
from assay.workflows.data import Shares
from assay.workflows.fits import Fit, compare_with, result_of, store
from assay.workflows.heads import blind_to, head_arguments, record_folds, train_heads
from assay.workflows.members import add_laplace, samples_of
from assay.workflows.options import arguments, head_rate
from assay.workflows.settings import TrainSettings
from assay.workflows.targets import objective_of
from assay.workflows.teaching import appended, calibration_of, refuse_nothing, taught_from


def fit_frozen(settings: TrainSettings, shares: Shares, folder: Path, model: RewardModel) -> Fit:
    """Compute what the frozen backbone makes of the training texts, and train heads on that (`fit_heads`)."""
    fold_of = record_folds(shares.training, settings.calibration_folds, settings.seed)
    data, told = appended(settings, shares.training, fold_of)
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    model.to(hardware.best_device())
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    cache = FeatureCache(model, dtype=dtype, token_budget=settings.token_budget)
    given = Vectors(data, records, cache.features_of(records))
    result = fit_heads(settings, given, fold_of, folder, model, told)
    result.counts |= {"features_computed": cache.computed, "features_reused": cache.reused}
    return result


@dataclass(frozen=True)
class Vectors:
    """Judgements with what a frozen backbone makes of their texts.

    Attributes
    ----------
    data, records
        The same records, as read and encoded.
    features
        float32 ``[texts, d]``.
    """

    data: Dataset
    records: EncodedRecords
    features: np.ndarray

    def select(self, records: np.ndarray) -> Vectors:
        """Return some of the records, sorted int64 numbers."""
        texts = self.records.texts_of(records)
        return Vectors(self.data.select(records), self.records.select(records), self.features[texts])


def fit_heads(
    settings: TrainSettings,
    given: Vectors,
    fold_of: np.ndarray,
    folder: Path,
    model: RewardModel,
    told: dict[str, int] | None = None,
    part: Literal["all", "first epoch", "the rest"] = "all",
) -> Fit:
    """Train heads on features: one per fold, blind to it, and one on everything, side by side.

    The folds' margins are all out of sample, so they calibrate the last head without costing it a judgement.

    Parameters
    ----------
    settings
        Resolved by `resolved`.
    given, fold_of
        What is learned from, and the fold of each of its records (`record_folds`).
    folder
        For logs and, of a training in parts, checkpoints.
    model
        Whose backbone it is.
    told
        What was done to the records before.
    part
        See `train_heads`.
    """
    data, records, features = given.data, given.records, given.features
    count = int(fold_of.max()) + 1
    args = head_arguments(arguments(settings, folder, settings.seed), head_rate(settings))
    taught = taught_from(settings, data, records, folder, model, features).noting(told or {})
    objective = objective_of(settings)
    refuse_nothing(objective, taught)
    refuse_few(settings, taught.taught())
    samples = samples_of(settings, data)
    several = 1 if samples is None else samples.shape[1]
    learned = replace(taught.learned(features), share=blind_to(fold_of, samples))
    heads, trainer = train_heads(model, args, learned, objective, part)
    compare_with(heads, lambda: torch.from_numpy(features[records.responses]))
    evidence = heads.score_features(features, records.prompt_of, native=True)
    out_of_fold = records.margins(evidence).reshape(len(records.pairs), count + 1, several).mean(axis=2)
    values = scores_in(evidence).reshape(len(features), count + 1, several)
    heads.select_members(slice(count * several, None))
    final = replace(taught.taught(), share=samples)
    bank = bank_of(heads, final, data, lambda texts: torch.from_numpy(features[texts]))
    add_laplace(settings, heads, taught.taught(), lambda texts: torch.from_numpy(features[texts]))
    members, values = values[:, count], values.mean(axis=2)
    result = result_of(heads, trainer, taught)
    result.target, result.bank = settings.target, bank
    assert learned.share is not None
    trained = int((learned.share > 0).any(axis=0).sum())  # the head that is blind to the only group learns nothing
    result.train_loss = [(step, loss / trained) for step, loss in result.train_loss]
    if count > 1:  # with one group, the head that is blind to it has learned nothing
        margins = out_of_fold[np.arange(len(out_of_fold)), fold_of[records.pairs.row]]
        unseen = values[np.arange(len(values)), np.repeat(fold_of, np.diff(records.offsets))]
        result.calibration = calibration_of(settings, records, taught.grades, unseen, margins)
    method = f"on margins out of {count} folds"
    # the heads that cleaned the other folds had seen this one
    store(
        result,
        members[records.responses],
        method + (" (cleaned together)" if settings.clean.kind != "none" else ""),
    )
    return result
