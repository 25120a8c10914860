"""Texts that are asked otherwise, beside those that are judged: what a term over paraphrased prompts compares."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.fingerprint import Hasher

from assay.console import say
from assay.errors import DataError, ModelError
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.encoding import EncodedRecords

#: What a text is to the term: nothing, the anchor, the same asked otherwise, or another example asked alike.
NONE, ANCHOR, POSITIVE, NEGATIVE = 0.0, 1.0, 2.0, 3.0


def with_rewordings(
    data: Dataset, records: EncodedRecords, encoder: ConversationEncoder, seed: int
) -> tuple[EncodedRecords, np.ndarray]:
    """Append to each record two texts that nobody judges: its better answer asked otherwise, and another record's.

    Parameters
    ----------
    data, records
        Comparisons and the same encoded, without prompts alone. ``meta`` of a record holds ``otherwise``, its prompt in
        other words, as pairs of `assay task` do; records without stay as they are.
    encoder
        Of the model.
    seed
        Of the draws: which of the other ways, and which record of another group.

    Returns
    -------
    tuple
        The records, and what each text is to the term, float32 ``[texts]``.

    Raises
    ------
    DataError
        If no record is asked otherwise, or all that are belong to one group.
    ModelError
        If the model reads prompts alone, which must be the last texts of their records.
    """
    if records.prompts:
        raise ModelError(
            "a term over paraphrases adds texts behind those of the record, where this head reads the prompt",
            remedy="leave out --auxiliary.triplet, or choose another --head",
        )
    random, view = np.random.default_rng((seed, 13)), records.pairs
    better: dict[int, int] = {}
    for row, a, b, p in zip(view.row.tolist(), view.a.tolist(), view.b.tolist(), view.p.tolist(), strict=True):
        if p != 0.5:
            better.setdefault(row, a if p > 0.5 else b)
    ways = {row: own for row, meta in enumerate(data["meta"]) if row in better and (own := _otherwise(meta))}
    donors = _donors(sorted(ways), np.asarray(data["split_group"], object), random)
    if not donors:
        raise DataError(
            "no prompt is there in other words",
            expected='records of two groups whose meta holds "otherwise": prompts, as assay task writes pairs',
            got=f"{len(ways)} of {len(data)} records",
            remedy="leave out --auxiliary.triplet",
        )
    rows = sorted(donors)
    answers = [data[row]["responses"][better[row]] for row in rows]
    asked = [ways[row][int(random.integers(len(ways[row])))] for row in rows]
    reworded = dict(zip(rows, encoder.encode(asked, answers), strict=True))
    say(f"{len(rows):,} of {len(data):,} records are asked otherwise too")
    return _appended(records, better, donors, reworded, seed)


def _appended(
    records: EncodedRecords, better: dict[int, int], donors: dict[int, int], reworded: dict[int, Any], seed: int
) -> tuple[EncodedRecords, np.ndarray]:
    def grown(row: dict[str, Any], number: int) -> dict[str, Any]:
        if number not in donors:
            return row
        other = donors[number]
        one, text = reworded[number], int(records.offsets[other]) + better[other]
        more = {
            "ids": [list(one.ids), records.text(text).tolist()],
            "cut_prompt": [0, 0],
            "cut_reply": [0, 0],
            "reply_start": [one.prompt_tokens, int(records.reply_starts[text])],
        }
        return {name: [*row[name], *more[name]] for name in more}

    key = Hasher.hash([records.rows._fingerprint, sorted(donors.items()), seed, "rewordings-1"])
    rows = records.rows.map(grown, with_indices=True, new_fingerprint=key, desc="Asking otherwise")
    counts = np.diff(records.offsets) + 2 * np.isin(np.arange(len(records.offsets) - 1), list(donors))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    roles = np.zeros(int(offsets[-1]), np.float32)
    for row in donors:
        roles[offsets[row] + better[row]] = ANCHOR
        roles[offsets[row + 1] - 2], roles[offsets[row + 1] - 1] = POSITIVE, NEGATIVE
    lengths = np.array([len(ids) for row in rows["ids"] for ids in row], np.int64)
    starts = np.array([start for row in rows["reply_start"] for start in row], np.int64)
    return replace(records, rows=rows, offsets=offsets, lengths=lengths, reply_starts=starts), roles


def _otherwise(meta: str | None) -> list[str]:
    found = (json.loads(meta) if meta else {}).get("otherwise") or []
    return [str(one) for one in found]


def _donors(rows: list[int], groups: np.ndarray, random: np.random.Generator) -> dict[int, int]:
    """Give each record the next one of another group in a random order."""
    order = [rows[int(k)] for k in random.permutation(len(rows))]
    found = {}
    for place, row in enumerate(order):
        following = (order[step % len(order)] for step in range(place + 1, place + len(order)))
        donor = next((other for other in following if groups[other] != groups[row]), None)
        if donor is not None:
            found[row] = donor
    return found
