"""``assay classify``: policies answer the held-out part of a task, and their last lines are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.console import say
from assay.evaluation.classification import classify
from assay.evaluation.intervals import GAP, GroupBootstrap
from assay.feedback import comparison, from_rows
from assay.feedback.tasks.task import Answer, Example, Task, read_answer
from assay.output import as_bytes, check_new, new_folder, write_json
from assay.scorers import Policy
from assay.scorers.loading import load_reward_model
from assay.scorers.policy_loading import policy_from
from assay.scorers.sampling import Sampling, leave_room, no_room, replies
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.classify_models import choosing, on_pairs, wording
from assay.workflows.classify_report import write_classify_report
from assay.workflows.classify_settings import ClassifySettings
from assay.workflows.data import unseen
from assay.workflows.judging import all_seen, leave_out_seen
from assay.workflows.task_files import read_task


@dataclass(frozen=True)
class Asked:
    """Examples in one way of asking.

    Attributes
    ----------
    examples, prompts
        As many.
    """

    examples: list[Example]
    prompts: list[str]


def classify_policies(settings: ClassifySettings, seen: np.ndarray | None = None) -> dict[str, Any]:
    """Run `assay classify`; return what ``metrics.json`` holds.

    Answers are the likeliest ones. An answer without a label is wrong. Differences between policies are paired.

    Parameters
    ----------
    settings
        As of the verb.
    seen
        Keys of groups that are left out, instead of those that the models tell of: so several calls judge on the same
        examples.

    Raises
    ------
    AssayError
        If task or models cannot be read, or no example leaves room for an answer; nothing is then written.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    task, examples, usual = read_task(settings.data)
    names = [settings.policy, *settings.also]
    ways = [usual, *(k for k in range(len(task.templates)) if k != usual)] if settings.all_templates else [usual]
    policies = {name: policy_from(name, settings.max_length_tokens).to(hardware.best_device()) for name in names}
    minds = {name: load_reward_model(name).to(hardware.best_device()) for name in settings.by}
    examples = _unseen(settings, task, examples, usual, names, seen)
    if settings.examples is not None:
        drawn = np.random.default_rng(settings.seed).permutation(len(examples))[: settings.examples]
        examples = [examples[int(k)] for k in np.sort(drawn)]
    asked, crowded = _with_room(settings, task, examples, ways, list(policies.values()))
    if settings.dry_run:
        return {"dry_run": True, "policies": names, "examples": len(asked[usual].examples)}
    told: dict[str, Any] = {"task": task.name, "examples": len(asked[usual].examples), "without_room": crowded}
    told |= {"labels": list(task.labels), "ordinal": task.kind == "ordinal", "ways": len(ways)}
    told |= {"policies": {}, "reward_models": list(minds)}
    # before policies answer: pairs that trained a reward model are refused
    known = on_pairs(minds, settings.data, settings.resamples, include_seen=settings.include_seen) if minds else None
    answers: dict[str, list[Answer]] = {}
    hits: dict[str, np.ndarray] = {}
    for name, policy in policies.items():
        by_way = {way: _answers(settings, name, policy, asked[way]) for way in ways}
        answers[name] = by_way[usual]
        told["policies"][name] = _judged(settings, task, asked[usual].examples, by_way, usual)
        hits[name] = _hits(asked[usual].examples, by_way[usual])
    groups = np.array([one.group for one in asked[usual].examples], object)
    bootstrap, ones = GroupBootstrap(groups, settings.resamples), np.ones(len(groups))
    for name in settings.also:
        gap = bootstrap.ratio(hits[name] - hits[settings.policy], ones, between=GAP)
        told["policies"][name]["above_the_first"] = gap.to_dict()
    told |= {"pairs": known} | _by_models(settings, policies[settings.policy], minds, asked, usual)
    told |= {"settings": settings.model_dump(mode="json"), "versions": current_versions()}
    rows = _rows(asked[usual], answers)
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "answers.jsonl").write_bytes(as_bytes(text))
        write_json(folder / "metrics.json", told)
        write_classify_report(folder / "report.html", told, rows[: settings.shown])
    return told


def _rows(asked: Asked, answers: dict[str, list[Answer]]) -> list[dict[str, Any]]:
    """Return what ``answers.jsonl`` holds: of each example the truth, and what every policy told."""
    return [
        {
            "prompt": prompt,
            "truth": one.label,
            "group": one.group,
            "answers": {
                name: {"label": own[k].label, "rationale": own[k].rationale, "unread": own[k].unread}
                for name, own in answers.items()
            },
        }
        for k, (one, prompt) in enumerate(zip(asked.examples, asked.prompts, strict=True))
    ]


