"""``assay train``: judgements in; a trained, calibrated, judged and saved reward model, and a report, out."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from assay.config import dump_yaml
from assay.console import say
from assay.errors import ConfigError
from assay.feedback import pairs
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.scorers import RewardModel, backbones, create_reward_model
from assay.scorers.encoding import encode_records, score_records, scores_in
from assay.scorers.layout import Layout
from assay.training.data import TextSource
from assay.training.objective import Objective
from assay.training.plan import plan_batches
from assay.training.records import TrainingRecords
from assay.versions import current_versions
from assay.workflows import hardware, ranks
from assay.workflows.data import (
    Shares,
    check_sources,
    content_key,
    group_keys,
    read_judgements,
    share_out,
    without_prompts,
    write_seen_groups,
)
from assay.workflows.fits import Fit, sides_of, store_sides
from assay.workflows.fitting import fit, newest_checkpoint
from assay.workflows.graded import rated_grades, with_attributes
from assay.workflows.head_settings import ALONE
from assay.workflows.judging import fit_baselines, judge, line_of_cycles, margins_on
from assay.workflows.members import warn_of_one
from assay.workflows.model_settings import OptimiserSettings
from assay.workflows.options import model_options, resolved
from assay.workflows.prepared import Prepared
from assay.workflows.reporting import write_run_report
from assay.workflows.resuming import kept_if_resumable, refuse_another_run
from assay.workflows.settings import JobSettings, TrainSettings
from assay.workflows.soft_targets import against_targets, line_of
from assay.workflows.summary import shares_lines
from assay.workflows.targets import each_of_sweep, make_targets, needs_features, objective_of
from assay.workflows.teaching import appended, features_as_it_came

IDENTITY = "run.json"


def train(settings: TrainSettings) -> dict[str, Any]:
    """Run `assay train`; return what ``metrics.json`` holds.

    In several processes all of them train, and the first does the rest; the others return nothing.

    The run folder holds ``model/``, ``config.yaml`` (resolved), ``metrics.json``, ``report.html``, ``data_check.json``,
    ``baselines/`` and, while it runs (then under ``RUN.partial``), ``checkpoints/``.

    Raises
    ------
    AssayError
        Before anything is written, if data, model, settings or output place do not fit. Later, if the disk is full or
        the loss is no number; the partial folder is then kept for ``--resume`` if it holds a whole checkpoint.
    """
    if not ranks.is_first():
        return _accompany(settings)
    started = time.perf_counter()
    if settings.freeze_backbone and ranks.count() > 1:
        raise ConfigError(
            "a head on a frozen backbone trains in one process",
            got=f"{ranks.count()} processes",
            remedy="leave out the launcher: it is seconds of work, and the features are computed once",
        )
    parts = {
        f"--head {settings.head.kind}": settings.head.kind in ALONE,
        "--meta": settings.meta,
        "--ensemble": settings.ensemble,
        "--laplace": settings.laplace,
    }
    alone = [name for name, used in parts.items() if used]
    if alone and ranks.count() > 1:
        raise ConfigError(
            f"{' and '.join(alone)}: this trains in one process",
            got=f"{ranks.count()} processes",
            remedy="leave out the launcher, or the setting",
        )
    check_new(settings.out, overwrite=settings.overwrite)
    backbones.load_config(settings.backbone)  # a mistyped name shows before much data is read
    shares = prepare(settings)
    say("\n".join([*(line for report in shares.reads for line in report.lines()), *shares_lines(settings, shares)]))
    settings = with_attributes(settings, shares.training)
    model = create_reward_model(model_options(settings, settings.seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    if settings.dry_run:
        return _plan_only(settings, shares, model)
    with new_folder(settings.out, overwrite=settings.overwrite, resume=settings.resume, keep_on_error=True) as folder:
        identity = identity_of(settings, shares)
        refuse_another_run(folder / IDENTITY, identity)
        with kept_if_resumable(folder, newest_checkpoint):
            write_json(folder / IDENTITY, identity)
            ranks.share_folder(folder)
            done = _train_in(folder, settings, shares, model)
            for name in ("checkpoints", "blind"):
                shutil.rmtree(folder / name, ignore_errors=True)
            (folder / IDENTITY).unlink()
            done["seconds"] = time.perf_counter() - started
            write_json(folder / "metrics.json", done)
    return done


def _accompany(settings: TrainSettings) -> dict[str, Any]:
    """Train beside the first process, which has made the folder and writes everything but this process's own state."""
    if settings.dry_run:
        return {}
    with ranks.silent():
        folder = ranks.share_folder()
        shares = prepare(settings)
        settings = with_attributes(settings, shares.training)
        model = create_reward_model(model_options(settings, settings.seed))
        settings = resolved(settings, sum(p.numel() for p in model.parameters()))
        done = fit(settings, shares, folder, model)
        if settings.baseline_blind and shares.test is not None:
            fit(settings.model_copy(update={"target": done.target}), _without_prompts(shares), folder / "blind")
    return {}


