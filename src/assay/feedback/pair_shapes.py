"""Readers of rows that hold one pair: explicit, HH, conversational, graded, tokenised, alpaca, labelled, unlabelled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from assay.feedback.asking import (
    PROMPT_COLUMNS,
    SYSTEM_COLUMNS,
    alpaca_prompt,
    asked_prompt,
    prompt_column,
    read_with,
    with_system,
)
from assay.feedback.dialogues import (
    ENDS_WITH_USER,
    HUMAN,
    PROMPTS_DIFFER,
    Response,
    chat,
    cut_hh,
    hh_group,
    hh_messages,
    is_chat,
    is_open_hh,
    looks_like_hh,
    prompt_messages,
    response_of,
    split_sides,
    unpack_chat,
)
from assay.feedback.drafts import IDENTICAL, NO_JUDGEMENT, Context, comparison_record
from assay.feedback.fields import (
    Row,
    cell,
    items,
    judgement_numbers,
    leftover,
    optional_number,
    shown,
    text,
    whole,
)
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Edge, Grade, Message, as_messages, edge

Records = list[dict[str, Any]]
_JUDGEMENT = ("target", "margin", "weight")
CHOSEN_SCORES = ("score_chosen", "chosen_score", "chosen-rating", "chosen_rating", "rating_chosen")
REJECTED_SCORES = ("score_rejected", "rejected_score", "rejected-rating", "rejected_rating", "rating_rejected")
_SCORES = frozenset((*CHOSEN_SCORES, *REJECTED_SCORES))
#: Names of grades that nobody calls so.
GRADE_WORD = re.compile(r"helpful|correct|coheren|complex|verbos|quality|reward|harmless|truthful|honest", re.I)
_EXPLICIT = frozenset(("prompt", "chosen", "rejected", *_JUDGEMENT)) | _SCORES
#: Names under which two responses of one row are found, first and second.
PAIR_COLUMNS = tuple(
    (f"{stem}{joint}{first}", f"{stem}{joint}{second}")
    for stem in ("answer", "response", "completion", "output", "summary", "generation")
    for joint in ("_", "", " ")
    for first, second in (("0", "1"), ("a", "b"), ("1", "2"), ("A", "B"))
)
RESPONSE_COLUMNS = ("response", "completion", "output", "answer", "generation", "summary")
SHARED_HEAD = "prompt taken as the ids that both sides begin with (prompt_ids would group rows by prompt)"
CONTRADICTING = "scores contradict the choice"


def chosen_edge(row: Row, **fixed: Any) -> Edge:
    """Build the judgement "first better than second" with the row's target, margin, weight, source, annotator."""
    return edge(0, 1, **{**judgement_numbers(row), **fixed})


def explicit_pair(row: Row, context: Context) -> Records:
    """Read prompt, chosen, rejected (text or messages), with optional margin, target, weight and two scores."""
    column = prompt_column(row)
    chosen, rejected = (unpack_chat(cell(row, side), side) for side in ("chosen", "rejected"))
    prompt, sides = _prompt_and_sides(row, column, chosen, rejected, context)
    edges = [chosen_edge(row)]
    grades = _two_scores(row, edges[0], context)
    return [
        comparison_record(
            prompt,
            sides,
            edges,
            grades=grades,
            split_group=hh_group(row[column]) if is_open_hh(row.get(column)) else None,
            row_meta=leftover(row, _EXPLICIT | {column, *read_with(row, column)}),
            context=context,
        )
    ]


def _prompt_and_sides(
    row: Row, column: str, chosen: Any, rejected: Any, context: Context
) -> tuple[list[Message], list[Response]]:
    if chosen == rejected:
        raise Dropped(IDENTICAL)
    given = unpack_chat(row.get(column), column)
    if is_chat(chosen) and is_chat(rejected) and (turns := chat(chosen, "chosen"))[0]["role"] != "assistant":
        prompt, first, second = split_sides(turns, chat(rejected, "rejected"), "chosen")
        return with_system(row, _with_stated_system(given, prompt)), [first, second]
    if given is None:
        raise RowError(
            "no prompt",
            column=column,
            expected="a prompt column, or whole conversations in chosen and rejected",
            got=f"chosen = {shown(chosen)}",
            remedy="name the prompt column: --mapping.prompt COLUMN",
        )
    return asked_prompt(row, column, context), [response_of(chosen, "chosen"), response_of(rejected, "rejected")]


