"""Which pairs of responses are to be compared, and in which order they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from datasets import Dataset

from assay.feedback.labeling.texts import list_lengths
from assay.feedback.pairs import pairs

MOST_PAIRS = 45  # all pairs of ten responses


@dataclass(frozen=True)
class ResponsePairs:
    """E pairs of responses, each shown in an order that was drawn, so that the order tells nothing.

    Attributes
    ----------
    data
        The records that hold them.
    row
        int64 ``[E]``: record.
    first, second
        int64 ``[E]``: responses within the record.
    truth
        int8 ``[E]``: +1 where the judgements say that the first is better, -1 the second, 0 where there is none or they
        are even.
    p
        float64 ``[E]``: weighted mean of the judgements' P(first better); NaN where there is none.
    group
        object ``[E]``: split group.
    left_out
        Pairs beyond the most that are taken of one prompt.
    """

    data: Dataset
    row: np.ndarray
    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray
    p: np.ndarray
    group: np.ndarray
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> ResponsePairs:
        """Return the pairs at ``index`` (positions or a mask)."""
        columns = ("row", "first", "second", "truth", "p", "group")
        return replace(self, **{name: getattr(self, name)[index] for name in columns})

    def by_batch(self, records: int) -> Iterator[np.ndarray]:
        """Go through batches of so many records: the positions of the pairs that lie in each, int64."""
        order = np.argsort(self.row, kind="stable")
        starts = np.arange(0, len(self.data) + records, records)
        for start, stop in pairwise(np.searchsorted(self.row[order], starts).tolist()):
            yield order[start:stop]

    def compact(self) -> ResponsePairs:
        """Return the same pairs over the records that have one, so that nothing else is looked at."""
        rows, row = np.unique(self.row, return_inverse=True)
        return replace(self, data=self.data.select(rows), row=row.ravel())

    def swapped(self) -> ResponsePairs:
        """Return the same pairs in the other order."""
        return replace(self, first=self.second, second=self.first, truth=-self.truth, p=1.0 - self.p)


def response_pairs(data: Dataset, *, seed: int = 0, most: int = MOST_PAIRS, of_judged: bool = False) -> ResponsePairs:
    """List the pairs of comparisons: of a judged record those judged, of another one all pairs of its responses.

    Parameters
    ----------
    data
        Records of the kind comparisons.
    seed
        Of the order in which responses are shown, and of the draw below.
    most
        Pairs of one prompt that nobody judged; where there are more, so many are drawn.
    of_judged
        Whether to list the pairs of judged records that nobody judged, too.
    """
    judged = _judged(data)
    responses, edges = list_lengths(data, "responses"), list_lengths(data, "edges")
    random = np.random.default_rng(seed)
    free = np.flatnonzero(((edges == 0) | of_judged) & (responses > 1))
    row, low, high, left_out = _all_pairs(free, responses[free], most, random)
    if of_judged:
        new = _not_among(judged, row, low, high, int(responses.max(initial=1)))
        row, low, high = row[new], low[new], high[new]
        left_out = int((responses * (responses - 1) // 2).sum()) - len(judged) - len(row)
    row, low, high = (np.concatenate(both) for both in ((judged.row, row), (judged.first, low), (judged.second, high)))
    p = np.concatenate([judged.p, np.full(len(row) - len(judged), np.nan)])
    order = np.lexsort((high, low, row))
    row, low, high, p = row[order], low[order], high[order], p[order]
    turned = random.random(len(row)) < 0.5
    p = np.where(turned, 1.0 - p, p)
    groups = data.select_columns(["split_group"]).with_format("arrow")[:]["split_group"].to_numpy()
    group = groups[row] if len(row) else np.zeros(0, object)
    truth = np.nan_to_num(np.sign(p - 0.5)).astype(np.int8)
    first, second = np.where(turned, high, low), np.where(turned, low, high)
    return ResponsePairs(data, row, first, second, truth, p, group, left_out)


def _not_among(judged: ResponsePairs, row: np.ndarray, low: np.ndarray, high: np.ndarray, width: int) -> np.ndarray:
    """Mark the pairs that are not judged, bool, as many as there are."""

    def key(row: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (row * width + low) * width + high

    return ~np.isin(key(row, low, high), key(judged.row, judged.first, judged.second))


def pairs_not_judged(data: Dataset) -> int:
    """Count the pairs of judged records that nobody judged."""
    responses, edges = list_lengths(data, "responses"), list_lengths(data, "edges")
    return int((responses * (responses - 1) // 2)[edges > 0].sum()) - len(_judged(data))


def _judged(data: Dataset) -> ResponsePairs:
    """Return the judged pairs, the response of lower number first, with the mean of their judgements."""
    view = pairs(data)
    turned = view.a > view.b
    low, high = np.where(turned, view.b, view.a), np.where(turned, view.a, view.b)
    p = np.where(turned, 1.0 - view.p, view.p)
    keys, of = np.unique(np.stack([view.row, low, high], axis=1), axis=0, return_inverse=True)
    of = of.ravel()
    weight = np.bincount(of, weights=view.w, minlength=len(keys))
    total = np.bincount(of, weights=view.w * p, minlength=len(keys))
    mean = np.divide(total, weight, out=np.full(len(keys), np.nan), where=weight > 0)
    row, first, second = keys.T if len(keys) else np.zeros((3, 0), np.int64)
    return ResponsePairs(data, row, first, second, np.zeros(0), mean, np.zeros(0))


def _all_pairs(
    rows: np.ndarray, sizes: np.ndarray, most: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return row, lower and higher response of all pairs of records of these sizes, and how many were not taken."""
    parts, left_out = [], 0
    for size in np.unique(sizes):
        low, high = np.triu_indices(size, 1)
        own = rows[sizes == size]
        if len(low) <= most:
            parts.append((np.repeat(own, len(low)), np.tile(low, len(own)), np.tile(high, len(own))))
            continue
        left_out += (len(low) - most) * len(own)
        drawn = np.argsort(random.random((len(own), len(low))), axis=1)[:, :most].ravel()
        parts.append((np.repeat(own, most), low[drawn], high[drawn]))
    if not parts:
        return (*np.zeros((3, 0), np.int64), 0)
    row, low, high = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return row, low, high, left_out
