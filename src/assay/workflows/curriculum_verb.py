"""``assay curriculum``: a policy learns several tasks, all at once or in the order of what they do to each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.config import build, to_plain
from assay.console import say
from assay.errors import ConfigError, DataError
from assay.evaluation.transfer import backward_transfer, best_order, order_value
from assay.feedback import read
from assay.output import as_bytes, check_new, new_folder, write_atomic, write_json
from assay.scorers.provenance import kept_conversation
from assay.versions import current_versions
from assay.workflows.classify_settings import ClassifySettings
from assay.workflows.classify_verb import classify_policies
from assay.workflows.curriculum_settings import CurriculumSettings
from assay.workflows.data import group_keys, seen_groups, unseen
from assay.workflows.online import align_online
from assay.workflows.online_settings import BY_LABEL, OnlineSettings
from assay.workflows.resuming import refuse_another_run
from assay.workflows.task_files import read_task


@dataclass(frozen=True)
class _Tasks:
    """What is learned and judged.

    Attributes
    ----------
    folders
        Task -> folder.
    seen
        Keys of the groups that some policy or reward model of the run has seen: no policy is judged on them, so that
        all are judged on the same examples.
    choosing, judging
        Keys of two halves of the other test groups, by task: by the first the order is chosen, so it takes no part in
        what is told of the policies. Empty, both of them, where no order is chosen.
    """

    folders: dict[str, str]
    seen: np.ndarray
    choosing: np.ndarray
    judging: np.ndarray


_RUNTIME = ("resume", "overwrite", "dry_run")
_IDENTITY = "identity.json"


def learn_tasks(settings: CurriculumSettings) -> dict[str, Any]:
    """Run `assay curriculum`; return what ``metrics.json`` holds.

    Where the order is measured, one half of each task's test groups chooses it and the other half judges all policies.
    The folder holds a run of `assay align` per stage, the judgements of `assay classify` of each policy on all tasks,
    and ``prompts.jsonl`` of all tasks where they are learned at once. Each of them is whole or not there, and
    ``--resume`` goes on behind those that are.

    Raises
    ------
    AssayError
        Before anything is trained, if a task, a reward model's place or settings do not fit.
    """
    if not _goes_on(settings):
        check_new(settings.out, overwrite=settings.overwrite)
    # one length for all: a backbone is judged by what it was taught with, and would learn on by what it was made for
    kept = kept_conversation(settings.backbone) if settings.max_length_tokens is None else None
    if kept is not None:
        settings = settings.model_copy(update={"max_length_tokens": kept.max_length_tokens})
    folders = {read_task(folder)[0].name: folder for folder in settings.tasks}
    if len(folders) < len(settings.tasks):
        raise DataError("two folders hold the same task", where="tasks", got=", ".join(settings.tasks))
    if settings.rewards and set(settings.rewards) != set(folders):
        raise ConfigError(
            "every task has a reward model, or none has",
            where="rewards",
            expected=", ".join(folders),
            got=", ".join(settings.rewards),
            remedy=f"name one, or {BY_LABEL}, for each; or leave --rewards out: then the right label is rewarded",
        )
    seen, place = _seen(settings, folders), Path(settings.out)
    named = _Tasks(folders, seen, *_halves(settings, folders, seen))
    if settings.order == "joint":
        # for what building its settings refuses
        _learning(settings, named, list(folders), settings.backbone, place / "-", settings.cycles)
    if not _goes_on(settings):
        # every mistake in settings, models and prompts is found before the first training, and before a folder is made
        for task in folders:
            alone = _learning(settings, named, [task], settings.backbone, place / "-", settings.cycles)
            align_online(alone.model_copy(update={"dry_run": True}))
    if settings.dry_run:
        return {"dry_run": True, "tasks": list(folders)}
    _begin(settings, place)
    told: dict[str, Any] = {"tasks": list(folders), "order": settings.order, "transfer": None}
    told["before"] = _judged(settings, named, settings.backbone, place / "before")
    if settings.order == "joint":
        told["stages"] = [_joint(settings, named, place)]
    else:
        order = list(folders)
        if settings.order == "transfer":
            told["transfer"], order = _measured(settings, named, place)
        told["stages"] = _in_order(settings, named, order, place)
    told["after"] = told["stages"][-1]["accuracy"]
    told |= {"settings": settings.model_dump(mode="json"), "versions": current_versions()}
    write_json(place / "metrics.json", told)
    return told


def _begin(settings: CurriculumSettings, place: Path) -> None:
    """Make the folder, or refuse to go on in one of another run."""
    identity = {"settings": {name: value for name, value in to_plain(settings).items() if name not in _RUNTIME}}
    if _goes_on(settings):
        refuse_another_run(place / _IDENTITY, json.loads(json.dumps(identity)))
        return
    with new_folder(place, overwrite=settings.overwrite) as folder:
        write_json(folder / _IDENTITY, identity)


def _seen(settings: CurriculumSettings, folders: dict[str, str]) -> np.ndarray:
    """Return the keys of groups of all tasks' prompts, and of those that the models say they were trained on."""
    prompts = [group_keys(read(Path(folder).expanduser() / "prompts.jsonl")) for folder in folders.values()]
    rewards = [name for name in settings.rewards.values() if name != BY_LABEL]
    models = [seen_groups(name) for name in (settings.backbone, *rewards)]
    return np.unique(np.concatenate([*prompts, *(keys for keys in models if keys is not None)]))


