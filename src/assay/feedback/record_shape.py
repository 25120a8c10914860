"""Reader of comparisons written in this package's own layout (prompt, responses, edges, grades)."""

from __future__ import annotations

import json
from typing import Any

from assay.feedback.dialogues import Response, prompt_messages
from assay.feedback.drafts import Context, comparison_record
from assay.feedback.fields import WEIGHT, Row, cell, items, number, optional_number, plain, shown, unpack, whole
from assay.feedback.list_shapes import grades_of
from assay.feedback.pair_shapes import Records
from assay.feedback.problems import RowError
from assay.feedback.records import Edge, edge


def own_record(row: Row, context: Context) -> Records:
    """Read one record; every index and number is checked, ids are computed anew."""
    texts = items(row, "responses")
    messages = items(row, "response_messages") if row.get("response_messages") is not None else [None] * len(texts)
    for i, body in enumerate(texts):
        if not isinstance(body, str):
            raise RowError("wrong type", column=f"responses[{i}]", expected="text", got=shown(body))
    if len(messages) != len(texts):
        raise RowError(
            "lists of different length",
            column="response_messages",
            expected=f"{len(texts)} entries",
            got=str(len(messages)),
        )
    given = items(row, "grades") if row.get("grades") is not None else [[] for _ in texts]
    if len(given) != len(texts):
        raise RowError(
            "lists of different length", column="grades", expected=f"{len(texts)} lists", got=str(len(given))
        )
    grades = [grades_of(own, f"grades[{i}]", "grade") if own is not None else [] for i, own in enumerate(given)]
    edges = [_edge(value, i, len(texts)) for i, value in enumerate(items(row, "edges"))]
    meta = unpack(row.get("meta"))
    record = comparison_record(
        prompt_messages(cell(row, "prompt"), "prompt"),
        [Response(body, plain(turns)) for body, turns in zip(texts, messages, strict=True)],
        edges,
        grades=grades,
        split_group=plain(row.get("split_group")),
        row_meta=meta.get("row") if isinstance(meta, dict) else None,
        response_meta=meta.get("responses") if isinstance(meta, dict) else None,
        context=context,
    )
    if meta is not None and len(record["responses"]) == len(texts):
        record["meta"] = meta if isinstance(meta, str) else json.dumps(meta, ensure_ascii=False)
    return [record]


def _edge(value: Any, index: int, responses: int) -> Edge:
    place = f"edges[{index}]"
    if not isinstance(value, dict):
        raise RowError("wrong type", column=place, expected='{"a": …, "b": …, "p": …}', got=shown(value))
    a, b = (whole(cell(value, side), f"{place}.{side}", choices=range(responses)) for side in "ab")
    if a == b:
        raise RowError(
            "a response against itself", column=place, expected="two different responses", got=f"a = b = {a}"
        )
    around = optional_number(value, "round")
    probability = value.get("p", 1.0)
    return edge(
        a,
        b,
        number(probability, f"{place}.p", low=0.0, high=1.0, what="a probability in [0, 1]"),
        m=number(value.get("m") or 0.0, f"{place}.m"),
        w=number(1.0 if value.get("w") is None else value["w"], f"{place}.w", **WEIGHT),
        source=plain(value.get("source")) or "human",
        annotator=plain(value.get("annotator")),
        confidence=optional_number(value, "confidence", low=0.0, what="a confidence of zero or more"),
        round=None if around is None else int(around),
    )