def prepare(settings: TrainSettings) -> Shares:
    """Read the data and share it out by purpose."""
    warn_of_one(settings)
    return shares_of(
        settings,
        graded=settings.objective.kind != "pairwise",
        validation_share=0.0 if settings.freeze_backbone else settings.validation_share,
    )


def shares_of(settings: JobSettings, *, validation_share: float, graded: bool | None = False) -> Shares:
    """Read the data of a run and share it out; ``graded``: for what learns from grades (`read_judgements`)."""
    data, report = read_judgements(settings.data, settings, split=settings.split, graded=graded)
    reads, test = [report], None
    if settings.test is not None:
        test, second = read_judgements(settings.test, settings, graded=graded)
        reads.append(second)
    seed = settings.seed if settings.test_groups_seed is None else settings.test_groups_seed
    return share_out(
        data, test=test, test_share=settings.test_share, validation_share=validation_share, seed=seed, reads=reads
    )


def _train_in(folder: Path, settings: TrainSettings, shares: Shares, model: RewardModel) -> dict[str, Any]:
    checks = check_sources(settings, shares.reads)
    write_json(folder / "data_check.json", [check.to_dict() for check in checks])
    result = fit(settings, shares, folder, model)
    model = result.model
    if shares.test is not None and "preferred" not in (model.record.score or {}):
        # what is too little to hold some out of for calibration: the test trained nothing either
        held_out = encode_records(shares.test, model.encoder, prompts=model.reads_prompts)
        values = scores_in(score_records(model, held_out, token_budget=settings.token_budget))
        store_sides(model, sides_of(held_out, values))
    model.record.data = data_card(settings, shares)
    model.save_pretrained(folder / "model")
    write_seen_groups(folder / "model", group_keys(shares.training), settings.backbone)
    write_atomic(folder / "config.yaml", dump_yaml(settings.model_copy(update={"resume": False, "overwrite": False})))
    judged_at_all = len(pairs(shares.training)) > 0
    baselines = fit_baselines(shares.training, folder / "baselines") if judged_at_all else {}
    metrics = untested(settings, shares, result)
    if result.bank:
        metrics[settings.head.kind] = result.bank
    if shares.test is None:
        metrics = {"evaluation": None, "rated": None, "baselines": None, **metrics}
        write_run_report(folder / "report.html", settings, shares, result, metrics, checks, how=_how(settings))
        return metrics
    judged = judge(
        model,
        shares.test,
        baselines=baselines,
        grades=rated_grades(settings.target, settings.objective, shares.test),
        extra=_blind(settings.model_copy(update={"target": result.target}), shares, folder),
        token_budget=settings.token_budget,
        keep_features=settings.freeze_backbone,
        seed=settings.seed,
        resamples=settings.resamples,
    )
    found = judged.evaluation.to_dict() if judged.evaluation else None
    baseline_results = found.pop("baselines") if found else None
    rated = judged.rated.to_dict() if judged.rated else None
    metrics = {"evaluation": found, "rated": rated, "baselines": baseline_results, **metrics}
    metrics["data"]["test_truncation"] = judged.truncation
    if judged.cycles is not None:
        metrics["cycles"] = judged.cycles
        say(line_of_cycles(judged.cycles))
    if judged.evaluation and judged.evaluation.uncertainty:
        say(judged.evaluation.uncertainty.sentence())
    soft = against_targets(
        result.target,
        settings.objective,
        result.taught,
        shares.test,
        judged.records,
        dict(zip(judged.view.id.tolist(), judged.delta.tolist(), strict=True)),
        result.calibration,
    )
    if soft is not None:
        metrics["soft_targets"] = soft
        result.told.append(line_of(soft))
        say(line_of(soft))
    write_run_report(folder / "report.html", settings, shares, result, metrics, checks, judged, how=_how(settings))
    return metrics


def _how(settings: TrainSettings) -> str:
    trained = "LoRA inside the backbone" if settings.lora else "all weights"
    if settings.freeze_backbone:
        trained = "its head on a frozen backbone"
    return f"A reward model around {Path(settings.backbone).name or settings.backbone} ({trained}) was trained"


