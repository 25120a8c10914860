"""From the parts of one source row to one record: distinct responses once, judgements among them, the rest in meta."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from assay.feedback.dialogues import Response
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Edge, Grade, Message, default_group, edge, prompt_identity

IDENTICAL = "identical pair"
NO_JUDGEMENT = "no judgement"
LABEL = "good or bad"  # the dimension of a label; two good responses, or two bad ones, are not therefore equal
TIED_GRADES = "tied grades left out"
GRADES_SOURCE = "grades"
_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode
EQUAL_GAP = 1e-9  # means of three equal ratings may differ in the last bits
Ties = Literal["keep", "drop"]


@dataclass
class Context:
    """What a reader may need beside the row: settings, and a way to count what it did."""

    tokenizer: Any = None
    ties: Ties = "keep"
    note: Callable[[str, int], None] = field(default=lambda name, times: None)


def comparison_record(
    prompt: list[Message],
    responses: Sequence[Response],
    edges: Sequence[Edge],
    *,
    grades: Sequence[list[Grade]] | None = None,
    split_group: str | None = None,
    row_meta: dict[str, Any] | None = None,
    response_meta: Sequence[dict[str, Any]] | None = None,
    allow_single: bool = False,
    context: Context | None = None,
) -> dict[str, Any]:
    """Build a record; equal responses become one, and edges between equals are dropped and counted.

    Raises
    ------
    Dropped
        If all responses are the same text.
    RowError
        If there is only one response.
    """
    if len(responses) < 2 and not allow_single:
        raise RowError(
            "one response only",
            expected="two or more responses of the prompt",
            got=str(len(responses)),
            remedy="read single graded responses as ratings (mapping kind: ratings)",
        )
    prompt_id = prompt_identity(prompt, (response.text for response in responses))
    record: dict[str, Any] = {
        "prompt": prompt,
        "responses": [r.text for r in responses],
        "response_messages": [r.messages for r in responses],
        "grades": [list(g) for g in grades] if grades else [[] for _ in responses],
        "edges": list(edges),
        "prompt_id": prompt_id,
        "split_group": split_group or default_group(prompt, prompt_id),
        "meta": _meta(row_meta, response_meta),
    }
    if len(set(responses)) < len(responses):
        _unify(record, responses, response_meta, row_meta, context or Context(), allow_single)
    return record


def _meta(row_meta: dict[str, Any] | None, response_meta: Sequence[dict[str, Any]] | None) -> str | None:
    meta: dict[str, Any] = {"row": row_meta} if row_meta else {}
    if response_meta and any(response_meta):
        meta["responses"] = list(response_meta)
    return as_json(meta) if meta else None


def as_json(value: Any) -> str:
    """Return JSON text; what JSON cannot hold (dates, bytes) becomes its text form."""
    return _to_json(value)


def _unify(
    record: dict[str, Any],
    responses: Sequence[Response],
    response_meta: Sequence[dict[str, Any]] | None,
    row_meta: dict[str, Any] | None,
    context: Context,
    allow_single: bool,
) -> None:
    """Fold equal responses of one record into one, in place."""
    distinct: dict[Response, int] = {}
    index = [distinct.setdefault(response, len(distinct)) for response in responses]
    if len(distinct) == 1 and not allow_single:
        raise Dropped(IDENTICAL)
    first = [index.index(i) for i in range(len(distinct))]
    moved = [{**e, "a": index[e["a"]], "b": index[e["b"]]} for e in record["edges"]]
    record["edges"] = [e for e in moved if e["a"] != e["b"]]
    context.note("judgement between equal responses", len(moved) - len(record["edges"]))
    context.note("equal responses of one row folded", len(responses) - len(distinct))
    for key in ("responses", "response_messages"):
        record[key] = [record[key][i] for i in first]
    record["grades"] = [
        [g for i, own in enumerate(record["grades"]) if index[i] == target for g in own] for target in range(len(first))
    ]
    if response_meta:
        folded = [[m for i, m in enumerate(response_meta) if index[i] == t] for t in range(len(first))]
        record["meta"] = _meta(row_meta, [fold_meta(metas) for metas in folded])


def fold_meta(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fold the cells kept for one response that occurred several times; what differs goes to ``repeats``."""
    first = dict(metas[0])
    others = []
    for meta in metas[1:]:
        more = {key: value for key, value in meta.items() if key != "repeats" and first.get(key) != value}
        others += [more] if more else []
        others += meta.get("repeats", [])
    if others:
        first["repeats"] = [*first.get("repeats", []), *others]
    return first


def grade_edges(grades: Sequence[Sequence[Grade]], context: Context, dimension: str | None = None) -> list[Edge]:
    """Turn graded responses into plain judgements: the higher grade wins, equal grades tie (or are left out, counted).

    Two responses are compared by the mean over the dimensions in which both are rated (or by ``dimension`` alone);
    several ratings of one response in one dimension count as their mean.
    """
    rated = [_by_dimension(own, dimension) for own in grades]
    edges = []
    for a, first in enumerate(rated):
        for b in range(a + 1, len(rated)):
            common = first.keys() & rated[b].keys()
            if not common:
                continue
            if common == {LABEL} and first[LABEL] == rated[b][LABEL]:
                context.note("pairs of two good or two bad responses, not compared", 1)
                continue
            gap = math.fsum(first[name] - rated[b][name] for name in sorted(common)) / len(common)
            if abs(gap) <= EQUAL_GAP:
                if context.ties == "drop":
                    context.note(TIED_GRADES, 1)
                else:
                    edges.append(edge(a, b, 0.5, source=GRADES_SOURCE))
            else:
                better, worse = (a, b) if gap > 0 else (b, a)
                edges.append(edge(better, worse, source=GRADES_SOURCE))
    return edges


def _by_dimension(own: Sequence[Grade], dimension: str | None) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for grade in own:
        if grade["value"] is not None and dimension in (None, grade["dimension"]):
            values.setdefault(grade["dimension"], []).append(grade["value"])
    return {name: math.fsum(several) / len(several) for name, several in values.items()}
