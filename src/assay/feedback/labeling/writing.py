"""Labelled records on disk, a batch at a time: memory does not grow with their number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from assay.feedback.labeling.pairing import ResponsePairs
from assay.feedback.labeling.texts import BATCH_RECORDS
from assay.feedback.pairs import WEAK
from assay.feedback.records import COMPARISONS, prompt_text
from assay.output import new_file

_SCHEMA = COMPARISONS.arrow_schema


def write_weak(path: Path, pairs: ResponsePairs, p: np.ndarray) -> None:
    """Write the records of these pairs to Parquet, with weak judgements in place of any others.

    Parameters
    ----------
    path
        File to make.
    pairs, p
        What is labelled, and P(first better), ``[E]``. A judgement names the response of lower number first.
    """
    turned = pairs.first > pairs.second
    low, high = np.where(turned, pairs.second, pairs.first), np.where(turned, pairs.first, pairs.second)
    said = np.where(turned, 1.0 - p, p)

    def tables() -> Iterator[pa.Table]:
        for inside, (start, table) in zip(pairs.by_batch(BATCH_RECORDS), _tables(pairs.data), strict=True):
            counts = np.bincount(pairs.row[inside] - start, minlength=len(table))
            edges = _edges(counts, low[inside], high[inside], said[inside])
            yield _without_people(table, edges).filter(pa.array(counts > 0))

    _write(path, tables())


def _without_people(table: pa.Table, edges: pa.ListArray) -> pa.Table:
    """Put edges in place of others, and leave out what people said: grades, and the cells of judged records."""
    judged = pc.greater(pc.list_value_length(table["edges"]), 0)
    responses = pc.list_value_length(table["responses"]).to_numpy().astype(np.int64)
    kind = _SCHEMA.field("grades").type.value_type
    none = pa.array(np.zeros(1 + int(responses.sum()), np.int32))
    empty = pa.ListArray.from_arrays(none, pa.array([], kind.value_type))
    starts = pa.array(np.concatenate([[0], np.cumsum(responses)]).astype(np.int32))
    columns = {
        "edges": edges,
        "grades": pa.ListArray.from_arrays(starts, empty).cast(_SCHEMA.field("grades").type),
        "meta": pc.if_else(judged, pa.scalar(None, pa.string()), table["meta"]),
    }
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), _SCHEMA.field(name), column)
    return table


def write_records(path: Path, data: Dataset) -> None:
    """Write records to Parquet as they are."""
    _write(path, (table for _, table in _tables(data)))


def write_for_people(path: Path, pairs: ResponsePairs, p: np.ndarray) -> None:
    """Write a JSON line for each pair: ``prompt``, ``response_a``, ``response_b``, ``p`` (of a) and ``prompt_id``."""
    with new_file(path) as file:
        for inside, (start, table) in zip(pairs.by_batch(BATCH_RECORDS), _tables(pairs.data), strict=True):
            prompts, responses = table["prompt"], table["responses"]
            for at in inside:
                local = int(pairs.row[at]) - start
                texts = responses[local].as_py()
                line = {
                    "prompt": prompt_text(prompts[local].as_py()),
                    "response_a": texts[pairs.first[at]],
                    "response_b": texts[pairs.second[at]],
                    "p": round(float(p[at]), 4),
                    "prompt_id": table["prompt_id"][local].as_py(),
                }
                file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def _tables(data: Dataset) -> Iterator[tuple[int, pa.Table]]:
    columns = data.select_columns(_SCHEMA.names).with_format("arrow")
    for start in range(0, len(data), BATCH_RECORDS):
        yield start, columns[start : min(start + BATCH_RECORDS, len(data))].combine_chunks().cast(_SCHEMA)


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    with new_file(path) as file, pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        for table in tables:
            if len(table):
                writer.write_table(table)


def _edges(counts: np.ndarray, a: np.ndarray, b: np.ndarray, p: np.ndarray) -> pa.ListArray:
    """Return the judgements of records that have so many each, in their order."""
    number = len(a)
    given = {
        "a": pa.array(a, pa.int32()),
        "b": pa.array(b, pa.int32()),
        "p": pa.array(p, pa.float64()),
        "m": pa.array(np.zeros(number)),
        "w": pa.array(np.ones(number)),
        "source": pa.DictionaryArray.from_arrays(np.zeros(number, np.int32), [WEAK]).cast(pa.string()),
    }
    kind = _SCHEMA.field("edges").type.value_type
    fields = [kind.field(i) for i in range(kind.num_fields)]
    columns = [given[field.name] if field.name in given else pa.nulls(number, field.type) for field in fields]
    structs = pa.StructArray.from_arrays(columns, fields=fields)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(starts), structs, type=_SCHEMA.field("edges").type)
