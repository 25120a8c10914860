"""Fit a reward model on shares of judgements and calibrate it: all weights, LoRA, or a frozen backbone's head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from datasets import Dataset

from assay.console import say
from assay.errors import DataError
from assay.scorers import RewardModel, create_reward_model
from assay.scorers.encoding import EncodedRecords, encode_records, mean_of_members, score_records, scores_in
from assay.scorers.ensemble import EnsembleModel
from assay.training import PreferenceTrainer
from assay.training.checkpoints import newest_complete, remove_torn
from assay.training.progress import TerminalProgress
from assay.training.records import TrainingRecords
from assay.workflows import ranks
from assay.workflows.banks import bank_of, refuse_few, start_bank
from assay.workflows.data import Shares
from assay.workflows.feedback_settings import MarginMatching
from assay.workflows.fits import Fit, compare_with, result_of, sides_of, store, trained
from assay.workflows.fitting_frozen import fit_frozen
from assay.workflows.graded import with_attributes
from assay.workflows.members import add_laplace, samples_of
from assay.workflows.options import arguments, model_options
from assay.workflows.prepared import Prepared
from assay.workflows.rewordings import with_rewordings
from assay.workflows.settings import TrainSettings
from assay.workflows.targets import each_of_sweep, make_targets, objective_of
from assay.workflows.teaching import (
    appended,
    calibration_of,
    refuse_equal_views,
    refuse_nothing,
    refuse_without_prefixes,
    single_verdicts,
    step_rule_of,
    taught_from,
    with_replies,
)

#: Training responses that scores without a scalar are compared with, at most, where they must be encoded anew.
_COMPARED = 2048

#: Seeds of members lie this far apart, so that those of neighbouring runs differ.
MEMBER_SEEDS = 1000


def fit(
    settings: TrainSettings,
    shares: Shares,
    folder: Path,
    model: RewardModel | None = None,
    member: int | None = None,
) -> Fit:
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
    member
        Which one of an ensemble of whole models this is; None: all of it.
    """
    settings = with_attributes(settings, shares.training)
    if isinstance(settings.target, MarginMatching) and settings.target.sweep:
        return _best_of_sweep(settings, settings.target, shares, folder)
    several = settings.ensemble
    if several is not None and several.kind != "heads" and several.members > 1 and member is None:
        return _fit_members(settings, shares, folder)
    if member is not None:
        settings = settings.model_copy(update={"seed": settings.seed + MEMBER_SEEDS * member})
    model = model or create_reward_model(model_options(settings, settings.seed))
    if settings.freeze_backbone:
        return fit_frozen(settings, shares, folder, model)
    return _fit_weights(settings, shares, folder, model, member)


def _encoded(
    settings: TrainSettings, model: RewardModel, data: Dataset, validation: Dataset | None
) -> tuple[EncodedRecords, EncodedRecords | None, np.ndarray | None]:
    """Encode both shares; with a term over paraphrases, also what is asked otherwise, and what each text is to it."""
    with ranks.first_alone():
        alone, roles = model.reads_prompts, None
        train = encode_records(data, model.encoder, prompts=alone)
        held_out = encode_records(validation, model.encoder, prompts=alone) if validation is not None else None
        if settings.auxiliary.triplet:
            train, roles = with_rewordings(data, train, model.encoder, settings.seed)
    return train, held_out, roles


def _fit_weights(settings: TrainSettings, shares: Shares, folder: Path, model: RewardModel, member: int | None) -> Fit:
    """Train the weights of the backbone, or of its adapter, with the head."""
    data, told = appended(settings, shares.fit)
    samples = samples_of(settings, data)
    if member is not None and samples is not None:
        drawn = np.flatnonzero(samples[:, member])
        data, samples = data.select(drawn), samples[drawn, member]
    train, held_out, roles = _encoded(settings, model, data, shares.validation)
    shown = TerminalProgress()
    args = arguments(settings, folder, settings.seed)
    refuse_equal_views(settings, model)
    taught = taught_from(settings, data, train, folder, model).noting(told)
    objective = objective_of(settings)
    refuse_nothing(objective, taught)
    kept_apart = None
    if held_out is not None and shares.validation is not None:
        checked = make_targets(settings.target, settings.objective, shares.validation, Prepared(held_out), like=taught)
        kept_apart = TrainingRecords(checked.records, grades=checked.grades)
    if kept_apart is None or not (objective.items(kept_apart)[1] > 0).any():
        args.patience = 0  # nothing to look at
    learned = taught.taught(model.encoder.pad_id, with_classes="classes" in model.head_reads)
    if samples is not None:
        learned = replace(learned, share=samples)
    if roles is not None:
        learned = replace(learned, told={"roles": roles})
    if settings.grm is not None:
        learned = with_replies(settings, model, learned)
    if objective.prefixes:
        refuse_without_prefixes(model)
        learned = learned.with_prefixes()
    refuse_few(settings, learned)
    fresh = model
    start_bank(fresh, learned, lambda texts: _states_of(fresh, train, texts, settings))
    trainer = PreferenceTrainer(
        model,
        args,
        learned,
        kept_apart,
        objective,
        callbacks=[shown],
        step_rule=step_rule_of(settings, model),
    )
    whole_model, since = trained(
        trainer,
        shown,
        folder,
        lambda: create_reward_model(model_options(settings, settings.seed)),
        resume=settings.resume,
    )
    if whole_model is None:
        return Fit(model, target=settings.target)  # another process has the weights, and does the rest
    model = cast(RewardModel, whole_model)
    result = result_of(model, trainer, taught, since=since)
    result.target = settings.target
    compare_with(model, lambda: _states_of(model, train, np.flatnonzero(train.responses)[:_COMPARED], settings))
    _calibrate(settings, result, train, held_out, kept_apart)
    result.bank = bank_of(model, learned, data, lambda texts: _states_of(model, train, texts, settings))
    add_laplace(settings, model, taught.taught(), lambda texts: _states_of(model, train, texts, settings))
    return result


