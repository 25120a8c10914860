"""Judgements that follow from who wrote a response: an order of writers that is taken for granted (TSO)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from assay.errors import DataError
from assay.feedback.records import edge

ASSUMED = "assumed order"  # source of such judgements


def with_assumed_order(data: Dataset, order: Sequence[str], weight: float = 1.0) -> tuple[Dataset, dict[str, int]]:
    """Append a judgement for each two responses whose writers stand in an order, the better writer's winning.

    Chen et al. 2024 pair what a grid of models wrote by such an order, and correct it by votes of people and models:
    these are judgements of the same pairs, so ``--target.kind votes`` counts all of them.

    Parameters
    ----------
    data
        Comparisons whose ``meta`` names the ``model`` that wrote each response (as `assay label --generate` does).
    order
        Writers, best first.
    weight
        Of each such judgement.

    Returns
    -------
    tuple
        The records, and counts: ``judgements`` that were appended, ``responses`` of writers outside the order.

    Raises
    ------
    DataError
        If the order names fewer than two writers or one twice, or no pair of responses is of two of them.
    """
    if len(order) < 2 or len(set(order)) < len(order):
        raise DataError("an order is of two writers or more, each once", got=", ".join(order))
    rank = {name: place for place, name in enumerate(order)}
    counts = {"judgements": 0, "responses": 0}

    def judged(record: dict[str, Any]) -> dict[str, Any]:
        cells = (json.loads(record["meta"]) if record["meta"] else {}).get("responses") or []
        places = [rank.get((cell or {}).get("model", "")) for cell in cells]
        more = [
            edge(a, b, w=weight, source=ASSUMED)
            for a, one in enumerate(places)
            for b, other in enumerate(places)
            if one is not None and other is not None and one < other
        ]
        return {"edges": [*record["edges"], *more]}

    made = data.map(judged, features=data.features, desc="Pairing by the order of writers")
    counts["judgements"] = sum(map(len, made["edges"])) - sum(map(len, data["edges"]))
    for packed, responses in zip(data["meta"], data["responses"], strict=True):
        cells = (json.loads(packed) if packed else {}).get("responses") or [{}] * len(responses)
        counts["responses"] += sum((cell or {}).get("model") not in rank for cell in cells)
    if not counts["judgements"]:
        raise DataError(
            "no two responses of a prompt are of two writers of the order",
            expected=f'cells "model" of responses that name {", ".join(order)}',
            got=f"{counts['responses']} responses of others",
            remedy="assay label --generate.models writes such responses",
        )
    return made, counts
