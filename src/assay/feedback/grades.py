"""Grades of responses as one table, their combination, and the gap between the two responses of a judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from assay.errors import DataError
from assay.feedback.drafts import EQUAL_GAP
from assay.feedback.pairs import Pairs

Scale = Literal["raw", "log"]
_BATCH_ROWS = 1000


@dataclass(frozen=True)
class GradeTable:
    """Grades of all responses of a data set.

    Attributes
    ----------
    dimensions
        Names, sorted.
    values
        float64 ``[texts, dimensions]``: the mean of a response's ratings in a dimension, NaN where there is none.
        Response j of record i is text ``offsets[i] + j``.
    offsets
        int64 ``[records + 1]``.
    """

    dimensions: tuple[str, ...]
    values: np.ndarray
    offsets: np.ndarray

    def weights(self, wanted: Mapping[str, float] | None = None) -> np.ndarray:
        """Return the weight of every dimension, ``[dimensions]``; none wanted: all alike.

        Raises
        ------
        DataError
            If a dimension is not there, or no weight is above 0.
        """
        if not wanted:
            return np.ones(len(self.dimensions))
        unknown = sorted(set(wanted) - set(self.dimensions))
        if unknown:
            raise DataError(
                f"no response is graded in {', '.join(unknown)}",
                expected=f"dimensions among {', '.join(self.dimensions) or '(no grades at all)'}",
                got=", ".join(wanted),
                remedy="assay check lists the dimensions of a data set",
            )
        weights = np.array([float(wanted.get(name, 0.0)) for name in self.dimensions])
        if not np.all(np.isfinite(weights)) or not np.any(weights != 0):
            raise DataError("weights of dimensions must be numbers, one of them other than 0", got=str(dict(wanted)))
        return weights

    def combined(self, wanted: Mapping[str, float] | None = None, scale: Scale = "raw") -> np.ndarray:
        """Return one grade per response, float64 ``[texts]``: the weighted mean; NaN where a dimension is missing."""
        weights = self.weights(wanted)
        used = weights != 0
        return np.asarray(scaled(self.values, scale)[:, used] @ weights[used] / np.abs(weights).sum())

    def gaps(self, given: Pairs, wanted: Mapping[str, float] | None = None, scale: Scale = "raw") -> np.ndarray:
        """Return grade(a) - grade(b) per judgement, float64 ``[E]``; NaN where no dimension is graded in both.

        Over the dimensions graded in both, by weight, as the readers compare graded responses. A gap of rounding errors
        is 0.
        """
        weights, values = self.weights(wanted), scaled(self.values, scale)
        gap = values[self.offsets[given.row] + given.a] - values[self.offsets[given.row] + given.b]
        there = ~np.isnan(gap) & (weights != 0)
        size = (there * np.abs(weights)).sum(axis=1)
        total = (np.where(there, gap, 0.0) * weights).sum(axis=1)
        found = np.where(size > 0, total / np.where(size > 0, size, 1.0), np.nan)
        return np.where(np.abs(found) <= EQUAL_GAP, 0.0, found)


def scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return grades on a scale: as they are, or ``log1p`` of counts, whose gaps are log-ratios.

    Raises
    ------
    DataError
        If a grade is infinite, or a count negative.
    """
    if np.isinf(values).any():
        raise DataError(
            "a grade is infinite",
            expected="finite grades, or none",
            got=f"{int(np.isinf(values).sum())} infinite ones",
            remedy="cap them, or leave the response ungraded (null)",
        )
    if scale == "raw":
        return values
    if np.nanmin(values, initial=0.0) < 0:
        raise DataError(
            "a log scale is for counts",
            expected="grades of 0 and above",
            got=f"{np.nanmin(values):g}",
            remedy="--target.scale raw",
        )
    return np.asarray(np.log1p(values))


def grade_table(data: Dataset) -> GradeTable:
    """Gather the grades of comparisons."""
    counts, texts, names, values = [np.zeros(0, np.int64)], [], [], []
    base = 0
    columns = data.select_columns(["responses", "grades"]).with_format("arrow")
    for start in range(0, len(data), _BATCH_ROWS):
        table = columns[start : start + _BATCH_ROWS].combine_chunks()
        responses = pc.list_value_length(table["responses"]).fill_null(0).to_numpy().astype(np.int64)
        per_text = pc.list_flatten(table["grades"])
        number = pc.list_value_length(per_text).fill_null(0).to_numpy().astype(np.int64)
        flat = _one(pc.list_flatten(per_text))
        counts.append(responses)
        texts.append(base + np.repeat(_texts_of(table, responses), number))
        names.append(np.asarray(flat.field("dimension").to_pylist(), object))
        values.append(flat.field("value").to_numpy(zero_copy_only=False).astype(np.float64))
        base += int(responses.sum())
    text, name, value = (np.concatenate(part) if part else np.zeros(0) for part in (texts, names, values))
    known = ~np.isnan(value)
    text, name, value = text[known].astype(np.int64), name[known], value[known]
    dimensions, column = np.unique(name.astype(str), return_inverse=True)
    shape = (base, len(dimensions))
    cell = text * len(dimensions) + column.ravel()
    sums, times = (np.bincount(cell, weights, base * len(dimensions)).reshape(shape) for weights in (value, None))
    mean = np.where(times > 0, sums / np.where(times > 0, times, 1.0), np.nan)
    return GradeTable(tuple(map(str, dimensions)), mean, np.concatenate([[0], np.cumsum(np.concatenate(counts))]))


def _texts_of(table: pa.Table, responses: np.ndarray) -> np.ndarray:
    """Return the texts that the lists of grades belong to; a record may have none at all."""
    lists = pc.list_value_length(table["grades"]).fill_null(0).to_numpy().astype(np.int64)
    first = np.cumsum(responses) - responses
    return np.repeat(first - (np.cumsum(lists) - lists), lists) + np.arange(lists.sum())


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
