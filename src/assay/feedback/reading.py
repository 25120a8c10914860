"""``read``: any source of feedback in, a memory-mapped data set of records out, with a report of what was done."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.table import InMemoryTable

from assay.errors import DataError
from assay.feedback.drafts import Context, Ties
from assay.feedback.mapping import ColumnMapping
from assay.feedback.merging import MergeRule, leaders, merge_rows, prompt_hash
from assay.feedback.read_report import ReadReport
from assay.feedback.records import kind_of
from assay.feedback.sources import Source, open_source
from assay.feedback.store import BatchFile, RecordWriter, cache_folder, cache_name, output_errors
from assay.feedback.stream import RatingsAs, ReadOptions, RecordStream

#: Raised when records of the same source would come out differently: older cache files are then not used.
READER_VERSION = 5

SourceLike: TypeAlias = str | Path | Dataset | Iterable[dict[str, Any]]


def read(
    source: SourceLike,
    format: str = "auto",
    *,
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    split: str | None = None,
    tokenizer: Any = None,
    group: str | None = None,
    ties: Ties = "keep",
    ratings: RatingsAs = "ratings",
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Read feedback as records; see :func:`read_with_report`, which also says what was dropped and merged."""
    return read_with_report(
        source,
        format,
        mapping=mapping,
        split=split,
        tokenizer=tokenizer,
        group=group,
        ties=ties,
        ratings=ratings,
        cache_dir=cache_dir,
    )[0]


def read_with_report(
    source: SourceLike,
    format: str = "auto",
    *,
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    split: str | None = None,
    tokenizer: Any = None,
    group: str | None = None,
    ties: Ties = "keep",
    ratings: RatingsAs = "ratings",
    cache_dir: str | Path | None = None,
) -> tuple[Dataset, ReadReport]:
    """Read feedback as records, one row per prompt.

    Parameters
    ----------
    source
        A file (jsonl, jsonl.gz, json, csv, parquet), a folder of them or of ``save_to_disk``, a Hub id
        (``org/name`` or ``org/name:split``), a list of dicts, or a ``Dataset``; one that already holds records
        is returned as it is.
    format
        A name in ``FORMATS``, or "auto": by columns and values.
    mapping
        For any other layout: which cells hold what (:class:`ColumnMapping`, or its fields as a dict).
    split
        The split of a Hub data set or saved folder; in a folder of files, those whose path there has it as a word.
    tokenizer
        For token ids: anything with ``decode``, or a name or folder of one.
    group
        Path of the column that must not be on both sides of a split; default: the first user turn.
    ties
        Where judgements follow from grades: keep equal grades as ties (p = 0.5), or drop (and count) them.
    ratings
        What ratings are read as. ``"comparisons"``: judgements between the rated responses of one prompt: the better
        rated one wins, two good or two bad ones are not compared, prompts with one rated response are dropped and
        counted. ``"responses"``: records of a prompt and its rated responses, without a judgement; a good/bad label is
        a grade of 1 or 0 in the dimension ``good or bad``, and a step is the solution up to there. Data that is no
        rating is read as ever.
    cache_dir
        Where records are kept; default: ``assay`` in the cache folder of ``datasets``.

    Returns
    -------
    The records (memory-mapped unless the source lives in memory), and the report.

    Raises
    ------
    DataError
        If the source does not exist, its layout is unknown or ambiguous, a row breaks it (all places counted, the
        first few named), or nothing is left.
    OutputError
        If the records cannot be stored.
    """
    options = ReadOptions.of(format, mapping, tokenizer, group, ties, ratings)
    opened = open_source(source, split)
    ready = _already_records(opened, options)
    if ready is not None:
        return ready
    if opened.stamp is None:
        return _read_in_memory(opened, options)
    return _read_through_cache(opened, options, cache_folder(cache_dir))


def _read_through_cache(opened: Source, options: ReadOptions, folder: Path) -> tuple[Dataset, ReadReport]:
    """Return the records kept of this content as read in this way; where there are none, read and keep them."""
    name = cache_name(READER_VERSION, opened.stamp, *_option_key(options))
    final, sidecar = folder / f"{name}.arrow", folder / f"{name}.json"
    if final.exists() and sidecar.exists():
        report = ReadReport(**json.loads(sidecar.read_text(encoding="utf-8")))
        report.source = opened.name
        return Dataset.from_file(str(final)), report
    with output_errors(folder):
        report = _read_to_file(opened, options, final, sidecar)
    return Dataset.from_file(str(final)), report


def _option_key(options: ReadOptions) -> list[Any]:
    mapping = None if options.mapping is None else options.mapping.model_dump(mode="json")
    tokenizer = options.tokenizer
    spoken = (
        None if tokenizer is None else [type(tokenizer).__name__, getattr(tokenizer, "name_or_path", id(tokenizer))]
    )
    return [options.format, mapping, spoken, options.group, options.ties, options.ratings]