def _unseen(
    settings: ClassifySettings,
    task: Task,
    examples: list[Example],
    usual: int,
    policies: list[str],
    seen: np.ndarray | None,
) -> list[Example]:
    """Leave out examples whose prompts or groups trained a policy or a reward model, as far as their folders tell."""
    records = from_rows(comparison(task.ask(one, usual), ["-"], [], split_group=one.group) for one in examples)
    if seen is None:
        kept, dropped = leave_out_seen(records, [*policies, *settings.by], settings.include_seen)
    else:
        kept, dropped = unseen(records, seen)
        if not len(kept):
            raise all_seen(dropped)
    if not dropped:
        return examples
    known = set(kept["prompt_id"])
    return [one for one, own in zip(examples, records["prompt_id"], strict=True) if own in known]


def _by_models(
    settings: ClassifySettings, policy: Policy, minds: dict[str, Any], asked: dict[int, Asked], usual: int
) -> dict[str, Any]:
    """Say what reward models are worth by what they choose, and over ways to ask."""
    if not minds:
        return dict.fromkeys(("best_of", "wording"))
    found: dict[str, Any] = {"wording": None}
    own, count = asked[usual], max(settings.best_of)
    how = Sampling(count, settings.max_new_tokens, token_budget=settings.token_budget)
    say(f"{settings.policy} answers {len(own.prompts):,} prompts {count} times each")
    written = replies(policy, own.prompts, how, settings.seed)
    found["best_of"] = choosing(minds, own.examples, own.prompts, written, settings.best_of, settings.resamples)
    if len(asked) > 1:
        found["wording"] = wording(minds, own.examples, {way: each.prompts for way, each in asked.items()})
    return found


def _with_room(
    settings: ClassifySettings, task: Task, examples: list[Example], ways: Sequence[int], policies: Sequence[Policy]
) -> tuple[dict[int, Asked], int]:
    """Ask in every way; leave out examples behind which some policy has no room in some way, so that all are paired."""
    prompts = {way: [task.ask(one, way) for one in examples] for way in ways}
    room = np.logical_and.reduce(
        [leave_room(policy, prompts[way], settings.max_new_tokens) for way in ways for policy in policies]
    )
    kept = np.flatnonzero(room).tolist()
    if not kept:
        raise no_room(len(room), settings.max_new_tokens)
    if len(kept) < len(room):
        say(f"left out {len(room) - len(kept):,} of {len(room):,} examples: behind them is no room for an answer")
    asked = {way: Asked([examples[k] for k in kept], [own[k] for k in kept]) for way, own in prompts.items()}
    return asked, len(room) - len(kept)


def _answers(settings: ClassifySettings, name: str, policy: Policy, asked: Asked) -> list[Answer]:
    say(f"{name} answers {len(asked.prompts):,} prompts")
    how = Sampling(1, settings.max_new_tokens, 0.0, token_budget=settings.token_budget)
    written = replies(policy, asked.prompts, how, settings.seed)
    return [read_answer(own[0].text, one.choices) for own, one in zip(written, asked.examples, strict=True)]


def _judged(
    settings: ClassifySettings, task: Task, examples: list[Example], by_way: dict[int, list[Answer]], usual: int
) -> dict[str, Any]:
    """Say how well labels are told, why some could not be read, and how much the way of asking matters."""
    own = by_way[usual]
    found = classify(
        [one.label for one in examples],
        [each.label for each in own],
        [one.group for one in examples],
        task.labels,
        ordinal=task.kind == "ordinal",
        resamples=settings.resamples,
    ).to_dict()
    reasons = [each.unread for each in own if each.unread]
    found["why_unread"] = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    if len(by_way) > 1:
        each = {way: float(_hits(examples, answers).mean()) for way, answers in by_way.items()}
        labels = [{answers[k].label for answers in by_way.values()} for k in range(len(examples))]
        same = [len(own) == 1 and None not in own for own in labels]
        found["templates"] = {
            "accuracy": {str(way): value for way, value in sorted(each.items())},
            "spread": max(each.values()) - min(each.values()),
            "same_label_in_all": float(np.mean(same)),
        }
    return found


def _hits(examples: Sequence[Example], answers: Sequence[Answer]) -> np.ndarray:
    return np.array([one.label == own.label for one, own in zip(examples, answers, strict=True)], np.float64)
