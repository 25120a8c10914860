"""Records on their way to disk: batches of Arrow in a file that appears under its name only when whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets.config
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import OutputError
from assay.feedback.problems import Tally
from assay.feedback.records import SCHEMAS, Kind

BATCH_ROWS = 4096
BATCH_CHARS = 16_000_000
REPLACED = "texts with lone surrogates, replaced by U+FFFD"


class RecordWriter:
    """Writes records of one kind to a sink as an Arrow stream, batch by batch, and counts them."""

    def __init__(self, sink: pa.NativeFile, kind: Kind, notes: Tally) -> None:
        self._schema = SCHEMAS[kind].arrow_schema
        self._stream = pa.ipc.new_stream(sink, self._schema)
        self._texts = "responses" if kind == "comparisons" else None
        self._notes = notes
        self._pending: list[dict[str, Any]] = []
        self._chars = 0
        self.records = self.edges = self.responses = 0

    def add(self, record: dict[str, Any]) -> None:
        """Take one record; a full batch goes to the sink."""
        self._pending.append(record)
        if self._texts:
            self._chars += sum(map(len, record[self._texts]))
        if len(self._pending) >= BATCH_ROWS or self._chars >= BATCH_CHARS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if self._pending:
            self.add_batch(to_batch(self._pending, self._schema, self._notes))
            self._pending, self._chars = [], 0

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Write one batch of records."""
        self.records += batch.num_rows
        if self._texts:
            self.edges += pc.sum(pc.list_value_length(batch.column("edges"))).as_py() or 0
            self.responses += pc.sum(pc.list_value_length(batch.column("responses"))).as_py() or 0
        self._stream.write_batch(batch)

    def close(self) -> None:
        """Write what is pending and the end mark."""
        self.flush()
        self._stream.close()


def to_batch(records: list[dict[str, Any]], schema: pa.Schema, notes: Tally) -> pa.RecordBatch:
    """Convert records to Arrow; text that UTF-8 cannot hold gets U+FFFD in its place, counted."""
    try:
        return pa.RecordBatch.from_pylist(records, schema=schema)
    except UnicodeEncodeError:
        return pa.RecordBatch.from_pylist([_encodable(record, notes) for record in records], schema=schema)


def _encodable(value: Any, notes: Tally) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            notes.add(REPLACED)
            return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    elif isinstance(value, dict):
        return {key: _encodable(entry, notes) for key, entry in value.items()}
    elif isinstance(value, list):
        return [_encodable(entry, notes) for entry in value]
    return value


class BatchFile:
    """Batches of a finished stream, in a file (memory-mapped) or in memory."""

    def __init__(self, place: Path | pa.Buffer) -> None:
        self.place = place
        self.batches: list[pa.RecordBatch] = []
        self.reopen()

    def reopen(self) -> None:
        """Map the file anew, which gives back the pages that were looked at so far."""
        self.batches = []
        source = pa.BufferReader(self.place) if isinstance(self.place, pa.Buffer) else pa.memory_map(str(self.place))
        with pa.ipc.open_stream(source) as reader:
            self.batches = list(reader)


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Return the folder of read data, made if need be.

    Raises
    ------
    OutputError
        If it cannot be made or written to.
    """
    folder = Path(cache_dir) if cache_dir is not None else Path(datasets.config.HF_DATASETS_CACHE) / "assay"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "no permission to write")
    return folder


@contextmanager
def output_errors(place: Path) -> Iterator[None]:
    """Turn what the disk refuses into an ``OutputError``."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "read data cannot be stored",
            where=str(place),
            got=error.strerror or str(error),
            remedy="free some space, or name another folder with cache_dir",
        ) from error


def cache_name(*parts: Any) -> str:
    """Return a file name for everything that decides the content."""
    packed = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(packed.encode()).hexdigest()[:32]