def _already_records(source: Source, options: ReadOptions) -> tuple[Dataset, ReadReport] | None:
    data = source.table
    if data is None or options.mapping is not None or options.format not in ("auto", "record") or options.group:
        return None
    try:
        kind = kind_of(data)
    except ValueError:
        return None
    if kind == "ratings" and options.ratings != "ratings":
        return None
    report = ReadReport(source.name, "record", kind, rows=len(data), records=len(data))
    if kind == "comparisons":
        columns = data.with_format("arrow").select_columns(["responses", "edges"])
        for start in range(0, len(data), 1000):
            table = columns[start : min(start + 1000, len(data))]
            report.responses += pc.sum(pc.list_value_length(table["responses"])).as_py() or 0
            report.edges += pc.sum(pc.list_value_length(table["edges"])).as_py() or 0
    return data, report


def _read_in_memory(source: Source, options: ReadOptions) -> tuple[Dataset, ReadReport]:
    stream = RecordStream(source, options)
    sink = pa.BufferOutputStream()
    hashes, writer = _first_pass(stream, sink)
    buffer = sink.getvalue()
    rule = _merge_rule(stream)
    leader, merged = _leaders(hashes, rule), 0
    if leader is not None:
        second = pa.BufferOutputStream()
        writer = RecordWriter(second, stream.shape.kind, stream.notes)
        merged = merge_rows(leader, BatchFile(buffer), writer, rule)
        writer.close()
        buffer = second.getvalue()
    report = _report(stream, writer, merged)
    return Dataset(InMemoryTable.from_buffer(buffer)), report


def _read_to_file(source: Source, options: ReadOptions, final: Path, sidecar: Path) -> ReadReport:
    stream = RecordStream(source, options)
    raw = final.with_suffix(f".{os.getpid()}.raw")
    whole = final.with_suffix(f".{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(raw), "wb") as sink:
            hashes, writer = _first_pass(stream, sink)
        rule = _merge_rule(stream)
        leader, merged = _leaders(hashes, rule), 0
        if leader is not None:
            with pa.OSFile(str(whole), "wb") as sink:
                writer = RecordWriter(sink, stream.shape.kind, stream.notes)
                merged = merge_rows(leader, BatchFile(raw), writer, rule)
                writer.close()
        else:
            raw.replace(whole)
        report = _report(stream, writer, merged)
        # The report first: the data file stands for both, so it must come last.
        draft = sidecar.with_suffix(f".{os.getpid()}.tmp.json")
        draft.write_text(json.dumps(report.to_dict(), ensure_ascii=False), encoding="utf-8")
        draft.replace(sidecar)
        whole.replace(final)
    finally:
        raw.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
    return report


def _first_pass(stream: RecordStream, sink: pa.NativeFile) -> tuple[np.ndarray, RecordWriter]:
    """Write every row's records as they come; return the hash of each record's prompt."""
    writer = RecordWriter(sink, stream.shape.kind, stream.notes)
    hashes = array("Q")
    merging = stream.shape.kind == "comparisons"
    for _, _, record in stream:
        if stream.problems.count:
            continue  # nothing will be kept: only count the other bad rows
        if merging:
            hashes.append(prompt_hash(record))
        writer.add(record)
    if stream.problems.count:
        raise stream.problems.error()
    writer.close()
    if not writer.records:
        raise DataError(
            "no row holds a usable judgement",
            where=stream.source.name,
            expected="at least one row that is not dropped",
            got=", ".join(f"{count} dropped: {name}" for name, count in stream.dropped.counts.items()),
            remedy="name what judges them with a mapping (kind: ratings for responses graded alone), or mend the rows",
        )
    return np.frombuffer(hashes, dtype=np.uint64) if len(hashes) else np.zeros(0, np.uint64), writer


def _merge_rule(stream: RecordStream) -> MergeRule:
    context = Context(ties=stream.options.ties, note=lambda name, times: stream.notes.add(name, times=times))
    return MergeRule(
        stream.shape.grades_decide, stream.dimension, stream.shape.drop_single, context, stream.dropped, stream.notes
    )


def _leaders(hashes: np.ndarray, rule: MergeRule) -> np.ndarray | None:
    """Return each row's first row with the same prompt; None if there is nothing to merge or to drop."""
    if not len(hashes):
        return None
    leader = leaders(hashes)
    repeated = bool((leader != np.arange(len(leader))).any())
    return leader if repeated or rule.drop_single else None


def _report(stream: RecordStream, writer: RecordWriter, merged: int) -> ReadReport:
    if not writer.records:
        raise DataError(
            "every prompt has one response only",
            where=stream.source.name,
            expected="two or more responses of a prompt",
            remedy="say which column holds the prompt: --mapping.prompt COLUMN (docs/data.md)"
            if stream.options.ratings == "comparisons"
            else "read them as ratings: --mapping.kind ratings",
        )
    return ReadReport(
        source=stream.source.name,
        format=stream.shape.name,
        kind=stream.shape.kind,
        rows=stream.rows,
        records=writer.records,
        responses=writer.responses,
        edges=writer.edges,
        merged=merged,
        dropped=dict(stream.dropped.counts),
        notes=dict(stream.notes.counts),
        places={**stream.dropped.places, **stream.notes.places},
    )
