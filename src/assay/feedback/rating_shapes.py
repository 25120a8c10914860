"""Readers of rows that judge one response at a time (KTO, pointwise, stepwise), and of prompts for RL (verl)."""

from __future__ import annotations

import json
from typing import Any

from assay.feedback.asking import asked_prompt, prompt_column, read_with
from assay.feedback.dialogues import (
    Response,
    cut_hh,
    hh_group,
    hh_messages,
    is_chat,
    looks_like_hh,
    prompt_messages,
    response_of,
)
from assay.feedback.drafts import LABEL, NO_JUDGEMENT, Context, as_json, comparison_record
from assay.feedback.fields import (
    Row,
    cell,
    flag,
    items,
    leftover,
    number,
    optional_number,
    plain,
    shown,
    text,
    truth_text,
)
from assay.feedback.pair_shapes import Records
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Message, default_group, identity, message, prompt_identity

SOLUTION_CHARS = 16


def rating_record(
    prompt: list[Message],
    response: str,
    *,
    grade: float | None = None,
    label: bool | None = None,
    dimension: str = "quality",
    step: int | None = None,
    source: str = "human",
    annotator: str | None = None,
    split_group: str | None = None,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build one rating; without any prompt the response's own identity stands for it."""
    prompt_id = prompt_identity(prompt, [response])
    return {
        "prompt": prompt,
        "response": response,
        "dimension": dimension,
        "grade": grade,
        "label": label,
        "step": step,
        "source": source,
        "annotator": annotator,
        "prompt_id": prompt_id,
        "split_group": split_group or default_group(prompt, prompt_id),
        "meta": as_json({"row": meta}) if meta else None,
    }


def prompt_record(
    prompt: list[Message],
    ground_truth: str | None = None,
    *,
    source: str = "",
    split_group: str | None = None,
    meta: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build one prompt for reinforcement learning."""
    prompt_id = identity(prompt)
    return {
        "prompt": prompt,
        "ground_truth": ground_truth,
        "source": source,
        "prompt_id": prompt_id,
        "split_group": split_group or default_group(prompt, prompt_id),
        "meta": as_json({"row": meta}) if meta else None,
    }


def rated_response(rating: dict[str, Any], *, steps: bool = False) -> dict[str, Any]:
    """Turn a rating into a comparison record that holds this one response, to be merged with the others of its prompt.

    Raises
    ------
    RowError
        If it is about a step, unless ``steps``: the beginnings of one solution are no alternatives.
    """
    if rating["step"] is not None and not steps:
        raise RowError(
            "steps of one solution are not compared",
            column="step",
            expected="responses that are whole",
            got=f"step {rating['step']}",
            remedy="name the verdict on whole responses with a mapping",
        )
    by_label = rating["label"] is not None
    name, value = (LABEL, float(rating["label"])) if by_label else (rating["dimension"], rating["grade"])
    record = comparison_record(
        rating["prompt"] or [message("user", "")],  # templates need a turn
        [Response(rating["response"])],
        [],
        grades=[[{"dimension": name, "value": value}]],
        split_group=rating["split_group"],
        allow_single=True,
    )
    return {**record, "meta": rating["meta"]}


def good_or_bad(row: Row, context: Context) -> Records:
    """Read prompt, completion, label (true: good), the unpaired layout of KTO."""
    prompt = asked_prompt(row, "prompt", context, alone=True)
    response = response_of(cell(row, "completion"), "completion")
    if cell(row, "label") in (None, ""):
        raise Dropped(NO_JUDGEMENT)
    meta = leftover(row, {"prompt", "completion", "label"} | read_with(row, "prompt", alone=True))
    return [rating_record(prompt, rated_text(response, "completion"), label=flag(row["label"], "label"), meta=meta)]


def rated_text(response: Response, column: str) -> str:
    """Return the text that a rating is about.

    Raises
    ------
    RowError
        If messages say more than text, as calls of tools do: ratings keep text alone, and others would seem the same.
    """
    if response.messages is not None and any(turn["extra"] for turn in json.loads(response.messages)):
        raise RowError(
            "a rated response says more than text",
            column=column,
            expected="text, or messages of role and content",
            got=shown(response.messages),
            remedy="write calls of tools into the content, or compare responses in pairs, which keep messages",
        )
    return response.text


def pointwise(row: Row, context: Context) -> Records:
    """Read text and score; HH text is cut into prompt and response, other text is all response."""
    body = text(row, "text")
    grade = number(cell(row, "score"), "score")
    meta = leftover(row, {"text", "score"})
    if not looks_like_hh(body):
        return [rating_record([], body, grade=grade, dimension="score", meta=meta)]
    side = cut_hh(body, "text")
    turns = hh_messages(side.prompt, "text")
    return [rating_record(turns, side.response, grade=grade, dimension="score", split_group=hh_group(body), meta=meta)]


def stepwise(row: Row, context: Context) -> Records:
    """Read prompt, completions (the steps), labels: one rating per step.

    The response of a rating is the solution up to and including its step, steps joined by line ends, so that each
    rating can be judged on its own; ``meta.row.solution`` is shared by the steps of one solution.
    """
    prompt = prompt_messages(cell(row, "prompt"), "prompt")
    steps, labels = items(row, "completions"), items(row, "labels")
    if len(steps) != len(labels) or not steps:
        raise RowError("lists of different length", column="labels", expected=f"{len(steps)} labels, one per step",
                       got=str(len(labels)))  # fmt: skip
    for i, step in enumerate(steps):
        if not isinstance(step, str):
            raise RowError("wrong type", column=f"completions[{i}]", expected="text", got=shown(step))
    solution = identity([*prompt, message("assistant", "\n".join(steps))])[:SOLUTION_CHARS]
    meta = {**leftover(row, {"prompt", "completions", "labels"}), "solution": solution, "steps": len(steps)}
    return [
        rating_record(prompt, "\n".join(steps[: i + 1]), step=i, meta=meta, **_step_verdict(label, f"labels[{i}]"))
        for i, label in enumerate(labels)
    ]


def _step_verdict(label: Any, column: str) -> dict[str, Any]:
    """Return a label for truth values and for 0 and 1, a grade for numbers with a point: 1.0 may stand beside 0.5."""
    if isinstance(label, float):
        return {"grade": number(label, column), "dimension": "correct"}
    return {"label": flag(label, column), "dimension": "correct"}


def rl_prompt(row: Row, context: Context) -> Records:
    """Read verl's prompts: data_source, prompt (messages), reward_model.ground_truth; the rest goes to meta."""
    rule = cell(row, "reward_model")
    if not isinstance(rule, dict):
        raise RowError("wrong type", column="reward_model", expected='{"ground_truth": …}', got=shown(rule))
    prompt = prompt_messages(cell(row, "prompt"), "prompt")
    meta = leftover(row, {"data_source", "prompt", "reward_model"})
    meta |= {"reward_model": rest} if (rest := leftover(rule, ["ground_truth"])) else {}
    return [
        prompt_record(
            prompt, truth_text(rule.get("ground_truth")), source=plain(cell(row, "data_source")) or "", meta=meta
        )
    ]


def lone_prompt(row: Row, context: Context) -> Records:
    """Read a prompt without responses, for which some are to be sampled."""
    asked = prompt_column(row)
    names = ("source", "split_group")
    given = {name: plain(row.get(name)) for name in names}
    meta = leftover(row, {asked, *names} | read_with(row, asked))
    prompt = asked_prompt(row, asked, context)
    return [prompt_record(prompt, None, source=given["source"] or "", split_group=given["split_group"], meta=meta)]


def own_rating(row: Row, context: Context) -> Records:
    """Read a rating in this package's own layout: prompt, response, and exactly one of grade and label."""
    prompt = prompt_messages(row["prompt"], "prompt") if is_chat(row.get("prompt")) or row.get("prompt") else []
    grade = optional_number(row, "grade")
    label = None if row.get("label") is None else flag(row["label"], "label")
    if (grade is None) == (label is None):
        raise RowError("not one verdict", column="grade", expected="exactly one of grade and label", got="both or none")
    names = ("annotator", "split_group")
    record = rating_record(
        prompt,
        text(row, "response"),
        grade=grade,
        label=label,
        dimension=plain(row.get("dimension")) or "quality",
        step=None if row.get("step") is None else int(number(row["step"], "step")),
        source=plain(row.get("source")) or "human",
        **{name: plain(row.get(name)) for name in names},  # type: ignore[arg-type]
    )
    return [{**record, "meta": plain(row.get("meta"))}]


def own_prompt(row: Row, context: Context) -> Records:
    """Read a prompt in this package's own layout: prompt, ground_truth, source."""
    turns = prompt_messages(cell(row, "prompt"), "prompt")
    own = ("prompt", "ground_truth", "source", "prompt_id", "split_group", "meta")
    record = prompt_record(
        turns,
        truth_text(row.get("ground_truth")),
        source=plain(row.get("source")) or "",
        split_group=plain(row.get("split_group")),
        # rows of other makers have cells of their own, which rewards are told
        meta=leftover(row, own),
    )
    return [record if row.get("meta") is None else {**record, "meta": plain(row["meta"])}]
