"""``assay evaluate`` and ``assay calibrate``: judge or calibrate any reward model, ours or a plain classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import results_console, say, show
from assay.errors import ConfigError, DataError
from assay.evaluation import (
    BagOfWords,
    DataRow,
    LengthBaseline,
    ReportContent,
    Temperature,
    evaluate,
    fit_calibration,
    mistakes,
    stored_form,
    write_report,
)
from assay.evaluation.powered import powered_accuracy
from assay.evaluation.report import now
from assay.evaluation.terminal import render
from assay.feedback import ReadReport, pairs, read_with_report, split, without_groups
from assay.output import check_new, new_folder, write_json
from assay.scorers import RewardModel
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.data import group_keys, read_judgements, seen_groups, write_seen_groups
from assay.workflows.graded import combined_grades
from assay.workflows.judge_settings import CalibrateSettings, EvaluateSettings
from assay.workflows.judging import (
    Judged,
    all_seen,
    fit_baselines,
    judge,
    leave_out_seen,
    line_of_cycles,
    load_judged,
    load_models,
    margins_on,
    scores_on,
    stored_baselines,
)
from assay.workflows.reporting import rated_notes
from assay.workflows.unjudged import candidates

Baselines = Mapping[str, LengthBaseline | BagOfWords]


def evaluate_model(settings: EvaluateSettings) -> dict[str, Any]:
    """Run `assay evaluate`; return what ``metrics.json`` holds.

    Records whose group or prompt trained a model (as its folder tells, or as ``--train`` does) are left out.
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    names = [name for name in (settings.model, settings.against) if name]
    model, *others = load_judged(settings)
    data, report = read_judgements(settings.data, settings, split=settings.split, graded=settings.graded)
    say("\n".join(report.lines()))
    train = read_judgements(settings.train, settings)[0] if settings.train else None
    data, dropped = _unseen(settings, data, train, names)
    if settings.dry_run:
        known = train is not None or bool(_stored(settings.model))
        return {"dry_run": True, "pairs": len(pairs(data)), "left_out_because_seen": dropped, "baselines": known}
    baselines, missing = ({}, {}) if settings.graded else _baselines(settings, data, train)
    judged = judge(
        model,
        data,
        baselines=baselines if len(pairs(data)) else {},
        grades=combined_grades(data, good_from=settings.good_from),
        against=others[0] if others else None,
        token_budget=settings.token_budget,
        seed=settings.seed,
        resamples=settings.resamples,
    )
    _refuse_nothing(settings, judged)
    if settings.unlabelled is not None and judged.evaluation is not None:
        judged = _with_unlabelled(settings, model, judged)
    found = judged.evaluation.to_dict() if judged.evaluation else None
    counts = {
        "test_pairs": len(judged.view),
        "left_out_because_seen": dropped,
        "truncation": judged.truncation,
        "source": report.to_dict(),
    }
    metrics = {
        "evaluation": found,
        "rated": judged.rated.to_dict() if judged.rated else None,
        **({"cycles": judged.cycles} if judged.cycles else {}),
        "baselines": found.pop("baselines") if found else None,
        "missing": missing,
        "data": counts,
        "model": settings.model,
        "against": settings.against,
        "seed": settings.seed,
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    if settings.out:
        with new_folder(settings.out, overwrite=settings.overwrite) as folder:
            write_report(folder / "report.html", _page(settings, report, metrics, judged))
            write_json(folder / "metrics.json", metrics)
    if judged.evaluation:
        render(judged.evaluation, results_console())
    for line in judged.rated.lines() if judged.rated else ():
        show(line)
    if judged.cycles:
        show(line_of_cycles(judged.cycles))
    for name, reason in missing.items():
        say(f"{name}: {reason}")
    return metrics


def _with_unlabelled(settings: EvaluateSettings, model: RewardModel, judged: Judged) -> Judged:
    """Add what unjudged pairs tell of the accuracy."""
    assert settings.unlabelled is not None and judged.evaluation is not None
    data, report = read_with_report(settings.unlabelled, **settings.reading() | {"split": None, "ratings": "responses"})
    say("\n".join(report.lines()))
    data, _ = leave_out_seen(data, [settings.model], settings.include_seen)
    known = set(judged.view.group.tolist())
    data = data.select([row for row, group in enumerate(data["split_group"]) if group not in known])
    given = candidates(data, judged=True) if len(data) else None
    if given is None or len(given.row) == 0:
        raise DataError(
            "there are no unjudged pairs beside the judged ones",
            where=settings.unlabelled,
            expected="prompts with two different responses, other than those that are judged or trained the model",
            remedy="leave --unlabelled out",
        )
    scored = scores_on(model, data, settings.token_budget)
    calibration = judged.evaluation.calibration
    if calibration is None:
        say("this model is not calibrated: what it expects of itself may be far off, and help little (assay calibrate)")

    def apply(margins: np.ndarray) -> np.ndarray:
        return margins if calibration is None else np.asarray(calibration.apply(margins))

    groups = np.asarray(data["split_group"])[given.row]
    free = apply(scored.records.margins(scored.evidence, given))
    powered = powered_accuracy(judged.view, apply(judged.delta), free, groups)
    return replace(judged, evaluation=replace(judged.evaluation, powered=powered))


def _unseen(settings: EvaluateSettings, data: Dataset, train: Dataset | None, names: list[str]) -> tuple[Dataset, int]:
    """Leave out what trained a model: what ``--train`` holds, or what the models' folders tell."""
    if train is None or settings.include_seen:
        return leave_out_seen(data, names, settings.include_seen)
    data, dropped = _without_training(data, train)
    data, more = leave_out_seen(data, [name for name in names if seen_groups(name) is not None], False)
    return data, dropped + more


def _refuse_nothing(settings: EvaluateSettings, judged: Judged) -> None:
    if judged.evaluation is None and judged.rated is None:
        raise DataError(
            "there is nothing to judge by",
            where=settings.data,
            expected="two responses or more that are graded in every dimension",
            got=f"{judged.truncation['texts']} responses",
            remedy="name one dimension: --mapping.grades (docs/data.md)",
        )


def _without_training(data: Dataset, train: Dataset) -> tuple[Dataset, int]:
    """Leave out what ``--train`` says the model has seen."""
    kept, found = without_groups(data, train)
    if len(kept) == 0:
        raise all_seen(len(data))
    if found:
        kept_by = "--include-seen keeps them"
        say(f"left out {found.train_rows} of {len(data)} records: --train holds their prompts ({kept_by})")
    return kept, found.train_rows


def _page(settings: EvaluateSettings, report: ReadReport, metrics: dict[str, Any], judged: Judged) -> ReportContent:
    view, delta, evaluation = judged.view, judged.delta, judged.evaluation
    source, dropped = Path(settings.data).name, metrics["data"]["left_out_because_seen"]
    texts = judged.rated.n_responses if judged.rated else 0
    amount = f"{len(view):,} judgements" if evaluation else f"{texts:,} graded responses"
    sentence = f"{Path(settings.model).name} on {amount} from {source}."
    if dropped:
        sentence += f" {dropped:,} records whose prompts trained it were left out."
    return ReportContent(
        title=f"Evaluation: {source}",
        sentence=sentence,
        other_name=Path(settings.against).name if settings.against else "the other model",
        evaluation=evaluation,
        data_rows=[
            DataRow(reason, count, None, "dropped when read", "warning") for reason, count in report.dropped.items()
        ],
        mistakes=mistakes(view, delta, 12, calibration=evaluation.calibration) if evaluation else (),
        notes=rated_notes(judged),
        config=settings.model_dump(mode="json"),
        versions=metrics["versions"],
        missing={"learning": "this page judges a finished model", "data": "see the run that trained it"}
        | ({} if evaluation else {"evaluation": "no pair of responses was judged"})
        | metrics["missing"],
        created=now(),
    )


def _stored(model: str) -> Baselines:
    path = Path(model).expanduser()
    return stored_baselines(path) or (stored_baselines(path.parent) if path.name == "model" else {})


def _baselines(settings: EvaluateSettings, data: Dataset, train: Dataset | None) -> tuple[Baselines, dict[str, str]]:
    """Fit the baselines on ``--train``, or take those of the run, or say what is missing."""
    if train is not None:
        kept, found = without_groups(train, data)
        if len(kept) == 0:
            raise ConfigError(
                "every prompt of --train is also judged here, so no baseline can be fitted on it",
                where=str(settings.train),
                remedy="leave --train out, or judge on other data",
            )
        if found:
            say(
                f"baselines: left out {found.train_judgements} judgements of --train whose prompts are also judged here"
            )
        return fit_baselines(kept), {}
    if stored := _stored(settings.model):
        return stored, {}
    reason = "no training data is known for this model; name it with --train DATA to see what words alone achieve"
    # its accuracy needs no fit: the longer response is the longer one at any temperature
    return {"length": LengthBaseline(Temperature(1.0, 0, math.nan, math.nan))}, {"baselines": reason}


def calibrate_model(settings: CalibrateSettings) -> dict[str, Any]:
    """Run `assay calibrate`: fit a calibration on one part of the judgements, check it on the other, store it.

    What is stored is fitted on the first part only, so that the figures of the second are honest. Scores stay as they
    are, and so does the ranking.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    (model,) = load_models(settings, [settings.model])
    data, report = read_judgements(settings.data, settings, split=settings.split)
    say("\n".join(report.lines()))
    data, dropped = leave_out_seen(data, [settings.model], settings.include_seen)
    fitting, checking = split(data, test=settings.check_share, seed=settings.seed)
    fit_view, check_view = pairs(fitting), pairs(checking)
    counts = {"fit_pairs": len(fit_view), "check_pairs": len(check_view), "left_out_because_seen": dropped}
    if settings.dry_run:
        return {"dry_run": True, "data": counts}
    fit_delta, _ = margins_on(model, fitting, fit_view, settings.token_budget)
    check_delta, _ = margins_on(model, checking, check_view, settings.token_budget)
    fitted = fit_calibration(fit_delta, fit_view.p, fit_view.w, settings.calibration)
    found = evaluate(check_view, check_delta, calibration=fitted, seed=settings.seed).to_dict()
    model.record.calibration = stored_form(fitted, "on judgements apart from training")
    metrics = {
        "calibration": model.record.calibration,
        "evaluation": found,
        "before": {name: found[name] for name in ("nll", "brier", "ece")},
        "after": {name: found["calibrated"][name] for name in ("nll", "brier", "ece")},
        "data": counts | {"source": report.to_dict()},
        "model": settings.model,
        "seed": settings.seed,
        "versions": current_versions(),
    }
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        model.save_pretrained(folder)
        write_seen_groups(folder, group_keys(fitting), settings.model)
        write_json(folder / "metrics.json", metrics)
    return metrics