def _with_stated_system(given: Any, found: list[Message]) -> list[Message]:
    """Return the prompt of whole conversations, with what the system says in the prompt column alone.

    A row whose prompt column says something else than the conversations themselves is dropped.
    """
    if given is None or given == "":
        return found
    stated = prompt_messages(given, "prompt")
    texts = {turn["content"].strip() for turn in found}
    before = [turn for turn in stated if turn["role"] == "system" and turn["content"].strip() not in texts]
    alone = before and found[0]["role"] != "system"
    if any(turn["content"].strip() not in texts for turn in stated if not (alone and turn in before)):
        raise Dropped(PROMPTS_DIFFER)
    return [*before, *found] if alone else found


def _two_scores(row: Row, judged: Edge, context: Context) -> list[list[Grade]] | None:
    if _SCORES.isdisjoint(row):
        return None
    scores = [_first_number(row, names) for names in (CHOSEN_SCORES, REJECTED_SCORES)]
    if scores == [None, None]:
        return None
    if None not in scores and (scores[0] < scores[1]) == (judged["p"] > 0.5) and scores[0] != scores[1]:  # type: ignore[operator]
        context.note(CONTRADICTING, 1)
    return [[{"dimension": "score", "value": score}] for score in scores]


def _first_number(row: Row, columns: Iterable[str]) -> float | None:
    return next((value for name in columns if (value := optional_number(row, name)) is not None), None)


def hh_pair(row: Row, context: Context) -> Records:
    """Read chosen and rejected as whole dialogues in HH's text layout."""
    chosen, rejected = text(row, "chosen"), text(row, "rejected")
    if chosen == rejected:
        raise Dropped(IDENTICAL)
    first, second = cut_hh(chosen, "chosen"), cut_hh(rejected, "rejected")
    if first.prompt != second.prompt:
        raise Dropped(PROMPTS_DIFFER)
    context.note(ENDS_WITH_USER, sum(HUMAN in side.response for side in (first, second)))
    used = {"chosen", "rejected", *_JUDGEMENT}
    return [
        comparison_record(
            hh_messages(first.prompt, "chosen"),
            [Response(first.response), Response(second.response)],
            [chosen_edge(row)],
            split_group=hh_group(chosen),
            row_meta=leftover(row, used),
            context=context,
        )
    ]


def alpaca_pair(row: Row, context: Context) -> Records:
    """Read instruction, input, chosen, rejected, with optional system text and history of question and answer."""
    used = {"instruction", "input", "history", *SYSTEM_COLUMNS, "chosen", "rejected", *_JUDGEMENT}
    sides = [response_of(row[side], side) for side in ("chosen", "rejected") if cell(row, side) is not None]
    if len(sides) < 2:
        raise RowError("one response only", column="rejected", expected="both chosen and rejected", got="null")
    return [
        comparison_record(alpaca_prompt(row), sides, [chosen_edge(row)], row_meta=leftover(row, used), context=context)
    ]


def labelled_pair(row: Row, context: Context) -> Records:
    """Read a prompt, two responses and ``label``: the index (0 or 1) of the better one."""
    asked, first, second = pair_columns(row)
    used = {asked, first, second, "label", "margin", "weight", *read_with(row, asked)}
    better = row.get("label")
    if better is None or better == "":
        raise Dropped(NO_JUDGEMENT)
    a = (first, second).index(better) if better in (first, second) else whole(better, "label", choices=(0, 1))
    judged = edge(a, 1 - a, **judgement_numbers({k: row.get(k) for k in ("margin", "weight")}))
    sides = [response_of(cell(row, column), column) for column in (first, second)]
    prompt = asked_prompt(row, asked, context)
    return [comparison_record(prompt, sides, [judged], row_meta=leftover(row, used), context=context)]


def pair_columns(row: Row) -> tuple[str, str, str]:
    """Return the names of the prompt column and of the two response columns."""
    prompt = next((name for name in PROMPT_COLUMNS if name in row), None)
    pair = next((names for names in PAIR_COLUMNS if names[0] in row and names[1] in row), None)
    if prompt is None or pair is None:
        raise RowError(
            "a column is missing",
            expected="a prompt column and two response columns, such as prompt, response_a, response_b",
            got=f"the columns {', '.join(row)}",
            remedy="name them: --mapping.prompt COLUMN --mapping.responses FIRST,SECOND",
        )
    return prompt, *pair


