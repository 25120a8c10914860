"""The verbs: what each reads, runs and shows. The command line and recipes take them from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from assay.config import Settings
from assay.console import results_console, show, show_table
from assay.evaluation.words import percent, percent_interval, points, points_interval
from assay.workflows.classify_settings import ClassifySettings
from assay.workflows.compare_settings import CompareSettings
from assay.workflows.curriculum_settings import CurriculumSettings
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
from assay.workflows.online_settings import OnlineMethod, OnlineSettings
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.settings import EvolveSettings, TrainSettings
from assay.workflows.study_settings import StudySettings
from assay.workflows.task_settings import TaskSettings

FOUND_ERRORS = 1


@dataclass(frozen=True)
class Verb:
    """A verb: its settings, and a function that runs it, shows the result and returns the exit code.

    Attributes
    ----------
    settings, run
        Of the verb.
    by_method
        Values of the setting ``method`` that make another verb of it, with settings of its own.
    """

    settings: type[Settings]
    run: Callable[[Any], int]
    by_method: Mapping[str, Verb] = field(default_factory=dict)

    def of_method(self, method: Any) -> Verb:
        """Return the verb that a method belongs to."""
        return self.by_method.get(str(method), self)

    def of_words(self, words: Sequence[str]) -> Verb:
        """Return the verb that command-line words, or the file that they name, ask for by their method."""
        if not self.by_method:
            return self
        found = None
        for name in ("--config", "--method"):
            given = [other for word, other in zip(words, [*words[1:], ""], strict=True) if word == name]
            given += [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
            if given and name == "--method":
                found = given[-1]
            elif given:
                found = _method_in(given[-1])
        return self.of_method(found)


def _method_in(path: str) -> Any:
    """Return the method that a file names; what is wrong with the file is told when its settings are read."""
    try:
        values = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return values.get("method") if isinstance(values, dict) else None


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


def _task(settings: TaskSettings) -> int:
    from assay.workflows.task_verb import build_task

    found = build_task(settings)
    shares = ", ".join(f"{count:,} {name}" for name, count in found["shares"].items())
    pairs = ", ".join(f"{own['pairs']:,} {kind}" for kind, own in found["pairs"].items())
    where = "nothing was written" if found.get("dry_run") else f"in {settings.out}"
    show(f"{found['task']}: examples by share: {shares}; pairs: {pairs}; {where}")
    return 0


def _classify(settings: ClassifySettings) -> int:
    from assay.workflows.classify_verb import classify_policies

    found = classify_policies(settings)
    if found.get("dry_run"):
        show(f"would ask {len(found['policies'])} policies {found['examples']:,} times; nothing was written")
        return 0
    for name, own in found["policies"].items():
        low, high = own["accuracy"]["ci95"]
        gap = own.get("above_the_first")
        above = "" if gap is None else f"; {points(gap['value'])} ({points_interval(gap['ci95'])}) above the first"
        show(
            f"{name}: {percent(own['accuracy']['value'])} right ({percent_interval((low, high))}), "
            f"{percent(own['unread'])} without a label{above}"
        )
    for point in found["best_of"] or []:
        show(f"best of {point['n']} by {point['by']}: {percent(point['gold']['value'])}")
    for kind, own in (found["pairs"] or {}).items():
        for name, each in own.items():
            share, between = percent(each["accuracy"]["value"]), percent_interval(each["accuracy"]["ci95"])
            show(f"{kind.replace('_', ' ')} by {name}: {share} in the right order ({between})")
    show(f"metrics.json, answers.jsonl and report.html are in {settings.out}")
    return 0


def _align(settings: AlignSettings) -> int:
    from assay.workflows.align_verb import align
    from assay.workflows.summary import show_train_summary

    show_train_summary(settings, align(settings))
    return 0


def _align_online(settings: OnlineSettings) -> int:
    from assay.workflows.online import align_online

    done = align_online(settings)
    if done.get("dry_run"):
        show(f"{done['cycles']:,} cycles, {done['steps']:,} steps, {done['prompts']:,} prompts; nothing was written")
        return 0
    first, last = done["first"], done["last"]
    show(
        f"reward of a cycle: {_three(first['reward'])} at first, {_three(last['reward'])} at last ({done['cycles']:,})"
    )
    if done["held_out"]["before"]:
        for name, value in done["held_out"]["before"].items():
            show(f"held-out {name}: {_three(value)} before, {_three(done['held_out']['after'][name])} after")
    show(f"model, metrics.json, history.jsonl, samples.jsonl and report.html are in {settings.out}")
    return 0


def _three(value: float | None) -> str:
    return "none" if value is None or value != value else f"{value:.3f}"


def _curriculum(settings: CurriculumSettings) -> int:
    from assay.workflows.curriculum_verb import learn_tasks

    found = learn_tasks(settings)
    if found.get("dry_run"):
        show(f"would learn {', '.join(found['tasks'])}; nothing was written")
        return 0
    learned = ", then ".join(" and ".join(stage["learned"]) for stage in found["stages"])
    show(f"learned {learned}")
    for task in found["tasks"]:
        show(f"{task}: {percent(found['before'][task])} right before, {percent(found['after'][task])} after")
    show(f"metrics.json and all runs are in {settings.out}")
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
    if found.get("agreement"):
        same = found["agreement"]["same_order"]
        if same is not None:
            show(f"--by and --gold order {100 * same['value']:.1f} % of the pairs alike ({_points(same['ci95'])})")
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
    from assay.workflows.benchmark_verb import evaluate_benchmark
    from assay.workflows.judge_verbs import evaluate_model
    from assay.workflows.summary import show_evaluation_end

    if settings.benchmark is not None:
        found = evaluate_benchmark(settings, settings.benchmark)
        if found.get("dry_run"):
            show(f"would judge on {found['items']:,} prompts of {found['benchmark']}; nothing was written")
        return 0
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
    "task": Verb(TaskSettings, _task),
    "classify": Verb(ClassifySettings, _classify),
    "strength": Verb(StrengthSettings, _strength),
    "train": Verb(TrainSettings, _train),
    "align": Verb(AlignSettings, _align, dict.fromkeys(get_args(OnlineMethod), Verb(OnlineSettings, _align_online))),
    "curriculum": Verb(CurriculumSettings, _curriculum),
    "compare": Verb(CompareSettings, _compare),
    "evaluate": Verb(EvaluateSettings, _evaluate),
    "calibrate": Verb(CalibrateSettings, _calibrate),
    "score": Verb(ScoreSettings, _score),
    "select": Verb(SelectSettings, _select),
    "evolve": Verb(EvolveSettings, _evolve),
    "study": Verb(StudySettings, _study),
    "export": Verb(ExportSettings, _export),
}
