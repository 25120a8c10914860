"""The pair view: every judgement of a comparisons data set as one line of flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from assay.feedback.records import Message

JUDGE = "judge"  # whoever compared the two responses
GIVEN = "given"  # a margin that came with the data
NOBODY = ""

#: Source of judgements that a label model made.
WEAK = "weak"

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
    annotator
        object: name of the annotator, or None.
    confidence
        float64: how sure the judge was, in the source's own unit; NaN where not said.
    round
        int64: round of self-labelling, -1 where none.
    p_from, m_from
        object: the signal that p and m were set from, so that one gap is not counted twice. Until a transform sets
        them: ``"judge"`` for p; for m ``"given"`` where a margin came with the data, else ``""``.
    id
        int64: tells a judgement again after others were dropped or appended.
    next_id
        The first id that was never given.
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
    annotator: np.ndarray
    confidence: np.ndarray
    round: np.ndarray
    p_from: np.ndarray
    m_from: np.ndarray
    id: np.ndarray
    next_id: int

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> Pairs:
        """Return the judgements at ``index`` (positions or a mask); they still point into the same records."""
        return replace(self, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def joined(self, other: Pairs) -> Pairs:
        """Return these judgements and then other ones of the same records, which get ids that nothing had before."""
        other = replace(other, id=np.arange(len(other)) + self.next_id)
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _COLUMNS}
        return replace(self, **columns, next_id=self.next_id + len(other))

    def texts(self, index: int) -> tuple[list[Message], str, str]:
        """Return prompt messages, text of response a and text of response b of one judgement."""
        record = self.data[int(self.row[index])]
        return record["prompt"], record["responses"][self.a[index]], record["responses"][self.b[index]]


_COLUMNS = tuple(each.name for each in fields(Pairs) if each.name not in ("data", "next_id"))


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
            "annotator": flat.field("annotator").to_numpy(zero_copy_only=False),
            "confidence": flat.field("confidence").to_numpy(zero_copy_only=False).astype(np.float64),
            "round": flat.field("round").fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        }
        for key, value in piece.items():
            parts.setdefault(key, []).append(value)
        base += len(counts)
    kinds: dict[str, type] = dict.fromkeys(("row", "a", "b", "length_a", "length_b", "round"), np.int64)
    kinds |= dict.fromkeys(("p", "m", "w", "confidence"), np.float64)
    kinds |= dict.fromkeys(("source", "group", "annotator"), object)
    found = {k: np.concatenate(parts[k]) if k in parts else np.zeros(0, kind) for k, kind in kinds.items()}
    count = len(found["row"])
    return Pairs(
        data=data,
        **found,
        p_from=np.full(count, JUDGE, object),
        m_from=np.where(found["m"] != 0, GIVEN, NOBODY).astype(object),
        id=np.arange(count),
        next_id=count,
    )
