"""Readers of rows that hold several responses of one prompt: ranked, rated, graded."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from assay.feedback.asking import asked_prompt, prompt_column, read_with
from assay.feedback.dialogues import Response, prompt_messages, response_of
from assay.feedback.drafts import NO_JUDGEMENT, Context, comparison_record, grade_edges
from assay.feedback.fields import Row, cell, items, leftover, number, shown
from assay.feedback.pair_shapes import Records
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Edge, Grade, edge

RESPONSE_LISTS = ("responses", "generations", "completions", "answers")
GRADE_LISTS = ("ratings", "grades", "scores")
_BLANK_GRADES = ("", "none", "null", "n/a", "na", "nan")


def ranked_list(row: Row, context: Context) -> Records:
    """Read context and completions with a rank each (NeMo-RL): a lower rank is better, equal ranks tie."""
    prompt = prompt_messages(cell(row, "context"), "context")
    ranks, sides, metas = [], [], []
    for i, entry in enumerate(items(row, "completions")):
        place = f"completions[{i}]"
        if not isinstance(entry, dict):
            raise RowError("wrong type", column=place, expected='{"rank": …, "completion": …}', got=shown(entry))
        ranks.append(number(cell(entry, "rank"), f"{place}.rank"))
        sides.append(response_of(cell(entry, "completion"), f"{place}.completion"))
        metas.append({"rank": entry["rank"], **leftover(entry, ["rank", "completion"])})
    edges = rank_edges(ranks)
    meta = leftover(row, {"context", "completions"})
    return [comparison_record(prompt, sides, edges, row_meta=meta, response_meta=metas, context=context)]


def rank_edges(ranks: list[float]) -> list[Edge]:
    """Turn ranks (lower is better) into one judgement per pair."""
    edges = []
    for a, b in combinations(range(len(ranks)), 2):
        better, worse = (a, b) if ranks[a] <= ranks[b] else (b, a)
        edges.append(edge(better, worse, 0.5 if ranks[a] == ranks[b] else 1.0, source="ranks"))
    return edges


def rated_list(row: Row, context: Context) -> Records:
    """Read a prompt, a list of responses and a grade (or a dict of grades) for each; null is "not rated".

    Judgements follow from the grades; see :func:`assay.feedback.drafts.grade_edges`.
    """
    asked = prompt_column(row)
    responses = next((name for name in RESPONSE_LISTS if name in row), RESPONSE_LISTS[0])
    graded = next((name for name in GRADE_LISTS if name in row), GRADE_LISTS[0])
    sides = [response_of(value, f"{responses}[{i}]") for i, value in enumerate(items(row, responses))]
    if len(sides) < 2:
        raise Dropped("one response only")
    values = items(row, graded)
    if len(values) != len(sides):
        raise RowError(
            "lists of different length", column=graded, expected=f"{len(sides)} grades", got=str(len(values))
        )
    dimension = {"ratings": "rating", "grades": "grade", "scores": "score"}[graded]
    grades = [grades_of(value, f"{graded}[{i}]", dimension) for i, value in enumerate(values)]
    aligned = [n for n in row if n not in (responses, graded) and _is_list_of(row[n], len(sides))]
    metas = [{name: row[name][i] for name in aligned} for i in range(len(sides))]
    used = {asked, responses, graded, *aligned} | read_with(row, asked, alone=True)
    turns = asked_prompt(row, asked, context, alone=True)
    return [graded_record(turns, sides, grades, context, row_meta=leftover(row, used), response_meta=metas)]


def _is_list_of(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def graded_record(
    prompt: list[Any], sides: list[Response], grades: list[list[Grade]], context: Context, **rest: Any
) -> dict[str, Any]:
    """Build a record whose judgements follow from its grades, after equal responses were folded."""
    if not any(grade["value"] is not None for own in grades for grade in own):
        raise Dropped(NO_JUDGEMENT)
    record = comparison_record(prompt, sides, [], grades=grades, context=context, **rest)
    record["edges"] = grade_edges(record["grades"], context)
    return record


def grades_of(value: Any, column: str, dimension: str) -> list[Grade]:
    """Return the grades in a cell: a number, numeric text, null, or a dict of them by dimension."""
    if isinstance(value, dict):
        if set(value) == {"dimension", "value"}:
            return [{"dimension": str(value["dimension"]), "value": grade_value(value["value"], f"{column}.value")}]
        return [{"dimension": str(k), "value": grade_value(v, f"{column}.{k}")} for k, v in value.items()]
    if isinstance(value, (list, tuple)) and all(isinstance(entry, dict) for entry in value):
        return [grade for i, entry in enumerate(value) for grade in grades_of(entry, f"{column}[{i}]", dimension)]
    return [{"dimension": dimension, "value": grade_value(value, column)}]


def grade_value(value: Any, column: str) -> float | None:
    """Return one grade as a number; true is 1, null (and its usual spellings in text) is None."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _BLANK_GRADES):
        return None
    if isinstance(value, bool):
        return float(value)
    return number(value, column, what="a number, or null for not rated")
