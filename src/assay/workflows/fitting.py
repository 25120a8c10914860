"""Fit a reward model on shares of judgements and calibrate it: all weights, LoRA, or the head on a frozen backbone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from assay.console import say
from assay.errors import DataError
from assay.evaluation import Calibration, stored_form
from assay.scorers import RewardModel, create_reward_model
from assay.scorers.encoding import EncodedRecords, encode_records, score_records, scores_in
from assay.scorers.ensemble import EnsembleModel
from assay.scorers.features import FeatureCache
from assay.scorers.preference import PreferenceHead
from assay.training import PreferenceTrainer
from assay.training.checkpoints import newest_complete, remove_torn, step_of
from assay.training.progress import TerminalProgress
from assay.training.records import TrainingRecords
from assay.workflows import hardware, ranks
from assay.workflows.banks import bank_of, refuse_few, start_bank
from assay.workflows.data import Shares
from assay.workflows.feedback_settings import MarginMatching
from assay.workflows.graded import with_attributes
from assay.workflows.heads import blind_to, head_arguments, record_folds, train_heads
from assay.workflows.members import add_laplace, samples_of
from assay.workflows.options import arguments, head_rate, model_options
from assay.workflows.prepared import Prepared
from assay.workflows.settings import TrainSettings
from assay.workflows.targets import each_of_sweep, make_targets, objective_of
from assay.workflows.teaching import (
    appended,
    calibration_of,
    refuse_equal_views,
    refuse_nothing,
    step_rule_of,
    taught_from,
)

#: Training responses that scores without a scalar are compared with, at most, where they must be encoded anew.
_COMPARED = 2048

#: Seeds of members lie this far apart, so that those of neighbouring runs differ.
MEMBER_SEEDS = 1000


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
    calibration
        As stored with the model, or None.
    feedback
        What was done to the judgements before they were learned from.
    told
        The same in lines of text.
    target
        The settings of the targets that it learned, of a sweep those that were chosen.
    taught
        What it learned from: a share that is held out takes gamma and the scale of gaps over.
    bank
        Of heads with prototypes or landmarks: what became of them; else empty.
    """

    model: RewardModel
    train_loss: list[tuple[float, float]] = field(default_factory=list)
    validation_loss: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    pairs: int = 0
    tokens: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    feedback: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    target: Any = None
    taught: Prepared | None = None
    bank: dict[str, Any] = field(default_factory=dict)

    def throughput(self) -> dict[str, float]:
        """Return judgements and tokens per second of training."""
        seconds = max(self.seconds, 1e-9)
        return {
            "pairs_per_second": self.pairs / seconds,
            "tokens_per_second": self.tokens / seconds,
            "training_seconds": self.seconds,
        }


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
        return _fit_frozen(settings, shares, folder, model)
    data, told = appended(settings, shares.fit)
    samples = samples_of(settings, data)
    if member is not None and samples is not None:
        drawn = np.flatnonzero(samples[:, member])
        data, samples = data.select(drawn), samples[drawn, member]
    with ranks.first_alone():
        alone = model.reads_prompts
        train = encode_records(data, model.encoder, prompts=alone)
        validation = shares.validation
        held_out = encode_records(validation, model.encoder, prompts=alone) if validation is not None else None
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
    whole = newest_complete(folder / "checkpoints") if settings.resume else None
    try:
        trainer.train(resume_from_checkpoint=settings.resume)
    finally:
        # an interrupted run must give the terminal its cursor back
        shown.on_train_end(trainer.args, trainer.state, trainer.control)
    whole_model = trainer.gathered(lambda: create_reward_model(model_options(settings, settings.seed)))
    if whole_model is None:
        return Fit(model, target=settings.target)  # another process has the weights, and does the rest
    model = cast(RewardModel, whole_model)
    result = _result(model, trainer, taught, since=step_of(whole) if whole else 0)
    result.target = settings.target
    compare_with(model, lambda: _states_of(model, train, np.flatnonzero(train.responses)[:_COMPARED], settings))
    _calibrate(settings, result, train, held_out, kept_apart)
    result.bank = bank_of(model, learned, data, lambda texts: _states_of(model, train, texts, settings))
    add_laplace(settings, model, taught.taught(), lambda texts: _states_of(model, train, texts, settings))
    return result


def compare_with(model: RewardModel, states: Callable[[], torch.Tensor]) -> None:
    """Store what responses are compared with where the head knows margins only."""
    if isinstance(model.head, PreferenceHead):
        model.head.compare_with(states().to(model.head.anchor.device))


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
        margins = held_out.margins(evidence)
        margins = margins.mean(axis=1) if margins.ndim == 2 else margins
        mean = values.mean(axis=1) if values.ndim == 2 else values
        result.calibration = calibration_of(settings, held_out, kept_apart.grades, mean, margins)
        # the scores of unseen texts show where scores lie in use; those of training texts are stretched
        _store(result, values[held_out.responses], "on the validation share")
        return
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    values = scores_in(score_records(model, train, dtype=dtype, token_budget=settings.token_budget))
    _store(result, values[train.responses], None)


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


def _fit_frozen(settings: TrainSettings, shares: Shares, folder: Path, model: RewardModel) -> Fit:
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
    result = _result(heads, trainer, taught)
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
    _store(
        result,
        members[records.responses],
        method + (" (cleaned together)" if settings.clean.kind != "none" else ""),
    )
    return result


def _result(model: RewardModel, trainer: PreferenceTrainer, taught: Prepared, since: int = 0) -> Fit:
    """Gather what was logged; ``since`` is the step that a resumed run began at, whose work took other seconds."""
    records = taught.records
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
        feedback=taught.report(),
        told=taught.lines(),
        # features are large, and nothing looks at them any more
        taught=replace(taught, features=None),
    )


def _store(result: Fit, values: np.ndarray, method: str | None) -> None:
    """Keep score statistics and calibration with the model."""
    members = values.astype(np.float64).reshape(len(values), -1)
    mean = members.mean(axis=1)
    result.model.record.score = {"mean": float(mean.mean()), "std": float(mean.std())}
    if members.shape[1] > 1:
        result.model.record.score["members"] = members.mean(axis=0).tolist()
    if result.calibration is not None and method:
        result.model.record.calibration = stored_form(result.calibration, method)