def _halves(settings: CurriculumSettings, folders: dict[str, str], seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part the unseen test groups of each task in two, at random; groups that tasks share are on one side of all."""
    choosing, judging = np.empty(0, np.uint64), np.empty(0, np.uint64)
    if settings.order != "transfer":
        return choosing, judging
    random = np.random.default_rng(settings.seed)
    for task, folder in folders.items():
        test = unseen(read(Path(folder).expanduser() / "test.jsonl"), seen)[0]
        keys = group_keys(test, ("split_group",)) if len(test) else np.empty(0, np.uint64)
        new = random.permutation(np.setdiff1d(keys, np.union1d(choosing, judging)))
        wanted = max(0, len(keys) // 2 - int(np.isin(keys, choosing).sum()))
        choosing, judging = np.union1d(choosing, new[:wanted]), np.union1d(judging, new[wanted:])
        if not (np.isin(keys, choosing).any() and np.isin(keys, judging).any()):
            raise DataError(
                "one half of the test groups chooses the order, the other judges",
                where=task,
                expected="two groups at least that no model of the run has seen",
                got=f"{len(keys)}",
                remedy="--order given",
            )
    return choosing, judging


def _goes_on(settings: CurriculumSettings) -> bool:
    """Tell whether there is a run to resume: a folder of anything else is none."""
    return settings.resume and (Path(settings.out) / _IDENTITY).is_file()


def _learning(
    settings: CurriculumSettings, named: _Tasks, tasks: list[str], backbone: str, out: Path, cycles: int
) -> OnlineSettings:
    """Build the settings of one run, of one task or of all at once."""
    routes = {task: settings.rewards.get(task, BY_LABEL) for task in tasks}
    reward: dict[str, Any] = {"routes": routes}
    if set(routes.values()) == {BY_LABEL}:
        reward = {"verifier": {"kind": "label"}}
    elif len(tasks) == 1:
        reward = {"model": routes[tasks[0]]}
    prompts = Path(named.folders[tasks[0]]).expanduser() if len(tasks) == 1 else out.parent
    values: dict[str, Any] = {"data": str(prompts / "prompts.jsonl"), "out": str(out), "backbone": backbone}
    values |= {"method": settings.method, "cycles": cycles, "test_share": 0.0, "reward": reward, "seed": settings.seed}
    values |= {"rollout": settings.rollout.model_dump(), "kl": settings.kl.model_dump(), "resume": settings.resume}
    values |= {"learning_rate": settings.learning_rate, "max_length_tokens": settings.max_length_tokens}
    return build(OnlineSettings, values, where="curriculum")


def _learned(
    settings: CurriculumSettings, named: _Tasks, tasks: list[str], backbone: str, out: Path, cycles: int
) -> None:
    """Run one training, unless it is there."""
    if not out.exists():
        align_online(_learning(settings, named, tasks, backbone, out, cycles))


def _judged(
    settings: CurriculumSettings, named: _Tasks, policy: str, place: Path, *, choosing: bool = False
) -> dict[str, float]:
    """Return task -> accuracy of a policy on the test examples of all tasks that judge, or that choose the order."""
    found, left_out = {}, np.union1d(named.seen, named.judging if choosing else named.choosing)
    for task, folder in named.folders.items():
        out = place / task
        values: dict[str, Any] = {"policy": policy, "data": folder, "out": str(out), "seed": settings.seed}
        values |= {"examples": settings.examples, "max_new_tokens": settings.rollout.max_new_tokens}
        values |= {"max_length_tokens": settings.max_length_tokens}
        if out.exists():
            own = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        else:
            own = classify_policies(build(ClassifySettings, values, where="curriculum"), left_out)
        found[task] = float(own["policies"][policy]["accuracy"]["value"])
    return found


def _measured(settings: CurriculumSettings, named: _Tasks, place: Path) -> tuple[dict[str, Any], list[str]]:
    """Learn each task alone for a while, and return what that does to all, and the order that it speaks for."""
    before = _judged(settings, named, settings.backbone, place / "alone_judged" / "before", choosing=True)
    after = {}
    for task in named.folders:
        out = place / "alone" / task
        say(f"{task} alone, to measure what it does to the others")
        _learned(settings, named, [task], settings.backbone, out, settings.measured)
        after[task] = _judged(settings, named, str(out), place / "alone_judged" / task, choosing=True)
    names = list(named.folders)
    transfer = backward_transfer(names, before, after)
    order = best_order(transfer)
    told = {
        "before": before,
        "after": after,
        "of_row_by_column": transfer.tolist(),
        "value": order_value(transfer, order),
        "value_as_given": order_value(transfer, range(len(names))),
    }
    return told, [names[k] for k in order]


def _in_order(settings: CurriculumSettings, named: _Tasks, order: list[str], place: Path) -> list[dict[str, Any]]:
    """Learn one task after the other, each from the policy before; judge on all tasks after each."""
    policy, stages = settings.backbone, []
    for number, task in enumerate(order, 1):
        out = place / f"{number}_{task}"
        say(f"{number} of {len(order)}: {task}")
        _learned(settings, named, [task], policy, out, settings.cycles)
        policy = str(out)
        stages.append(
            {"learned": [task], "accuracy": _judged(settings, named, policy, place / f"{number}_{task}_judged")}
        )
    return stages


def _joint(settings: CurriculumSettings, named: _Tasks, place: Path) -> dict[str, Any]:
    """Learn all tasks at once; each task is asked as often as it has prompts."""
    lines = []
    for folder in named.folders.values():
        rows = (Path(folder).expanduser() / "prompts.jsonl").read_text(encoding="utf-8").split("\n")
        lines += [row for row in rows if row.strip()]
    write_atomic(place / "prompts.jsonl", as_bytes("\n".join(lines) + "\n"))
    out, tasks = place / "joint", list(named.folders)
    say(f"{', '.join(tasks)} at once")
    _learned(settings, named, tasks, settings.backbone, out, settings.cycles * len(tasks))
    return {"learned": tasks, "accuracy": _judged(settings, named, str(out), place / "joint_judged")}