def tokenised_pair(row: Row, context: Context) -> Records:
    """Read chosen_ids and rejected_ids; the ids that both sides begin with are taken as the prompt (or prompt_ids)."""
    if context.tokenizer is None:
        raise RowError(
            "token ids need their tokenizer",
            column="chosen_ids",
            expected="the tokenizer that made the ids",
            got="none",
            remedy="name it: --tokenizer NAME-OR-FOLDER, or read(…, tokenizer=…)",
        )
    names = ("chosen_ids", "rejected_ids") if "chosen_ids" in row else ("chosen_input_ids", "rejected_input_ids")
    sides = [[whole(i, f"{name}[]") for i in items(row, name)] for name in names]
    if sides[0] == sides[1]:
        raise Dropped(IDENTICAL)
    head = [whole(i, "prompt_ids[]") for i in items(row, "prompt_ids")] if row.get("prompt_ids") is not None else None
    prompt, texts = _decode_sides(sides, head, context.tokenizer)
    used = {*names, "prompt_ids", *_JUDGEMENT}
    if head is None and looks_like_hh(prompt + texts[0]):
        whole_row = {"chosen": prompt + texts[0], "rejected": prompt + texts[1]}
        return hh_pair({**leftover(row, {*names}), **whole_row}, context)
    if head is None:
        context.note(SHARED_HEAD, 1)
    turns = prompt_messages(prompt, "prompt_ids") if prompt else as_messages("")
    pair = [Response(body) for body in texts]
    return [comparison_record(turns, pair, [chosen_edge(row)], row_meta=leftover(row, used), context=context)]


def _decode_sides(sides: list[list[int]], head: list[int] | None, tokenizer: Any) -> tuple[str, list[str]]:
    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    if head is not None:
        return decode(head), [decode(side) for side in sides]
    shared = 0
    while shared < min(map(len, sides)) and sides[0][shared] == sides[1][shared]:
        shared += 1
    prompt = decode(sides[0][:shared])
    bodies = []
    for side in sides:
        complete = decode(side)
        # Decoding a tail on its own can lose its leading space, so the tail is cut from the whole text.
        bodies.append(complete[len(prompt) :] if complete.startswith(prompt) else decode(side[shared:]))
    return prompt, bodies


def unlabelled_pair(row: Row, context: Context) -> Records:
    """Read a prompt with its responses and no judgement: a record without edges."""
    if "responses" in row:
        asked = prompt_column(row)
        used = {asked, "responses"}
        values = [(value, f"responses[{i}]") for i, value in enumerate(items(row, "responses"))]
        _note_numbers(context, [name for name in row if _are_numbers(row[name], len(values))])
    else:
        asked, *pair = pair_columns(row)
        used, values = {asked, *pair}, [(cell(row, column), column) for column in pair]
    return [_unjudged(row, asked, used, values, context)]


def lone_response(row: Row, context: Context) -> Records:
    """Read a prompt with one response and no judgement; rows of one prompt come together."""
    asked = prompt_column(row)
    column = next((name for name in RESPONSE_COLUMNS if name in row), RESPONSE_COLUMNS[0])
    _note_numbers(context, [name for name in row if GRADE_WORD.search(name) and _are_numbers([row[name]], 1)])
    return [_unjudged(row, asked, {asked, column}, [(cell(row, column), column)], context)]


def _are_numbers(value: Any, count: int) -> bool:
    """Tell whether a cell has as many numbers."""
    numbers = isinstance(value, (list, tuple)) and len(value) == count
    return numbers and all(isinstance(own, (int, float)) and not isinstance(own, bool) for own in value)


def _note_numbers(context: Context, names: list[str]) -> None:
    """Say that numbers beside responses, which may be grades, are kept in meta."""
    if names:
        context.note(f"numbers not read as grades: {', '.join(names)} (name them: --mapping.grades)", 1)


def _unjudged(row: Row, asked: str, used: set[str], values: list[tuple[Any, str]], context: Context) -> dict[str, Any]:
    alone = len(values) == 1
    meta = leftover(row, used | read_with(row, asked, alone=alone))
    prompt, sides = asked_prompt(row, asked, context, alone=alone), [response_of(*value) for value in values]
    return comparison_record(prompt, sides, [], row_meta=meta, allow_single=len(sides) == 1, context=context)
