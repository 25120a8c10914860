"""Readers of rows with a verdict and its judge: arena with ties, confidence and worker, several annotators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from assay.feedback.asking import SYSTEM_COLUMNS, alpaca_prompt, with_system
from assay.feedback.dialogues import Response, chat, from_turns, is_chat, response_of, split_sides
from assay.feedback.drafts import NO_JUDGEMENT, Context, comparison_record
from assay.feedback.fields import Row, cell, flag, items, leftover, number, plain, shown, text, unpack, whole
from assay.feedback.pair_shapes import Records
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Edge, Message, edge, message

ANNOTATOR_COLUMN = re.compile(r"^annotator_?\d+$")
_WINS = ("winner_model_a", "winner_model_b", "winner_tie")
_MIDDLE, _LOWEST, _HIGHEST = 5, 1, 9
DISAGREEING = "confidence on the other side than the choice"


def arena(row: Row, context: Context) -> Records:
    """Read prompt, response_a, response_b (text, lists of turns, or JSON text of them) and who won."""
    if "conversation_a" in row:
        sides = [chat(cell(row, column), column) for column in ("conversation_a", "conversation_b")]
    else:
        sides = _sides_of_turns(row)
    judged = _arena_edge(row)
    prompt, pair = _cut(row, sides)
    used = {"prompt", "response_a", "response_b", "conversation_a", "conversation_b", "winner", "judge", *_WINS}
    meta = leftover(row, used | set(SYSTEM_COLUMNS))
    return [comparison_record(prompt, pair, [judged], row_meta=meta, context=context)]


def unjudged_turns(row: Row, context: Context) -> Records:
    """Read prompt, response_a, response_b as lists of turns, without a verdict: a record without edges."""
    prompt, pair = _cut(row, _sides_of_turns(row))
    meta = leftover(row, {"prompt", "response_a", "response_b", *SYSTEM_COLUMNS})
    return [comparison_record(prompt, pair, [], row_meta=meta, context=context)]


def _sides_of_turns(row: Row) -> list[list[Message]]:
    questions, *answers = _turns(row, ("prompt", "response_a", "response_b"))
    return [_interleave(questions, own, f"response_{name}") for name, own in zip("ab", answers, strict=True)]


def _cut(row: Row, sides: list[list[Message]]) -> tuple[list[Message], list[Response]]:
    """Return the prompt and both responses.

    A second question follows on an answer that differs, so everything after the first question is the response.
    """
    prompt, first, second = split_sides(sides[0], sides[1], "response_a") if sides[0] != sides[1] else _same(sides[0])
    return with_system(row, prompt), [first, second]


def _turns(row: Row, columns: Sequence[str]) -> list[list[Any]]:
    """Return the turns in each cell. Text is JSON only where all cells are: an answer may be JSON for its own sake."""
    values = [cell(row, column) for column in columns]
    unpacked = [unpack(value) for value in values]
    lists = [isinstance(value, (list, tuple)) for value in unpacked]
    if all(lists):
        values = unpacked
    elif sum(lists) == len(lists) - 1 and str(values[odd := lists.index(False)]).startswith("["):
        raise RowError(
            "turns are JSON in some cells only",
            column=columns[odd],
            expected="a list of turns, as in the other cells",
            got=shown(values[odd]),
        )
    for column, value in zip(columns, values, strict=True):
        if not isinstance(value, (str, list, tuple)):
            raise RowError("wrong type", column=column, expected="text or a list of turns", got=shown(value))
    return [[value] if isinstance(value, str) else ["" if turn is None else turn for turn in value] for value in values]


def _interleave(questions: list[Any], answers: list[Any], column: str) -> list[Message]:
    if is_chat(answers) and (is_chat(questions) or (len(questions) == 1 and isinstance(questions[0], str))):
        asked = chat(questions, "prompt") if is_chat(questions) else [message("user", questions[0])]
        return [*asked, *chat(answers, column)]
    if len(questions) != len(answers) or not answers or not all(isinstance(t, str) for t in [*questions, *answers]):
        raise RowError(
            "turns do not match",
            column=column,
            expected=f"{len(questions)} answers as text, one per question",
            got=f"{len(answers)} answers",
        )
    return [m for q, a in zip(questions, answers, strict=True) for m in (message("user", q), message("assistant", a))]


def _same(side: list[Message]) -> tuple[list[Message], Response, Response]:
    asked = next(k for k, turn in enumerate(side) if turn["role"] == "assistant")
    response = from_turns(side[asked:])
    return side[:asked], response, response


def _arena_edge(row: Row) -> Edge:
    judge = plain(row.get("judge"))
    if "winner" in row:
        winner = row["winner"]
        if winner is None or winner == "":
            raise Dropped(NO_JUDGEMENT)
        if winner in ("model_a", "a", "A") or winner in ("model_b", "b", "B"):
            a = 0 if str(winner)[-1] in "aA" else 1
            return edge(a, 1 - a, annotator=judge)
        if isinstance(winner, str) and winner.lower().startswith(("tie", "both")):
            return edge(0, 1, 0.5, annotator=judge)
        raise RowError("unknown verdict", column="winner", expected="model_a, model_b or tie", got=shown(winner))
    wins = [flag(cell(row, column), column) for column in _WINS]
    if not any(wins):
        raise Dropped(NO_JUDGEMENT)
    if sum(wins) > 1:
        got = ", ".join(f"{column} = {int(won)}" for column, won in zip(_WINS, wins, strict=True))
        raise RowError("more than one verdict", column=_WINS[0], expected="exactly one of the three set", got=got)
    return edge(0, 1, 0.5, annotator=judge) if wins[2] else edge(1 - wins[0], int(wins[0]), annotator=judge)


def confidence_pair(row: Row, context: Context) -> Records:
    """Read summarise-from-feedback: info, two summaries, choice, worker, extra.confidence (1-9, 5 is the middle).

    The edge keeps the strength ``|confidence - 5|``; the post's id is the split group.
    """
    info, summaries = cell(row, "info"), items(row, "summaries")
    if not isinstance(info, dict):
        raise RowError("wrong type", column="info", expected="an object with post or article", got=shown(info))
    post = next((info[key] for key in ("post", "article") if isinstance(info.get(key), str)), None)
    if post is None:
        raise RowError("no prompt", column="info.post", expected="text in info.post or info.article", got=shown(info))
    sides, metas = [], []
    for i, summary in enumerate(summaries):
        if not isinstance(summary, dict):
            raise RowError("wrong type", column=f"summaries[{i}]", expected='{"text": …}', got=shown(summary))
        sides.append(response_of(cell(summary, "text"), f"summaries[{i}].text"))
        metas.append(leftover(summary, ["text"]))
    a, strength = _confident_choice(row, context)
    judged = edge(a, 1 - a, annotator=plain(row.get("worker")), confidence=strength)
    meta = leftover(row, {"info", "summaries", "choice", "worker"})
    meta |= (
        {"info": rest} if (rest := leftover(info, ["post" if isinstance(info.get("post"), str) else "article"])) else {}
    )
    return [
        comparison_record(
            [message("user", post)],
            sides,
            [judged],
            split_group=plain(info.get("id")),
            row_meta=meta,
            response_meta=metas,
            context=context,
        )
    ]


def _confident_choice(row: Row, context: Context) -> tuple[int, float | None]:
    if row.get("choice") is None:
        raise Dropped(NO_JUDGEMENT)
    better = whole(row["choice"], "choice", choices=(0, 1))
    extra = row.get("extra")
    given = extra.get("confidence") if isinstance(extra, dict) else None
    if given is None:
        return better, None
    what = f"a number from {_LOWEST} to {_HIGHEST}"
    confidence = number(given, "extra.confidence", low=_LOWEST, high=_HIGHEST, what=what)
    if (confidence - _MIDDLE) * (better - 0.5) < 0:
        context.note(DISAGREEING, 1)
    return better, abs(confidence - _MIDDLE)


def annotated_pair(row: Row, context: Context) -> Records:
    """Read PandaLM: instruction, input, response1, response2, annotator1 …: 1 or 2 better, 0 tie."""
    annotators = [column for column in row if ANNOTATOR_COLUMN.match(column)]
    edges = []
    for column in annotators:
        if row[column] is None or row[column] == "":
            continue
        vote = whole(row[column], column, choices=(0, 1, 2))
        first = max(vote - 1, 0)
        edges.append(edge(first, 1 - first, 0.5 if vote == 0 else 1.0, annotator=column))
    if not edges:
        raise Dropped(NO_JUDGEMENT)
    sides = [Response(text(row, column)) for column in ("response1", "response2")]
    used = {"instruction", "input", "history", *SYSTEM_COLUMNS, "response1", "response2", *annotators}
    meta = leftover(row, used)
    return [comparison_record(alpaca_prompt(row), sides, edges, row_meta=meta, context=context)]
