"""One row per prompt: rows that share a prompt become one record, in constant memory.

Only a 64-bit hash per row lies in memory. Rows are put together block by block from the memory-mapped file of the
first pass; a record stands where its prompt first occurred.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.feedback.drafts import GRADES_SOURCE, Context, as_json, fold_meta, grade_edges
from assay.feedback.problems import Tally
from assay.feedback.store import BATCH_ROWS, BatchFile, RecordWriter, to_batch

ONE_RESPONSE = "one response only"
SEVERAL_GROUPS = "prompts whose rows name different split groups (the first one counts)"
_REMAP_BYTES = 32_000_000
_FAULT_BYTES = 64 * 1024  # the kernel maps that much around the first byte looked at


@dataclass
class MergeRule:
    """What merging must know: whether judgements follow from grades, and where to count."""

    grades_decide: bool = False
    dimension: str | None = None
    drop_single: bool = False
    context: Context = field(default_factory=Context)
    dropped: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)


def prompt_hash(record: dict[str, Any]) -> int:
    """Return 64 bits of the prompt's identity."""
    return int(record["prompt_id"][:16], 16)


def leaders(hashes: np.ndarray) -> np.ndarray:
    """Return, for each row, the first row with the same hash."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    leader = np.empty(len(hashes), dtype=np.int64)
    leader[order] = np.repeat(order[starts], np.diff(np.append(starts, len(hashes))))
    return leader


def merge_rows(leader: np.ndarray, rows: BatchFile, writer: RecordWriter, rule: MergeRule) -> int:
    """Write one record per group of rows; returns how many rows went into an earlier one."""
    followers = np.flatnonzero(leader != np.arange(len(leader)))
    followers = followers[np.argsort(leader[followers], kind="stable")]
    led = leader[followers]
    gatherer = _Gatherer(rows)
    merged = 0
    for start in range(0, len(leader), BATCH_ROWS):
        window = np.arange(start, min(start + BATCH_ROWS, len(leader)))
        heads = window[leader[window] == window]
        begins, ends = np.searchsorted(led, heads, "left"), np.searchsorted(led, heads, "right")
        for block in _blocks(1 + ends - begins):
            groups = [
                np.concatenate([[head], followers[begin:end]])
                for head, begin, end in zip(heads[block], begins[block], ends[block], strict=True)
            ]
            merged += _write_block(groups, gatherer, writer, rule)
    return merged


def _blocks(sizes: np.ndarray) -> Iterator[slice]:
    """Cut groups into runs of about a batch of rows: a window's first rows may lead any number of later ones."""
    begin, total = 0, 0
    for i, size in enumerate(sizes):
        total += int(size)
        if total >= BATCH_ROWS:
            yield slice(begin, i + 1)
            begin, total = i + 1, 0
    if begin < len(sizes):
        yield slice(begin, len(sizes))


class _Gatherer:
    """Takes rows by number; maps the file anew now and then, so that looked-at pages do not pile up."""

    def __init__(self, rows: BatchFile) -> None:
        self._rows = rows
        self._offsets = np.concatenate([[0], np.cumsum([batch.num_rows for batch in rows.batches])])
        self._touched = 0

    def take(self, sorted_rows: np.ndarray) -> pa.Table:
        batch_of = np.searchsorted(self._offsets, sorted_rows, side="right") - 1
        return pa.Table.from_batches(
            [self._piece(int(index), sorted_rows[batch_of == index]) for index in np.unique(batch_of)]
        )

    def _piece(self, index: int, rows: np.ndarray) -> pa.RecordBatch:
        if self._touched > _REMAP_BYTES:
            self._rows.reopen()
            self._touched = 0
        batch = self._rows.batches[index]
        runs = 1 + int((np.diff(rows) > 1).sum())
        self._touched += min(batch.nbytes, runs * _FAULT_BYTES * len(batch.schema))
        return batch.take(pa.array(rows - self._offsets[index]))