def _states_of(model: RewardModel, records: EncodedRecords, texts: np.ndarray, settings: TrainSettings) -> torch.Tensor:
    """Encode some texts as the model is now."""
    return torch.from_numpy(model.features([records.text(int(i)) for i in texts], token_budget=settings.token_budget))


def _calibrate(
    settings: TrainSettings,
    result: Fit,
    train: EncodedRecords,
    held_out: EncodedRecords | None,
    kept_apart: TrainingRecords | None,
) -> None:
    """Calibrate on the validation share, and store where scores lie: on that share, or on the training share."""
    model = result.model
    if held_out is not None and kept_apart is not None and len(held_out.lengths):
        evidence = score_records(model, held_out, token_budget=settings.token_budget)
        values = scores_in(evidence)
        margins = mean_of_members(held_out.margins(evidence))
        verdicts = single_verdicts(settings, mean_of_members(values), kept_apart.grades)
        result.calibration = calibration_of(settings.calibration, held_out, margins, verdicts)
        # the scores of unseen texts show where scores lie in use; those of training texts are stretched
        place, sides = "on the validation share", sides_of(held_out, values)
        store(result, values[held_out.responses], place, sides)
        return
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    values = scores_in(score_records(model, train, dtype=dtype, token_budget=settings.token_budget))
    store(result, values[train.responses], None)


def _fit_members(settings: TrainSettings, shares: Shares, folder: Path) -> Fit:
    """Train whole models one after the other, each on its own sample and in its own order, and calibrate their mean."""
    assert settings.ensemble is not None
    results = []
    for number in range(settings.ensemble.members):
        say(f"member {number + 1} of {settings.ensemble.members}")
        name = f"member-{number}"
        results.append(fit(settings, shares, folder / "checkpoints" / name, member=number))
        _keep_logs(folder / "checkpoints" / name / "logs", folder / "logs" / name)
    first = results[0]
    whole = replace(
        first,
        model=EnsembleModel([result.model for result in results]),
        seconds=sum(result.seconds for result in results),
        pairs=sum(result.pairs for result in results),
        tokens=sum(result.tokens for result in results),
        calibration=None,
    )
    if shares.validation is None:
        train = encode_records(shares.fit, whole.model.encoder, prompts=whole.model.reads_prompts)
        _calibrate(settings, whole, train, None, None)
        return whole
    held_out = encode_records(shares.validation, whole.model.encoder, prompts=whole.model.reads_prompts)
    checked = make_targets(
        settings.target, settings.objective, shares.validation, Prepared(held_out), like=first.taught
    )
    kept_apart = TrainingRecords(checked.records, grades=checked.grades)
    _calibrate(settings, whole, held_out, held_out, kept_apart)
    return whole


def _best_of_sweep(settings: TrainSettings, target: MarginMatching, shares: Shares, folder: Path) -> Fit:
    """Train with every gamma, and keep the model with the best calibrated NLL on the judgements held out of training.

    Calibrated, because gamma scales all margins alike, and every model is calibrated in the end.
    """
    if shares.validation is None and not settings.freeze_backbone:
        raise _nothing_to_choose_on()
    best: Fit | None = None
    tried = []
    for fixed in each_of_sweep(target):
        gamma, name = fixed.gamma, f"gamma-{fixed.gamma}"
        found = fit(settings.model_copy(update={"target": fixed}), shares, folder / "checkpoints" / name)
        if not ranks.is_first():
            best = found
            continue
        _keep_logs(folder / "checkpoints" / name / "logs", folder / "logs" / name)
        if found.calibration is None:
            raise _nothing_to_choose_on()
        tried.append({"gamma": gamma, "nll": found.calibration.nll_after})
        say(f"gamma {gamma}: calibrated NLL {found.calibration.nll_after:.4f} on held-out judgements")
        if best is None or best.calibration is None or found.calibration.nll_after < best.calibration.nll_after:
            best = found
    assert best is not None
    best.feedback["sweep"] = tried
    best.target = ranks.agreed(best.target)
    return best


def _keep_logs(logs: Path, where: Path) -> None:
    """Move logs out of a folder that goes when training is over; beside those of an interrupted run."""
    for file in sorted(logs.glob("*")):
        where.mkdir(parents=True, exist_ok=True)
        file.rename(where / file.name)


def _nothing_to_choose_on() -> DataError:
    return DataError(
        "there are no held-out judgements to choose gamma on",
        expected="a validation share, or several split groups with a frozen backbone",
        got="none",
        remedy="raise --validation-share, choose one with --target.gamma NUMBER, or bring more judgements",
    )


def newest_checkpoint(folder: Path) -> str | None:
    """Return the name of a whole checkpoint below a run folder that ``--resume`` can go on from; None: there is none.

    Torn ones are removed.
    """
    found = None
    own = folder / "checkpoints"
    below = [place for name in ("gamma-*", "member-*") for place in sorted(own.glob(f"{name}/checkpoints"))]
    for place in (own, *below):
        remove_torn(place)
        whole = newest_complete(place)
        found = str(whole.relative_to(own)) if whole else found
    return found
