"""``assay strength``: how strong each preference is to models that did not see it, and which are the most doubtful."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from assay.console import say, show, show_table
from assay.feedback import Pairs
from assay.feedback.records import prompt_text
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.scorers import create_reward_model
from assay.scorers.encoding import encode_records
from assay.scorers.features import FeatureCache
from assay.training.objective import PairwiseObjective
from assay.training.records import TrainingRecords
from assay.workflows import hardware
from assay.workflows.data import read_judgements
from assay.workflows.feedback_settings import Ensemble
from assay.workflows.heads import head_arguments
from assay.workflows.judge_settings import StrengthSettings
from assay.workflows.options import arguments, head_rate, model_options
from assay.workflows.settings import TrainSettings
from assay.workflows.strength import Strength, cross_fitted, most_suspicious

_SHOWN_CHARACTERS = 160
_BAR = 40


def strengths(settings: StrengthSettings) -> dict[str, Any]:
    """Run `assay strength`; return the summary.

    Raises
    ------
    AssayError
        If data, backbone or output place do not fit; nothing is then written.
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    data, report = read_judgements(settings.data, settings, split=settings.split)
    say("\n".join(report.lines()))
    as_training = _as_training(settings)
    model = create_reward_model(model_options(as_training, settings.seed))
    records = encode_records(data, model.encoder)
    if settings.dry_run:
        return {"dry_run": True, "judgements": len(records.pairs)}
    model.to(hardware.best_device())
    features = FeatureCache(model, token_budget=settings.token_budget).features_of(records)
    with tempfile.TemporaryDirectory() as scratch:
        args = head_arguments(arguments(as_training, Path(scratch), settings.seed), head_rate(as_training))
        learned = TrainingRecords(records, features=features)
        strength = cross_fitted(model, args, data, learned, settings, settings.seed, PairwiseObjective())
    how = {name: getattr(settings, name) for name in Ensemble.model_fields}
    summary = {**strength.summary(), **how, "source": report.to_dict()}
    if settings.out:
        _write(settings, summary, records.pairs, strength)
    show_strength(summary, list(most_suspicious(records.pairs, strength, settings.suspicious)))
    return summary


def _as_training(settings: StrengthSettings) -> TrainSettings:
    names = ("data", "backbone", "template", "max_length_tokens", "truncation", "token_budget", "epochs", "seed")
    return TrainSettings(**{name: getattr(settings, name) for name in names}, out="", freeze_backbone=True)


def _write(settings: StrengthSettings, summary: dict[str, Any], given: Pairs, strength: Strength) -> None:
    import json

    with new_folder(str(settings.out), overwrite=settings.overwrite) as folder:
        write_json(folder / "metrics.json", summary)
        rows = (json.dumps(row, ensure_ascii=False) for row in most_suspicious(given, strength, len(given)))
        write_atomic(folder / "judgements.jsonl", "".join(f"{row}\n" for row in rows))


def show_strength(summary: dict[str, Any], weakest: list[dict[str, Any]]) -> None:
    """Print the histogram and the most doubtful judgements."""
    if not summary["judgements"]:
        show("every judgement is a tie: there is no preference to doubt")
        return
    counts, bounds = summary["histogram"]["counts"], summary["histogram"]["bounds"]
    most = max(counts)
    rows = [
        [f"{low:+.2f} to {high:+.2f}", count, "#" * round(_BAR * count / most)]
        for low, high, count in zip(bounds, bounds[1:], counts, strict=False)
    ]
    show_table(rows, ["strength", "judgements", ""], title="margin by models that did not see the judgement")
    show(f"{summary['doubted']:.1%} of {summary['judgements']:,} preferences would have been judged the other way")
    for number, row in enumerate(weakest, 1):
        judge = row["annotator"] or row["source"]
        show(f"{number}. strength {row['strength']:+.2f} (deviation {row['std']:.2f}), by {judge}")
        for name, text in (
            ("prompt", prompt_text(row["prompt"])),
            ("preferred", row["preferred"]),
            ("other", row["other"]),
        ):
            show(f"   {name}: {_short(text)}")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else flat[: _SHOWN_CHARACTERS - 1] + "…"
