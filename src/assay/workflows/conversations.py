"""Conversations of several turns: two policies answer the same questions, and somebody grades and compares them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.console import say
from assay.feedback.questions import Question
from assay.feedback.records import as_messages, prompt_text
from assay.scorers import Policy
from assay.scorers.judges import Judge, graded, in_both_orders
from assay.scorers.loading import load_reward_model
from assay.scorers.sampling import Reply, Sampling, leave_room, no_room, replies
from assay.workflows import hardware
from assay.workflows.compare_common import PRINCIPLE
from assay.workflows.compare_settings import CompareSettings, Writing
from assay.workflows.judge_functions import judge_of

SIDES = ("policy", "against")


@dataclass
class Turn:
    """What was said in one turn of one question.

    Attributes
    ----------
    question, number
        Which, and which turn of it, from 0.
    asked
        Side -> the conversation up to this turn's question.
    answers
        Side -> the reply.
    """

    question: Question
    number: int
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: dict[str, Reply] = field(default_factory=dict)

    @property
    def begun(self) -> str:
        """What the user said so far."""
        return prompt_text(as_messages([_user(text) for text in self.question.turns[: self.number + 1]]))

    def shown(self, side: str) -> str:
        """Return the conversation as a judge reads it, with the reference answer to this turn where there is one."""
        text = prompt_text(as_messages(self.asked[side]))
        if self.question.reference:
            text += f"\n\n[Reference answer, which is right]\n{self.question.reference[self.number]}"
        return text

    def said(self, side: str) -> str:
        """Return everything that a side answered so far."""
        former = [turn["content"] for turn in self.asked[side] if turn["role"] == "assistant"]
        texts = [*former, self.answers[side].text]
        return "\n\n".join(f"To turn {k}: {text}" for k, text in enumerate(texts, 1)) if former else texts[0]


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def conversations(
    settings: CompareSettings, questions: list[Question], policies: dict[str, Policy]
) -> tuple[list[Turn], int]:
    """Let both policies answer turn by turn; return the turns that both answered, and how many had no room."""
    history: dict[str, dict[str, list[dict[str, Any]]]] = {side: {q.key: [] for q in questions} for side in policies}
    going, turns, crowded = questions, [], 0
    for number in range(max(len(question.turns) for question in questions)):
        going = [question for question in going if number < len(question.turns)]
        asked = {
            side: [[*history[side][question.key], _user(question.turns[number])] for question in going]
            for side in policies
        }
        new = settings.write.max_new_tokens
        room = np.logical_and.reduce([leave_room(policies[side], asked[side], new) for side in policies])
        crowded += sum(len(question.turns) - number for question, has in zip(going, room, strict=True) if not has)
        kept = np.flatnonzero(room).tolist()
        if not kept:
            break
        going = [going[k] for k in kept]
        here = [Turn(question, number) for question in going]
        for side, policy in policies.items():
            prompts = [asked[side][k] for k in kept]
            say(f"{side} answers turn {number + 1} of {len(going):,} questions")
            for turn, prompt, reply in zip(
                here, prompts, _answers(policy, going, prompts, settings.write, settings.seed), strict=True
            ):
                turn.asked[side], turn.answers[side] = prompt, reply
                history[side][turn.question.key] = [*prompt, {"role": "assistant", "content": reply.text}]
        turns += here
    if not turns:
        raise no_room(len(questions), settings.write.max_new_tokens)
    if crowded:
        say(f"left out {crowded:,} turns: behind them is no room for {settings.write.max_new_tokens:,} new tokens")
    return turns, crowded


def _answers(policy: Policy, questions: list[Question], prompts: list[Any], how: Writing, seed: int) -> list[Reply]:
    """Answer each question at its own temperature."""
    by_temperature: defaultdict[float, list[int]] = defaultdict(list)
    for k, question in enumerate(questions):
        by_temperature[how.temperature if question.temperature is None else question.temperature].append(k)
    found: dict[int, Reply] = {}
    for temperature, places in sorted(by_temperature.items()):
        sampling = Sampling(1, how.max_new_tokens, temperature, how.top_p, 0, how.token_budget)
        written = replies(policy, [prompts[k] for k in places], sampling, seed)
        found |= {k: own[0] for k, own in zip(places, written, strict=True)}
    return [found[k] for k in range(len(questions))]


@dataclass
class Mind:
    """Who grades and compares.

    Attributes
    ----------
    name
        Its name.
    grade
        Turns and a side in, ``[turns]`` out; NaN: no answer.
    compare
        Turns in, ``[turns]`` margins of the policy out.
    told
        What is reported of it.
    """

    name: str
    grade: Callable[[list[Turn], str], np.ndarray]
    compare: Callable[[list[Turn]], np.ndarray]
    told: Callable[[], dict[str, Any]]


def by_reward_model(name: str) -> Mind:
    """Let a reward model grade: its scores, and their differences."""
    model = load_reward_model(name).to(hardware.best_device())

    def grade(turns: list[Turn], side: str) -> np.ndarray:
        asked, texts = [turn.asked[side] for turn in turns], [turn.answers[side].text for turn in turns]
        return np.asarray(model.score(asked, texts), np.float64)

    return Mind("by", grade, lambda turns: grade(turns, "policy") - grade(turns, "against"), lambda: {"scale": "score"})


def by_judge(settings: CompareSettings) -> Mind:
    """Let a judge grade single answers, and compare two in both orders."""
    assert settings.judge is not None
    judge: Judge = judge_of(settings.judge)
    orders: dict[str, int] = {}

    def grade(turns: list[Turn], side: str) -> np.ndarray:
        return graded(judge, [turn.shown(side) for turn in turns], [turn.answers[side].text for turn in turns])

    def compare(turns: list[Turn]) -> np.ndarray:
        found = np.full(len(turns), np.nan)
        for later in (False, True):
            places = [k for k, turn in enumerate(turns) if (turn.number > 0) == later]
            own = [turns[k] for k in places]
            principle = f"Judge the answers to the last turn. {PRINCIPLE}" if later else PRINCIPLE
            said = in_both_orders(
                judge,
                [_of_both(t) for t in own],
                [t.said("policy") for t in own],
                [t.said("against") for t in own],
                principle,
            )
            found[places] = said.margins()
            for name, count in said.counts().items():
                orders[name] = orders.get(name, 0) + count
        return found

    return Mind(
        "judge",
        grade,
        compare,
        lambda: {"scale": "grade from 1 to 10", "asked": {"name": judge.name, **judge.costs(), "orders": orders}},
    )


def _of_both(turn: Turn) -> str:
    """Return what both answered: the user's turns, and the reference answer to the last one."""
    reference = turn.question.reference
    return turn.begun + (f"\n\n[Reference answer, which is right]\n{reference[turn.number]}" if reference else "")
