"""Bridges between the two responses of a judgement: the worse one minimally edited towards the better (BMC)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from assay.feedback.pairs import pairs
from assay.feedback.records import as_chat, with_responses

#: Edits worse responses towards better ones: prompts, better and worse responses in, edits out; "" where it cannot.
Editor = Callable[[Sequence[Any], Sequence[str], Sequence[str]], list[str]]


def bridged(data: Dataset, edit: Editor) -> tuple[Dataset, dict[str, int]]:
    """Put edits of worse responses in the place of better ones (Jiang et al. 2025).

    What then tells the two apart is what made the difference. Judgements that take no side, and those whose response
    cannot be edited, stay as they are.

    Parameters
    ----------
    data
        Comparisons.
    edit
        Any model that edits; it is asked once for each judgement that takes a side.

    Returns
    -------
    tuple
        The records, and counts: ``edited``, ``kept`` (nothing was edited, or the edit equals the worse response).
    """
    view = pairs(data)
    chosen = np.flatnonzero((view.p != 0.5) & (view.w > 0))
    best = np.where(view.p > 0.5, view.a, view.b)[chosen]
    worst = np.where(view.p > 0.5, view.b, view.a)[chosen]
    rows = data.select_columns(["prompt", "responses"])
    given = [(rows[int(row)], int(b), int(w)) for row, b, w in zip(view.row[chosen], best, worst, strict=True)]
    edits = edit(
        [as_chat(record["prompt"]) for record, _, _ in given],
        [record["responses"][b] for record, b, _ in given],
        [record["responses"][w] for record, _, w in given],
    )
    by_row: dict[int, dict[tuple[int, int], str]] = {}
    for row, (record, b, w), text in zip(view.row[chosen].tolist(), given, edits, strict=True):
        if text.strip() and text.strip() != record["responses"][w].strip():
            by_row.setdefault(row, {})[b, w] = text

    def put(record: dict[str, Any], row: int) -> dict[str, Any]:
        found = by_row.get(row)
        if not found:
            return {}
        texts, edges = list(record["responses"]), []
        for one in record["edges"]:
            first = one["p"] > 0.5
            text = found.get((one["a"], one["b"]) if first else (one["b"], one["a"]))
            if text is None or one["p"] == 0.5:
                edges.append(one)
                continue
            if text not in texts:
                texts.append(text)
            edges.append({**one, "a" if first else "b": texts.index(text)})
        return with_responses(record, texts[len(record["responses"]) :]) | {"edges": edges}

    made = data.map(put, with_indices=True, features=data.features, desc="Bridging")
    edited = sum(len(own) for own in by_row.values())
    return made, {"edited": edited, "kept": len(chosen) - edited}
