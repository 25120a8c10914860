"""The pair view: every judgement of a comparisons data set as one line of flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from assay.feedback.records import Message

_BATCH_ROWS = 1000


@dataclass(frozen=True)
class Pairs:
    """Judgements in record order. All arrays have length E, the number of edges.

    Attributes
    ----------
    data
        The records that the view looks at; texts are read from it on demand.
    row, a, b
        int64: row of ``data``, and the two responses within it.
    p, m, w
        float64: target P(a better) in [0, 1], additive margin, weight >= 0.
    length_a, length_b
        int64: characters of the two responses.
    source, group
        object arrays of strings: who judged, and the split group.
    """

    data: Dataset
    row: np.ndarray
    a: np.ndarray
    b: np.ndarray
    p: np.ndarray
    m: np.ndarray
    w: np.ndarray
    length_a: np.ndarray
    length_b: np.ndarray
    source: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> Pairs:
        """Return the judgements at ``index``; they still point into the same records."""
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "data"}
        return replace(self, **arrays)

    def texts(self, index: int) -> tuple[list[Message], str, str]:
        """Return prompt messages, text of response a and text of response b of one judgement."""
        record = self.data[int(self.row[index])]
        return record["prompt"], record["responses"][self.a[index]], record["responses"][self.b[index]]


def _tables(data: Dataset) -> Iterator[pa.Table]:
    columns = data.select_columns(["responses", "edges", "split_group"]).with_format("arrow")
    for start in range(0, len(data), _BATCH_ROWS):
        yield columns[start : min(start + _BATCH_ROWS, len(data))]


def pairs(data: Dataset) -> Pairs:
    """View the judgements of ``data`` (kind: comparisons) as arrays; memory grows with the number of edges only."""
    parts: dict[str, list[np.ndarray]] = {}
    base = 0
    for table in _tables(data):
        table = table.combine_chunks()
        edges = table["edges"].combine_chunks()
        flat = edges.flatten()
        counts = pc.list_value_length(edges).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        local = np.repeat(np.arange(len(counts)), counts)
        responses = table["responses"].combine_chunks()
        starts = np.concatenate([[0], np.cumsum(pc.list_value_length(responses).to_numpy(zero_copy_only=False))])
        lengths = pc.utf8_length(responses.flatten()).to_numpy(zero_copy_only=False).astype(np.int64)
        a = flat.field("a").to_numpy(zero_copy_only=False).astype(np.int64)
        b = flat.field("b").to_numpy(zero_copy_only=False).astype(np.int64)
        groups = table["split_group"].to_numpy()
        piece = {
            "row": local + base,
            "a": a,
            "b": b,
            **{k: flat.field(k).to_numpy(zero_copy_only=False).astype(np.float64) for k in ("p", "m", "w")},
            "length_a": lengths[starts[local].astype(np.int64) + a],
            "length_b": lengths[starts[local].astype(np.int64) + b],
            "source": flat.field("source").to_numpy(zero_copy_only=False),
            "group": groups[local],
        }
        for key, value in piece.items():
            parts.setdefault(key, []).append(value)
        base += len(counts)
    empty = {k: np.zeros(0, np.int64) for k in ("row", "a", "b", "length_a", "length_b")}
    empty |= {k: np.zeros(0, np.float64) for k in ("p", "m", "w")}
    empty |= {k: np.zeros(0, object) for k in ("source", "group")}
    return Pairs(
        data=data, **{key: np.concatenate(parts[key]) if key in parts else none for key, none in empty.items()}
    )