def _write_block(groups: Sequence[np.ndarray], gatherer: _Gatherer, writer: RecordWriter, rule: MergeRule) -> int:
    rows = np.sort(np.concatenate(groups))
    table = gatherer.take(rows)
    alone = np.array([group[0] for group in groups if len(group) == 1], dtype=np.int64)
    several = [group for group in groups if len(group) > 1]
    kept = table.take(pa.array(np.searchsorted(rows, alone)))
    firsts, records = list(alone), []
    members = np.concatenate(several) if several else np.zeros(0, dtype=np.int64)
    loaded = iter(table.take(pa.array(np.searchsorted(rows, members))).to_pylist())
    for group in several:
        for record in merge_group(list(islice(loaded, len(group))), rule):
            records.append(record)
            firsts.append(group[0])
    pieces = [kept, pa.Table.from_batches([to_batch(records, kept.schema, rule.notes)])] if records else [kept]
    block = pa.concat_tables(pieces).take(pa.array(np.argsort(firsts, kind="stable"))).combine_chunks()
    for batch in _without_single(block, rule).to_batches():
        writer.add_batch(batch)
    return sum(map(len, several)) - len(records)


def _without_single(block: pa.Table, rule: MergeRule) -> pa.Table:
    if not rule.drop_single:
        return block
    enough = pc.greater_equal(pc.list_value_length(block["responses"]), 2)
    kept = block.filter(enough)
    rule.dropped.add(ONE_RESPONSE, times=block.num_rows - kept.num_rows)
    return kept


def merge_group(rows: Sequence[dict[str, Any]], rule: MergeRule) -> list[dict[str, Any]]:
    """Merge rows of one hash: one record, or one per prompt where two prompts share the 64 bits."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    return [merge_records(own, rule) if len(own) > 1 else own[0] for own in by_prompt.values()]


def merge_records(rows: Sequence[dict[str, Any]], rule: MergeRule) -> dict[str, Any]:
    """Merge records of one prompt: distinct responses once, every judgement an edge, grades side by side."""
    place: dict[tuple[str, str | None], int] = {}
    grades: list[list[Any]] = []
    edges: list[Any] = []
    metas: list[list[dict[str, Any]]] = []
    for row in rows:
        index = []
        for i, response in enumerate(zip(row["responses"], row["response_messages"], strict=True)):
            at = place.setdefault(response, len(place))
            if at == len(grades):
                grades.append([])
                metas.append([])
            grades[at] += row["grades"][i]
            index.append(at)
        for judged in row["edges"]:
            if not (rule.grades_decide and judged["source"] == GRADES_SOURCE):
                edges.append({**judged, "a": index[judged["a"]], "b": index[judged["b"]]})
        row["index"] = index
    if rule.grades_decide:
        edges += grade_edges(grades, rule.context, rule.dimension)
    if any(row["split_group"] != rows[0]["split_group"] for row in rows):
        rule.notes.add(SEVERAL_GROUPS)
    return {
        **{key: rows[0][key] for key in ("prompt", "prompt_id", "split_group")},
        "responses": [text for text, _ in place],
        "response_messages": [messages for _, messages in place],
        "grades": grades,
        "edges": edges,
        "meta": _merged_meta(rows, metas),
    }


def _merged_meta(rows: Sequence[dict[str, Any]], metas: list[list[dict[str, Any]]]) -> str | None:
    """Keep once what all rows say; what differs goes to ``rows``, or to the response where a row holds only one."""
    if all(row["meta"] is None for row in rows):
        return None
    packed = [json.loads(row["meta"]) if row["meta"] else {} for row in rows]
    own = [meta.get("row", {}) for meta in packed]
    common = {key: value for key, value in own[0].items() if all(key in o and o[key] == value for o in own[1:])}
    rest = [{key: value for key, value in o.items() if key not in common} for o in own]
    single = all(len(row["index"]) == 1 for row in rows)
    for row, meta, more in zip(rows, packed, rest, strict=True):
        for at, of_response in zip(row["index"], meta.get("responses") or [{}] * len(row["index"]), strict=True):
            metas[at].append({**(of_response or {}), **(more if single else {})})
    result: dict[str, Any] = {"row": common} if common else {}
    if any(rest) and not single:
        result["rows"] = rest
    if any(any(several) for several in metas):
        result["responses"] = [fold_meta(several) for several in metas]
    return as_json(result) if result else None
