"""The verbs: what each reads, runs and shows. The command line and recipes take them from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assay.config import Settings
from assay.console import results_console, show, show_table
from assay.workflows.compare_settings import CompareSettings
from assay.workflows.judge_settings import (
    CalibrateSettings,
    CheckSettings,
    EvaluateSettings,
    ExportSettings,
    ScoreSettings,
    SelectSettings,
    StrengthSettings,
)
from assay.workflows.label_settings import LabelSettings
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.settings import EvolveSettings, TrainSettings
from assay.workflows.study_settings import StudySettings

FOUND_ERRORS = 1


@dataclass(frozen=True)
class Verb:
    """A verb: its settings, and a function that runs it, shows the result and returns the exit code."""

    settings: type[Settings]
    run: Callable[[Any], int]


def _check(settings: CheckSettings) -> int:
    from assay.workflows.check_verb import check_data

    report = check_data(settings)
    report.render(results_console())
    return 0 if report.ok else FOUND_ERRORS


def _label(settings: LabelSettings) -> int:
    from assay.workflows.label_verb import label

    found = label(settings)
    if found.get("dry_run"):
        show(f"would label {found['pairs']:,} pairs, taught by {found['teaching']:,}; nothing was written")
    return 0


def _align(settings: AlignSettings) -> int:
    from assay.workflows.align_verb import align
    from assay.workflows.summary import show_train_summary

    show_train_summary(settings, align(settings))
    return 0


def _compare(settings: CompareSettings) -> int:
    from assay.workflows.compare_verb import compare

    found = compare(settings)
    if found.get("dry_run"):
        show(f"{' and '.join(found['policies'])} would answer {found['prompts']:,} prompts; nothing was written")
        return 0
    show(f"{found['policy']} against {found['against']}")
    for name, grade in (found["grades"] or {}).items():
        own, other, gap = (grade[side] for side in ("policy", "against", "difference"))
        difference = f"{gap['value']:+.2f} ({_numbers(gap['ci95'])})"
        show(f"{name}: {found['scale']} {own['value']:.2f} against {other['value']:.2f}, {difference}")
    if found.get("ungraded"):
        show(f"{found['ungraded']:,} turns were not graded: the judge said neither yes nor no")
    for name, won in found["win_rate"].items():
        rates = [won["rate"], won["controlled"]]
        shown = [f"{100 * rate['value']:.1f} % ({_points(rate['ci95'])})" for rate in rates]
        show(f"{name}: preferred in {shown[0]}; at equal length {shown[1]}")
    if found["divergence"] is not None:
        show(f"divergence: {found['divergence']['per_response']['value']:.3f} nats a response")
    show(f"samples.jsonl, metrics.json and report.html are in {settings.out}")
    return 0


def _numbers(interval: list[float] | None) -> str:
    return "no interval" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def _points(interval: list[float] | None) -> str:
    return "no interval" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _train(settings: TrainSettings) -> int:
    from assay.workflows.summary import show_train_summary
    from assay.workflows.train import train

    done = train(settings)
    if done:  # of several processes, the first shows it
        show_train_summary(settings, done)
    return 0


def _strength(settings: StrengthSettings) -> int:
    from assay.workflows.strength_verb import strengths

    found = strengths(settings)
    if found.get("dry_run"):
        show(f"would judge {found['judgements']:,} judgements; nothing was written")
    return 0


def _evaluate(settings: EvaluateSettings) -> int:
    from assay.workflows.judge_verbs import evaluate_model
    from assay.workflows.summary import show_evaluation_end

    show_evaluation_end(settings, evaluate_model(settings))
    return 0


def _calibrate(settings: CalibrateSettings) -> int:
    from assay.workflows.judge_verbs import calibrate_model
    from assay.workflows.summary import show_calibration

    show_calibration(settings, calibrate_model(settings))
    return 0


def _score(settings: ScoreSettings) -> int:
    from assay.workflows.score_verbs import score_data

    score_data(settings)
    return 0


def _select(settings: SelectSettings) -> int:
    from assay.workflows.select_verb import select

    found = select(settings)
    if found.get("dry_run"):
        show(f"would choose among {found['candidates']:,} pairs by {found['method']}; nothing was written")
    else:
        show(
            f"{found['selected']:,} of {found['candidates']:,} pairs, by {found['method']}: {settings.out}/pairs.jsonl"
        )
    return 0


def _evolve(settings: EvolveSettings) -> int:
    from assay.workflows.evolve_verb import evolve

    found = evolve(settings)
    if found.get("dry_run"):
        show(f"would begin with {found['judgements']:,} judgements and label among {found['pool']:,} pairs")
        return 0
    for one in found["rounds"]:
        accuracy = one["evaluation"]["accuracy"] if one["evaluation"] else None
        tested = f", accuracy {100 * accuracy['value']:.1f} % on the test share" if accuracy else ""
        known = f"NLL {one['nll']:.4f} on judgements kept apart{tested}"
        show(f"round {one['round']}: {one['labels']:,} self-labels, {known}")
    show(f"ended: {found['stopped']}; the result is round {found['best']}, in {settings.out}/model")
    return 0


def _study(settings: StudySettings) -> int:
    from assay.workflows.study_results import notes, table
    from assay.workflows.study_verb import study

    found = study(settings)
    if found.get("dry_run"):
        show(f"would train {found['cells']:,} models by {', '.join(found['methods'])}; nothing was written")
        return 0
    columns, lines = table(found)
    show_table(lines, columns, title="Accuracy by number of labels")
    show("\n".join([*notes(found), "", *found["recommendation"]]))
    show(f"results.json, study.md and efficiency.svg are in {settings.out}")
    return 0


def _export(settings: ExportSettings) -> int:
    from assay.workflows.score_verbs import export_model

    found = export_model(settings)
    if settings.dry_run:
        show("would export it; nothing was written")
    else:
        show(f"{settings.out}: a plain sequence classifier; largest score difference {found['largest_difference']:.2g}")
    return 0


#: Verbs that a recipe's stages may name.
STAGES: dict[str, Verb] = {
    "check": Verb(CheckSettings, _check),
    "label": Verb(LabelSettings, _label),
    "strength": Verb(StrengthSettings, _strength),
    "train": Verb(TrainSettings, _train),
    "align": Verb(AlignSettings, _align),
    "compare": Verb(CompareSettings, _compare),
    "evaluate": Verb(EvaluateSettings, _evaluate),
    "calibrate": Verb(CalibrateSettings, _calibrate),
    "score": Verb(ScoreSettings, _score),
    "select": Verb(SelectSettings, _select),
    "evolve": Verb(EvolveSettings, _evolve),
    "study": Verb(StudySettings, _study),
    "export": Verb(ExportSettings, _export),
}
