"""What training learns from: judgements appended, cleaned and made into targets; and what calibrates the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset

from assay.console import say
from assay.errors import ConfigError, DataError
from assay.evaluation import Calibration, fit_calibration, fit_platt
from assay.evaluation.calibration import FEW_JUDGEMENTS
from assay.evaluation.metrics import decided
from assay.feedback import kind_of, read_with_report
from assay.feedback.cross_prompts import CROSS_PROMPT, with_cross_prompts
from assay.feedback.pairs import WEAK
from assay.scorers import RewardModel, backbones
from assay.scorers.encoding import EncodedRecords, encode_records
from assay.scorers.features import FeatureCache
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.vocabulary import reply_likelihoods
from assay.training import PairwiseObjective
from assay.training.data import TextSource
from assay.training.meta import MetaStep
from assay.training.objective import Objective
from assay.training.records import TrainingRecords
from assay.workflows import hardware
from assay.workflows.graded import attribute_grades
from assay.workflows.heads import HELPERS, head_arguments
from assay.workflows.options import EPOCHS_OF_HEADS, LINEAR_RATE, arguments, head_rate
from assay.workflows.prepared import Prepared
from assay.workflows.settings import TrainSettings
from assay.workflows.strength import cross_fitted
from assay.workflows.targets import cleaned, make_targets, needs_features


def appended(
    settings: TrainSettings, data: Dataset, fold_of: np.ndarray | None = None
) -> tuple[Dataset, dict[str, int]]:
    """Append answers to other prompts, if wanted; within folds, so that what is held out stays out."""
    if settings.cross_prompt == 0:
        return data, {}
    data, told = with_cross_prompts(data, settings.cross_prompt, settings.seed, fold_of)
    say(f"answers to other prompts as losers: {told['appended']} appended, {told['without_partner']} without a partner")
    return data, {f"cross_prompt_{name}": count for name, count in told.items()}


def step_rule_of(settings: TrainSettings, model: RewardModel) -> MetaStep | None:
    """Read the unlabelled responses of MetaRM, if it is wanted."""
    if settings.meta is None:
        return None
    data, _ = read_with_report(settings.meta.data, **settings.reading() | {"split": None, "ratings": "responses"})
    several = [len(responses) > 1 for responses in data["responses"]] if kind_of(data) == "comparisons" else []
    if not any(several):
        raise DataError(
            "there are no responses to keep apart",
            where=settings.meta.data,
            expected="prompts with two responses or more",
            got=f"{len(data)} {kind_of(data)}",
            remedy="sample several responses to each prompt, or leave --meta.data out",
        )
    records = encode_records(data.select(np.flatnonzero(several)), model.encoder, prompts=model.reads_prompts)
    source = TextSource(TrainingRecords(records, model.encoder.pad_id), model.row_layout, settings.token_budget)
    return MetaStep(source, settings.meta.rate, settings.meta.prompts, settings.seed)


def taught_from(
    settings: TrainSettings,
    data: Dataset,
    records: EncodedRecords,
    folder: Path,
    model: RewardModel,
    features: np.ndarray | None = None,
) -> Prepared:
    """Clean the judgements, if asked for, and make targets of them; say what was done.

    The judges are heads on the backbone as it came, also where all weights train afterwards: an ensemble of whole
    models would cost as many trainings. They learn the verdicts as they were given, so cleaning comes before targets.
    """
    if features is None and needs_features(settings):
        features = features_as_it_came(settings, model, records)
    given = Prepared(records, features=features)
    if settings.clean.kind != "none" and features is not None:
        args = head_arguments(arguments(settings, folder, settings.seed), helper_rate(settings))
        args.num_train_epochs = EPOCHS_OF_HEADS
        learned = given.learned(features)
        strength = cross_fitted(model, args, data, learned, settings.clean, settings.seed, PairwiseObjective())
        given = cleaned(given, settings.clean, strength)
    taught = make_targets(settings.target, settings.objective, data, given)
    if settings.head.kind == "attributes":
        taught = attribute_grades(settings.head.dimensions, data, taught)
    for line in taught.lines():
        say(line)
    return taught


def helper_rate(settings: TrainSettings) -> float:
    """Return the learning rate of heads that serve cleaning; they are linear where the head has a bank."""
    return head_rate(settings) if settings.head.kind in HELPERS else LINEAR_RATE


def features_as_it_came(settings: TrainSettings, model: RewardModel, records: EncodedRecords) -> np.ndarray:
    """Return the states of the texts by the backbone before any training, ``[texts, d]``."""
    model.to(hardware.best_device())
    return FeatureCache(model, token_budget=settings.token_budget).features_of(records)


def refuse_nothing(objective: Objective, taught: Prepared) -> None:
    """Refuse data that the objective learns nothing from."""
    records = taught.records
    count, weight = objective.items(TrainingRecords(records, grades=taught.grades))
    if not (weight > 0).any():
        raise DataError(
            "there is nothing to train on",
            expected="judgements of weight above 0 between responses that differ within the maximum length, or, where "
            "the loss is about grades, grades; of two responses of a prompt or more, where it is about lists",
            got=f"{len(records.lengths)} responses, {len(records.pairs)} judgements, and {records.dropped_identical} "
            f"of two texts that are equal once truncated; {count.sum()} items that the loss is about",
            remedy="raise --max-length-tokens, or choose another --objective.kind or --target.kind",
        )


def with_replies(settings: TrainSettings, model: RewardModel, learned: TrainingRecords) -> TrainingRecords:
    """Return the same with what losses of text look at; a reference is the model now, as precise as training."""
    reference = None
    if settings.grm is not None and settings.grm.reference:
        model.to(hardware.best_device())
        dtype = torch.bfloat16 if settings.precision == "bf16" else None
        reference = reply_likelihoods(model, learned.records, dtype=dtype, token_budget=settings.token_budget)
    return replace(learned, with_replies=True, reference=reference)


def refuse_without_prefixes(model: RewardModel) -> None:
    """Refuse a loss of prefixes where a model has no scores of them."""
    reason = why_no_prefix_scores(model)
    if reason is not None:
        raise ConfigError(
            "this model has no scores of prefixes to train",
            where="objective.average",
            expected="a causal backbone whose last token is pooled",
            got=reason,
            remedy="choose a causal --backbone, or --objective.average end",
        )


def refuse_equal_views(settings: TrainSettings, model: RewardModel) -> None:
    """Refuse a contrast of two encodings of a text where nothing makes them differ."""
    if settings.auxiliary.contrast and not backbones.drops(model.backbone):
        raise ConfigError(
            "both encodings of a text would be the same: nothing is dropped in this backbone",
            where="auxiliary.contrast",
            expected="a backbone with dropout, such as BERT's family, or LoRA with --lora.dropout",
            got=settings.backbone,
            remedy="leave --auxiliary.contrast out",
        )


def single_verdicts(
    settings: TrainSettings, values: np.ndarray, grades: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return scores and P(good) of responses, where such verdicts are what is learned; else None."""
    return (values, grades) if settings.objective.kind == "pointwise" and grades is not None else None


def calibration_of(
    kind: Literal["temperature", "isotonic"],
    records: EncodedRecords,
    margins: np.ndarray,
    verdicts: tuple[np.ndarray, np.ndarray] | None = None,
) -> Calibration | None:
    """Calibrate on what no model of these margins (and scores, see `single_verdicts`) was trained on.

    On judgements where there are any; on good and bad responses otherwise, where these are what is learned. Grades
    alone say nothing of probabilities. Weak labels calibrate only where there are too few other judgements: they say
    what a label model believes, not what people do.
    """
    given = records.pairs
    used = (given.w > 0) & (given.source != CROSS_PROMPT)  # easier than what the model will be asked
    others = used & (given.source != WEAK)
    if np.count_nonzero(others & decided(given.p)) >= FEW_JUDGEMENTS:
        used = others
    if used.any():
        return fit_calibration(margins[used], given.p[used], given.w[used], kind)
    if verdicts is None:
        return None
    values, grades = verdicts
    known = np.isfinite(grades)
    good = grades[known]
    if not known.any() or not 0 < good.mean() < 1:
        return None
    return fit_platt(values[known], good)
