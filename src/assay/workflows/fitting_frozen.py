"""Fit heads on a frozen backbone, and calibrate the last of them out of fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from assay.scorers import RewardModel
from assay.scorers.encoding import encode_records, scores_in
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
    """Train heads on cached features: one per fold, blind to it, and one on everything, side by side.

    The folds' margins are all out of sample, so they calibrate the last head without costing it a judgement.
    """
    fold_of = record_folds(shares.training, settings.calibration_folds, settings.seed)
    data, told = appended(settings, shares.training, fold_of)
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    model.to(hardware.best_device())
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    cache = FeatureCache(model, dtype=dtype, token_budget=settings.token_budget)
    features = cache.features_of(records)
    count = int(fold_of.max()) + 1
    args = head_arguments(arguments(settings, folder, settings.seed), head_rate(settings))
    taught = taught_from(settings, data, records, folder, model, features).noting(told)
    objective = objective_of(settings)
    refuse_nothing(objective, taught)
    refuse_few(settings, taught.taught())
    samples = samples_of(settings, data)
    several = 1 if samples is None else samples.shape[1]
    learned = replace(taught.learned(features), share=blind_to(fold_of, samples))
    heads, trainer = train_heads(model, args, learned, objective)
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
    result.counts |= {"features_computed": cache.computed, "features_reused": cache.reused}
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
