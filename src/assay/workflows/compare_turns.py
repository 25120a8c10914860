"""MT-bench's protocol (Zheng et al. 2023): questions of several turns, each answer graded, and pairs in both orders."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.errors import DataError
from assay.evaluation.intervals import GroupBootstrap
from assay.feedback import from_rows
from assay.feedback.questions import Question, read_questions
from assay.feedback.records import as_messages, default_group, identity
from assay.workflows.compare_common import began_as, counts, finish, win_rates, word_of, writer
from assay.workflows.compare_settings import CompareSettings
from assay.workflows.conversations import SIDES, Mind, Turn, by_judge, by_reward_model, conversations
from assay.workflows.judging import leave_out_seen


def compare_by_turns(settings: CompareSettings) -> dict[str, Any]:
    """Run `assay compare --protocol mt_bench`; return what ``metrics.json`` holds.

    A judge grades every answer from 1 to 10 and compares answers in both orders; a reward model gives both scores and
    comparisons. A turn behind which one policy has no room left is left out for both, with all that follow it.

    Raises
    ------
    AssayError
        If a model or the questions cannot be read; nothing is then written.
    """
    names = dict(zip(SIDES, (settings.policy, settings.against or began_as(settings.policy)), strict=True))
    questions = _questions(settings, [settings.policy, *([settings.against] if settings.against else [])])
    policies = {side: writer(settings, name) for side, name in names.items()}
    mind: Mind = by_reward_model(settings.by) if settings.by is not None else by_judge(settings)
    if settings.dry_run:
        return {"dry_run": True, "prompts": len(questions), "policies": list(names.values())}
    turns, crowded = conversations(settings, questions, policies)
    grades = {side: mind.grade(turns, side) for side in SIDES}
    margins = mind.compare(turns)
    told: dict[str, Any] = dict.fromkeys(("curve", "best_of", "perplexity", "divergence"))
    told |= {"protocol": "mt_bench", **names, "prompts": len(questions), "without_room": crowded}
    told["grades"] = _graded(turns, grades, settings.resamples)
    told["ungraded"] = int((np.isnan(grades["policy"]) | np.isnan(grades["against"])).sum())
    told["win_rate"] = _won(mind.name, turns, margins, settings.resamples)
    told["written"] = {side: counts([turn.answers[side] for turn in turns]) for side in SIDES}
    told |= mind.told()
    return finish(settings, told, [_row(turn, margins[k], grades, k) for k, turn in enumerate(turns)])


def _questions(settings: CompareSettings, policies: list[str]) -> list[Question]:
    """Read the questions, leave out those that trained a policy, and draw as many as wanted."""
    found = {question.key: question for question in read_questions(settings.data)}
    rows = []
    for key, question in found.items():
        messages = as_messages(question.turns[0])
        prompt_id = identity(messages)
        group = default_group(messages, prompt_id)
        rows.append(
            {"prompt": messages, "ground_truth": None, "source": key, "prompt_id": prompt_id, "split_group": group}
            | {"meta": None}
        )
    data, _ = leave_out_seen(from_rows(rows, "prompts"), policies, settings.include_seen)
    keys = data["source"]
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(keys))[: settings.prompts])
    if len(chosen) < 2:
        raise DataError("too few questions", where=settings.data, expected="2 or more", got=str(len(chosen)))
    return [found[keys[int(k)]] for k in chosen]


def _graded(turns: list[Turn], grades: dict[str, np.ndarray], resamples: int) -> dict[str, Any]:
    """Return mean grades of both sides and of their difference, of each turn, each category and all."""
    keys = np.array([turn.question.key for turn in turns], object)
    both = ~np.isnan(grades["policy"]) & ~np.isnan(grades["against"])
    told: dict[str, Any] = {}
    for name, member in _parts(turns).items():
        rows = member & both
        if not rows.any():
            continue
        bootstrap, ones = GroupBootstrap(keys[rows], resamples), np.ones(int(rows.sum()))
        values = {side: grades[side][rows] for side in SIDES}
        values["difference"] = values["policy"] - values["against"]
        told[name] = {side: bootstrap.ratio(value, ones).to_dict() for side, value in values.items()}
    return told


def _parts(turns: list[Turn]) -> dict[str, np.ndarray]:
    """Name the parts that are reported, each with its turns, bool ``[turns]``."""
    numbers = np.array([turn.number for turn in turns])
    categories = np.array([turn.question.category for turn in turns], object)
    found = {"all": np.ones(len(turns), bool)}
    found |= {f"turn {number + 1}": numbers == number for number in np.unique(numbers)}
    return found | {str(name): categories == name for name in sorted(set(categories)) if name}


def _won(name: str, turns: list[Turn], margins: np.ndarray, resamples: int) -> dict[str, Any]:
    keys = np.array([turn.question.key for turn in turns], object)
    found = {}
    for part, member in _parts(turns).items():
        rows = np.flatnonzero(member & ~np.isnan(margins))
        if len(rows) or part == "all":
            ours, theirs = ([turns[k].answers[side].text for k in rows] for side in SIDES)
            found[part] = win_rates(name, margins[rows], ours, theirs, keys[rows], resamples)
    return found


def _row(turn: Turn, margin: float, grades: dict[str, np.ndarray], k: int) -> dict[str, Any]:
    """Return one turn for the table of samples."""
    own = {f"{side}_grade": None if np.isnan(grades[side][k]) else float(grades[side][k]) for side in SIDES}
    return {
        "question": turn.question.key,
        "turn": turn.number + 1,
        "prompt": turn.begun,
        **{side: turn.answers[side].text for side in SIDES},
        "preferred": word_of(margin),
        **own,
    }
