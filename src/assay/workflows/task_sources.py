"""Where the rationales of ``assay task`` come from, and who says which of two is better."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.console import say
from assay.errors import DataError
from assay.evaluation.classification import unread_name
from assay.feedback.tasks.rationales import Borrowed, Generated, NoRationale, RationaleSource, Templates
from assay.feedback.tasks.shares import TaskShares
from assay.feedback.tasks.task import Example, Task, begins_as_answer
from assay.feedback.tasks.telling_words import TellingWords
from assay.scorers.judges import graded
from assay.scorers.loading import load_reward_model
from assay.scorers.policy_loading import policy_from
from assay.scorers.sampling import Sampling, leave_room, replies
from assay.workflows import hardware
from assay.workflows.judge_functions import judge_of
from assay.workflows.task_settings import GeneratorSettings, RankSettings, TaskSettings

#: Prompts, first and second answers -> P(the first is better).
Prefer = Callable[[list[str], list[str], list[str]], np.ndarray]


def with_rationales(settings: TaskSettings, task: Task, shares: TaskShares) -> tuple[TaskShares, str]:
    """Return shares whose examples have rationales as the settings want them, and what argues on both sides of pairs.

    Raises
    ------
    DataError
        If people's rationales are asked for, and there are none.
    """
    written, chosen = any(one.rationales for one in shares.pairs), settings.rationales
    if chosen == "auto":
        chosen = "templates" if task.kind == "choices" else "borrowed" if written else "words"
    if chosen == "borrowed" and not written:
        raise DataError(
            "nobody explained a label of this set",
            where=task.name,
            expected="examples with people's rationales",
            remedy="--rationales words or templates",
        )
    if chosen != "words":
        return shares, chosen
    telling = TellingWords(task, shares.teaching)
    names = ("teaching", "pairs", "pairs_test", "asked")
    told: dict[str, Any] = {name: telling.explain(getattr(shares, name)) for name in names}
    say(f"rationales: words that a bag of words of {len(shares.teaching):,} examples finds telling")
    return replace(shares, **told), "words"


def sources(settings: TaskSettings, task: Task, shares: TaskShares, chosen: str) -> Callable[..., RationaleSource]:
    """Return what makes the source of both sides' rationales of a share; a generator is loaded once."""
    if chosen == "generated":
        assert settings.generator is not None
        write = _writer(settings.generator, task, shares.teaching, settings)
        made = Generated(task, write, settings.generator.model, settings.template)
        return lambda examples: made
    known: dict[str, Callable[..., RationaleSource]] = {
        "borrowed": lambda examples: Borrowed(examples, settings.seed),
        "words": lambda examples: Borrowed(examples, settings.seed, "borrowed words"),
        "templates": lambda examples: Templates(seed=settings.seed),
        "none": lambda examples: NoRationale(),
    }
    return known[chosen]


def _writer(
    given: GeneratorSettings, task: Task, teaching: Sequence[Example], settings: TaskSettings
) -> Callable[[list[str]], list[str]]:
    """Return a function that lets the generator answer prompts, a few examples shown before each."""
    policy = policy_from(given.model, given.max_length_tokens).to(hardware.best_device())
    explained = [one for one in teaching if one.rationales.get(one.label)]
    if given.shots > len(explained):
        raise DataError(
            "too few explained examples to show",
            where=task.name,
            expected=f"{given.shots} in what teaches",
            got=str(len(explained)),
            remedy="lower --generator.shots",
        )
    drawn = np.random.default_rng(settings.seed).permutation(len(explained))[: given.shots]
    shown = "".join(
        f"{task.ask_why(one, one.label, settings.template)}\n{one.rationales[one.label][0]}\n\n"
        for one in (explained[int(k)] for k in drawn)
    )

    calls = itertools.count(settings.seed)

    def write(asked: list[str]) -> list[str]:
        prompts, how = [shown + one for one in asked], Sampling(1, given.max_new_tokens, given.temperature)
        room = leave_room(policy, prompts, given.max_new_tokens)
        say(f"{given.model} explains {int(room.sum()):,} labels" + _without(int((~room).sum())))
        texts = [""] * len(prompts)
        kept = np.flatnonzero(room).tolist()
        for k, own in zip(kept, replies(policy, [prompts[k] for k in kept], how, next(calls)), strict=True):
            texts[k] = first_part(own[0].text)
        return texts

    return write


def first_part(text: str) -> str:
    """Return what stands before a blank line or a last line with a label: a few-shot model goes on with more."""
    kept = list[str]()
    for line in text.strip().splitlines():
        if not line.strip() or begins_as_answer(line):
            break
        kept.append(line.strip())
    return " ".join(kept)


def _without(crowded: int) -> str:
    return f"; {crowded:,} more have no room for it" if crowded else ""


def preferring(given: RankSettings | None) -> tuple[Prefer, str]:
    """Return who ranks rationales, and the name for reports; None: what is about the example itself is better."""
    if given is None:
        return lambda prompts, *_: np.ones(len(prompts)), "the example that they are about"
    if given.model is not None:
        model = load_reward_model(given.model).to(hardware.best_device())

        def by_model(prompts: list[str], one: list[str], other: list[str]) -> np.ndarray:
            gaps = np.asarray(model.score(prompts, one)) - np.asarray(model.score(prompts, other))
            return np.where(gaps == 0, 0.5, (gaps > 0).astype(np.float64))

        return by_model, given.model
    assert given.judge is not None
    judge = judge_of(given.judge)

    def by_judge(prompts: list[str], one: list[str], other: list[str]) -> np.ndarray:
        gaps = graded(judge, prompts, one) - graded(judge, prompts, other)
        return np.where(np.isnan(gaps), np.nan, (np.sign(gaps) + 1) / 2)

    return by_judge, "judge"


def confusion_of(path: str, task: Task) -> dict[str, dict[str, float]]:
    """Read which label is taken for which from what ``assay classify`` wrote, of the first policy there.

    It is a count of labels of the examples that were classified: counts of the test tell nothing of single examples,
    but who wants none of the test in what trains classifies other examples.

    Raises
    ------
    DataError
        If the file is none, or of another task.
    """
    place = Path(path).expanduser()
    place = place / "metrics.json" if place.is_dir() else place
    unread = unread_name(task.labels)
    try:
        told: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        table = next(iter(told["policies"].values()))["confusion"]
        found = {
            right: {label: float(count) for label, count in own.items() if label not in (right, unread)}
            for right, own in table.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise DataError(
            "this tells no confusion",
            where=str(place),
            expected="metrics.json as assay classify writes it, of a task with classes",
            got=f"{type(error).__name__}: {error}"[:120],
            remedy="assay classify POLICY TASK --out FOLDER",
        ) from error
    if set(found) - set(task.labels) or not found:
        raise DataError(
            "this is the confusion of another task",
            where=str(place),
            expected=", ".join(task.labels),
            got=", ".join(found) or "no labels",
        )
    return found
