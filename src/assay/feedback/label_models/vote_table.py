"""Votes gathered by their distinct rows: all that any label model learns from, however many pairs there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from assay.errors import DataError

_BLOCK = 65_536
_DENSE_COLUMNS = 13  # 3^13 bins are fewer than two million
_EXACT_COLUMNS = 33  # 3^33 < 2^53: sums of such products are exact in float64


@dataclass(frozen=True)
class VoteTable:
    """U distinct rows of votes by m functions, and how often each came.

    Attributes
    ----------
    rows
        int8 ``[U, m]``: +1 the first response, -1 the second, 0 abstained.
    count
        float64 ``[U]``: weight of the rows, labelled ones included.
    first, second
        float64 ``[U]``: weight of those that are labelled, by the response that is better.
    index
        int64 ``[n]``: the distinct row of each given row.
    """

    rows: np.ndarray
    count: np.ndarray
    first: np.ndarray
    second: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, votes: np.ndarray, labels: np.ndarray | None = None) -> VoteTable:
        """Gather votes ``[n, m]`` and labels ``[n]``; see `LabelModel.fit`."""
        votes = checked_votes(votes)
        rows, index = distinct(votes)
        known = np.zeros(len(votes), np.int8) if labels is None else checked_labels(labels, len(votes))
        count, first, second = (
            np.bincount(index[chosen], minlength=len(rows)).astype(np.float64)
            for chosen in (slice(None), known > 0, known < 0)
        )
        return cls(rows, count, first, second, index)

    def weighted(self, labels: np.ndarray | None, weight: np.ndarray) -> VoteTable:
        """Return the same rows with another weight ``[n]`` for each given row, as a bootstrap sample has it."""
        known = np.zeros(len(self.index)) if labels is None else np.asarray(labels)
        count, first, second = (
            np.bincount(self.index, weights=weight * chosen, minlength=len(self.rows))
            for chosen in (np.ones(len(known)), known > 0, known < 0)
        )
        return replace(self, count=count, first=first, second=second)

    @property
    def labelled(self) -> np.ndarray:
        """Weight of the labelled rows, ``[U]``."""
        return self.first + self.second


def checked_votes(votes: np.ndarray, functions: int | None = None) -> np.ndarray:
    """Return votes as int8 ``[n, m]``.

    Raises
    ------
    DataError
        If they are no matrix, or something else than -1, 0 and 1 is in them.
    """
    given = np.asarray(votes)
    if given.ndim != 2 or given.shape[1] == 0 or (functions is not None and given.shape[1] != functions):
        raise DataError(
            "votes are a matrix, a row per pair and a column per function",
            expected=f"shape [n, {functions if functions is not None else 'm'}], m of 1 or above",
            got=f"shape {list(given.shape)}",
        )
    whole = given if given.dtype == np.int8 else None
    if whole is None and given.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            whole = given.astype(np.int8)
        if not np.array_equal(whole, given):
            whole = None
    if whole is None or (len(whole) and (whole.min() < -1 or whole.max() > 1)):
        raise DataError(
            "a vote is +1, -1 or 0",
            where=_first_bad(given),
            expected="+1 for the first response, -1 for the second, 0 to abstain",
        )
    return whole


def _first_bad(given: np.ndarray) -> str:
    bad = np.array([[each not in (-1, 0, 1) for each in row] for row in given.tolist()])
    if not bad.any():
        return f"numbers of type {given.dtype}"
    row, column = map(int, np.argwhere(bad)[0])
    return f"row {row}, column {column}: {given[row, column]!r}; {int(bad.sum())} in all"


def checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Return labels as int8 ``[n]``.

    Raises
    ------
    DataError
        If there is another number of them, or something else than -1, 0 and 1 is among them.
    """
    given = np.asarray(labels)
    if given.shape != (count,):
        raise DataError("there is one label for each row", expected=f"[{count}]", got=f"shape {list(given.shape)}")
    bad = ~np.isin(given, (-1, 0, 1))
    if bad.any():
        raise DataError(
            "a label is +1, -1 or 0",
            where=f"row {int(np.flatnonzero(bad)[0])}; {int(bad.sum())} in all",
            expected="+1: the first response is better; -1: the second; 0: not known",
            got=repr(given[bad][0]),
        )
    return given.astype(np.int8)


def distinct(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows, and the index of each row among them."""
    functions = votes.shape[1]
    if functions > _EXACT_COLUMNS:
        packed = np.ascontiguousarray(votes).view(np.dtype((np.void, functions))).ravel()
        _, at, index = np.unique(packed, return_index=True, return_inverse=True)
        return votes[at], index.ravel()
    codes = _codes(votes)
    if functions > _DENSE_COLUMNS:
        _, at, index = np.unique(codes, return_index=True, return_inverse=True)
        return votes[at], index.ravel()
    there = np.flatnonzero(np.bincount(codes, minlength=1))
    place = np.zeros(3**functions, np.int64)
    place[there] = np.arange(len(there))
    digits = there[:, None] // 3 ** np.arange(functions) % 3
    return (digits - 1).astype(np.int8), place[codes]


def _codes(votes: np.ndarray) -> np.ndarray:
    """Return each row as one number, int64 ``[n]``, its votes the digits to base 3."""
    functions = votes.shape[1]
    kind = np.dtype(np.float32 if functions <= _DENSE_COLUMNS else np.float64)
    power: np.ndarray = (3.0 ** np.arange(functions)).astype(kind)
    codes = np.empty(len(votes), np.int64)
    for start in range(0, len(votes), _BLOCK):  # blocks stay in the cache
        block = votes[start : start + _BLOCK]
        codes[start : start + len(block)] = np.asarray(block, kind) @ power
    return codes + int(3**functions // 2)


def duplicates(votes: np.ndarray, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Name the functions that vote as an earlier one in every row, each with the first such one."""
    votes = checked_votes(votes)
    named = [str(j) for j in range(votes.shape[1])] if names is None else names
    seen: dict[bytes, str] = {}
    found = []
    for name, column in zip(named, votes.T, strict=True):
        key = np.ascontiguousarray(column).tobytes()
        if key in seen and column.any():
            found.append((name, seen[key]))
        seen.setdefault(key, name)
    return found


def never_apart(
    votes: np.ndarray, names: Sequence[str] | None = None, *, least: int = 20
) -> list[tuple[str, str, int, int]]:
    """Name the pairs of functions of which one tells all about the other wherever both vote.

    Returns
    -------
    list of (one, other, sign, together)
        Sign +1: they always say the same, -1: always the opposite; on ``together`` rows, ``least`` or more.
    """
    table = VoteTable.of(votes)
    rows = table.rows.astype(np.float64)
    products = (rows * table.count[:, None]).T @ rows
    together = (np.abs(rows) * table.count[:, None]).T @ np.abs(rows)
    named = [str(j) for j in range(votes.shape[1])] if names is None else names
    alike = np.triu((np.abs(products) == together) & (together >= least), 1)
    return [(named[i], named[j], int(np.sign(products[i, j])), int(together[i, j])) for i, j in np.argwhere(alike)]