def untested(settings: JobSettings, shares: Shares, result: Fit) -> dict[str, Any]:
    """Return what ``metrics.json`` says of a training before anything is tested."""
    return {
        "data": data_counts(shares, result),
        "throughput": result.throughput(),
        "training": {"train_loss": result.train_loss, "validation_loss": result.validation_loss},
        "calibration": result.model.record.calibration,
        "score": result.model.record.score,
        "feedback": result.feedback,
        "seed": settings.seed,
        "settings": settings.model_dump(mode="json"),
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }


def _blind(settings: TrainSettings, shares: Shares, folder: Path) -> dict[str, np.ndarray]:
    """Train the same model without prompts; its margins on the test share show what the responses alone give away."""
    if not settings.baseline_blind:
        return {}
    hidden = _without_prompts(shares)
    blind = fit(settings, hidden, folder / "blind").model
    keep = settings.freeze_backbone
    return {"blind": margins_on(blind, hidden.test, pairs(hidden.test), settings.token_budget, keep_features=keep)[0]}


def _without_prompts(shares: Shares) -> Shares:
    return Shares(
        without_prompts(shares.fit),
        without_prompts(shares.validation) if shares.validation is not None else None,
        without_prompts(shares.test) if shares.test is not None else None,
    )


def data_counts(shares: Shares, result: Fit) -> dict[str, Any]:
    """Count judgements, groups and what was lost on the way."""
    counts: dict[str, Any] = {
        "train_pairs": len(pairs(shares.fit)),
        "validation_pairs": len(pairs(shares.validation)) if shares.validation is not None else 0,
        "test_pairs": len(pairs(shares.test)) if shares.test is not None else 0,
        "train_texts": _responses(shares.fit),
        "test_texts": _responses(shares.test) if shares.test is not None else 0,
        "train_groups": len(set(shares.training["split_group"])),
        "test_groups": len(set(shares.test["split_group"])) if shares.test is not None else 0,
        "sources": [report.to_dict() for report in shares.reads],
        **result.counts,
    }
    if shares.removed:
        counts["removed_from_training_because_in_test"] = shares.removed.to_dict()
    return counts


def _responses(data: Dataset) -> int:
    batches = data.select_columns(["responses"]).iter(1000)
    return sum(len(responses) for batch in batches for responses in batch["responses"])


def data_card(settings: JobSettings, shares: Shares) -> dict[str, Any]:
    """Return what the model card says of the data: names of sources without their folders, and counts."""
    return {
        "trained_on": ", ".join(Path(report.source).name for report in shares.reads[:1]),
        "judgements": len(pairs(shares.training)),
        "prompts": len(shares.training),
        "seed": settings.seed,
    }


def identity_of(settings: JobSettings, shares: Shares) -> dict[str, Any]:
    """Return what a run must share with the one that it continues."""
    return {
        "settings": settings.model_dump(mode="json", exclude={"resume", "overwrite", "out", "dry_run"}),
        "judgements": content_key((shares.fit, shares.validation, shares.test)),
        "torch": torch.__version__,
    }


def steps_planned(
    settings: OptimiserSettings, seed: int, learned: TrainingRecords, layout: Layout, objective: Objective
) -> int:
    """Return how many steps a training would take."""
    plan = plan_batches(
        TextSource(learned, layout, settings.token_budget, objective.items(learned)).sizes(),
        epochs=settings.epochs or 1,
        pairs_per_step=settings.pairs_per_step,
        token_budget=settings.token_budget,
        seed=seed,
    )
    return len(plan)


def _plan_only(settings: TrainSettings, shares: Shares, model: RewardModel) -> dict[str, Any]:
    """Plan the steps as training would; judgements that cleaning would leave out are still in them."""
    data, _ = appended(settings, shares.fit)
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    features = features_as_it_came(settings, model, records) if needs_features(settings) else None
    given = Prepared(records, features=features)
    tried = [make_targets(target, settings.objective, data, given) for target in each_of_sweep(settings.target)]
    for line in (line for each in tried for line in each.lines()):
        say(line)
    taught = tried[0]
    learned = TrainingRecords(taught.records, model.encoder.pad_id, grades=taught.grades)
    return {
        "dry_run": True,
        "steps": steps_planned(settings, settings.seed, learned, model.row_layout, objective_of(settings)),
        "data": data_counts(shares, Fit(model)),
        "feedback": taught.report() if len(tried) == 1 else {"sweep": [each.report() for each in tried]},
        "settings": settings.model_dump(mode="json"),
    }
