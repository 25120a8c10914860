"""``assay evaluate`` and ``assay calibrate``: judge or calibrate any reward model, ours or a plain classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import DataError
from assay.evaluation import (
    BagOfWords,
    LengthBaseline,
    ReportContent,
    evaluate,
    fit_temperature,
    mistakes,
    write_report,
)
from assay.feedback import pairs, split
from assay.output import check_new, new_folder, write_json
from assay.scorers import RewardModel
from assay.scorers.provenance import current_versions
from assay.workflows import hardware
from assay.workflows.data import group_keys, read_judgements, unseen
from assay.workflows.judging import fit_baselines, judge, margins_on, stored_baselines
from assay.workflows.settings import CalibrateSettings, EvaluateSettings
from assay.workflows.train import SEEN_GROUPS


def seen_groups(model: str) -> np.ndarray | None:
    """Return the keys of the groups that trained a model, where its folder knows them."""
    for folder in (Path(model), Path(model) / "model"):
        if (folder / SEEN_GROUPS).is_file():
            return np.load(folder / SEEN_GROUPS)
    return None


def leave_out_seen(data: Dataset, models: list[str], include: bool) -> tuple[Dataset, int]:
    """Drop records whose prompt or group trained one of the models, unless they are to stay.

    Raises
    ------
    DataError
        If nothing is left.
    """
    keys = [found for name in models if (found := seen_groups(name)) is not None]
    if not keys or include:
        return data, 0
    kept, dropped = unseen(data, np.unique(np.concatenate(keys)))
    if len(kept) == 0 or len(pairs(kept)) == 0:
        raise DataError(
            "every prompt of this data trained the model; judged on it, the model would look better than it is",
            got=f"{dropped} records, all seen in training",
            remedy="use other data, or --include-seen to do it all the same",
        )
    if dropped:
        say(f"left out {dropped} of {len(data)} records: their prompts trained the model (--include-seen keeps them)")
    return kept, dropped


def evaluate_model(settings: EvaluateSettings) -> dict[str, Any]:
    """Run `assay evaluate`; return what ``metrics.json`` would hold."""
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    model = RewardModel.from_pretrained(settings.model, **settings.encoder_options())
    other = RewardModel.from_pretrained(settings.against, **settings.encoder_options()) if settings.against else None
    data, report = read_judgements(settings.data, settings)
    say("\n".join(report.lines()))
    data, dropped = leave_out_seen(data, [m for m in (settings.model, settings.against) if m], settings.include_seen)
    baselines, missing = _baselines(settings, data)
    if settings.dry_run:
        return {"dry_run": True, "pairs": len(pairs(data)), "left_out_because_seen": dropped, "missing": missing}
    view, delta, evaluation, cut = judge(
        model,
        data,
        baselines=baselines,
        against=other,
        token_budget=settings.token_budget,
        seed=settings.seed,
        resamples=settings.resamples,
    )
    from assay.console import results_console

    evaluation.render(results_console())
    for name, reason in missing.items():
        say(f"{name}: {reason}")
    found = evaluation.to_dict()
    metrics = {
        "evaluation": found,
        "baselines": found.pop("baselines"),
        "missing": missing,
        "data": {
            "test_pairs": len(view),
            "left_out_because_seen": dropped,
            "truncation": cut,
            "source": report.to_dict(),
        },
        "model": settings.model,
        "against": settings.against,
        "seed": settings.seed,
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    if settings.out:
        content = ReportContent(
            title=f"Evaluation: {Path(settings.data).name}",
            sentence=f"{Path(settings.model).name} on {len(view):,} judgements from {Path(settings.data).name}.",
            other_name=Path(settings.against).name if settings.against else "the other model",
            evaluation=evaluation,
            mistakes=mistakes(view, delta, 12, temperature=evaluation.temperature),
            config=settings.model_dump(mode="json"),
            versions=metrics["versions"],
            missing={"learning": "this page judges a finished model", "data": "see the run that trained it", **missing},
        )
        with new_folder(settings.out, overwrite=settings.overwrite) as folder:
            write_report(folder / "report.html", content)
            write_json(folder / "metrics.json", metrics)
    return metrics


def _baselines(
    settings: EvaluateSettings, data: Dataset
) -> tuple[Mapping[str, LengthBaseline | BagOfWords], dict[str, str]]:
    """Fit the baselines on ``--train``, or take those of the run, or say what is missing."""
    if settings.train is not None:
        from assay.feedback import without_groups

        train, _ = read_judgements(settings.train, settings)
        train, found = without_groups(train, data)
        if found:
            say(f"left out {found.train_judgements} training judgements whose prompts are also judged here")
        if len(train) == 0:
            raise DataError("every prompt of the training data is also judged here", where=settings.train)
        return fit_baselines(train), {}
    path = Path(settings.model)
    for run in (path, path.parent):
        stored = stored_baselines(run)
        if stored:
            return stored, {}
    reason = "no training data is known for this model; name it with --train DATA to see what words alone achieve"
    return {"length": LengthBaseline()}, {"baselines": reason}


def calibrate_model(settings: CalibrateSettings) -> dict[str, Any]:
    """Run `assay calibrate`: fit a temperature on one part of the judgements, check it on the other, store it.

    The stored temperature is fitted on the first part only, so that the figures of the second are honest.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    model = RewardModel.from_pretrained(settings.model, **settings.encoder_options())
    data, report = read_judgements(settings.data, settings)
    say("\n".join(report.lines()))
    data, dropped = leave_out_seen(data, [settings.model], settings.include_seen)
    fitting, checking = split(data, test=settings.check_share, seed=settings.seed)
    if settings.dry_run:
        return {"dry_run": True, "fit_pairs": len(pairs(fitting)), "check_pairs": len(pairs(checking))}
    fit_view, check_view = pairs(fitting), pairs(checking)
    fit_delta, _ = margins_on(model, fitting, fit_view, settings.token_budget)
    check_delta, _ = margins_on(model, checking, check_view, settings.token_budget)
    temperature = fit_temperature(fit_delta, fit_view.p, fit_view.w)
    evaluation = evaluate(check_view, check_delta, temperature=temperature, seed=settings.seed)
    stored = temperature.to_dict()
    model.record.calibration = {
        "temperature": stored.pop("value"),
        "method": "temperature on other judgements",
        **stored,
    }
    found = evaluation.to_dict()
    metrics = {
        "calibration": model.record.calibration,
        "evaluation": found,
        "before": {name: found[name] for name in ("nll", "brier", "ece")},
        "after": {name: found["calibrated"][name] for name in ("nll", "brier", "ece")},
        "data": {"fit_pairs": len(fit_view), "check_pairs": len(check_view), "left_out_because_seen": dropped},
        "seed": settings.seed,
        "versions": current_versions(),
    }
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        model.save_pretrained(folder)
        seen = [keys for keys in (seen_groups(settings.model), group_keys(fitting)) if keys is not None]
        np.save(folder / SEEN_GROUPS, np.unique(np.concatenate(seen)))
        write_json(folder / "metrics.json", metrics)
    return metrics
