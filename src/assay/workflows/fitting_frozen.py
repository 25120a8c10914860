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
from assay.workflows.fits import Fit, compare_with, result_of, sides_of, store
from assay.workflows.heads import blind_to, head_arguments, record_folds, train_heads
from assay.workflows.members import add_laplace, samples_of
from assay.workflows.options import arguments, head_rate
from assay.workflows.settings import TrainSettings
from assay.workflows.targets import objective_of
from assay.workflows.teaching import appended, calibration_of, refuse_nothing, single_verdicts, taught_from


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
    args = head_arguments(arguments(settings, folder, settings.seed), head_rate(settings))
    taught = taught_from(settings, data, records, folder, model, features).noting(told or {})
    objective = objective_of(settings)
    refuse_nothing(objective, taught)
    refuse_few(settings, taught.taught())
    samples = samples_of(settings, data)
    learned = replace(taught.learned(features), share=blind_to(fold_of, samples))
    heads, trainer = train_heads(model, args, learned, objective, part)
    compare_with(heads, lambda: torch.from_numpy(features[records.responses]))
    several = 1 if samples is None else samples.shape[1]
    margins, values = _by_fold(heads, given, several)
    blind = values.shape[1] - 1
    heads.select_members(slice(blind * several, None))
    final = replace(taught.taught(), share=samples)
    bank = bank_of(heads, final, data, lambda texts: torch.from_numpy(features[texts]))
    add_laplace(settings, heads, taught.taught(), lambda texts: torch.from_numpy(features[texts]))
    result = result_of(heads, trainer, taught)
    result.target, result.bank = settings.target, bank
    result.train_loss = [(step, loss / values[0].size) for step, loss in result.train_loss]  # the heads' sum
    sides = None
    if blind:
        unseen = values.mean(axis=2)[np.arange(len(values)), np.repeat(fold_of, np.diff(records.offsets))]
        out_of_fold = margins.mean(axis=2)[np.arange(len(margins)), fold_of[records.pairs.row]]
        verdicts = single_verdicts(settings, unseen, taught.grades)
        sides = sides_of(records, unseen)
        result.calibration = calibration_of(settings.calibration, records, out_of_fold, verdicts)
    # the heads that cleaned the other folds had seen this one
    together = " (cleaned together)" if settings.clean.kind != "none" else ""
    store(result, values[records.responses, blind], f"on margins out of {blind} folds{together}", sides)
    return result


def _by_fold(heads: RewardModel, given: Vectors, several: int) -> tuple[np.ndarray, np.ndarray]:
    """Return margins ``[E, folds + 1, M]`` and scores ``[texts, folds + 1, M]`` of the heads of each fold and all."""
    evidence = heads.score_features(given.features, given.records.prompt_of, native=True)
    shape = heads.config.members // several, several
    margins = given.records.margins(evidence).reshape(-1, *shape)
    return margins, scores_in(evidence).reshape(-1, *shape)
