"""Pairs of responses that no judgement compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from assay.scorers.encoding import EncodedRecords


@dataclass(frozen=True)
class Candidates:
    """Pairs of responses that nobody has judged.

    Attributes
    ----------
    row, a, b
        int64 ``[E]``: record, and the numbers of the two responses in it.
    """

    row: np.ndarray
    a: np.ndarray
    b: np.ndarray

    def texts(self, records: EncodedRecords) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the texts of both sides, ``[E]`` each."""
        return records.offsets[self.row] + self.a, records.offsets[self.row] + self.b

    def take(self, kept: np.ndarray) -> Candidates:
        """Return some of them."""
        return Candidates(self.row[kept], self.a[kept], self.b[kept])


def candidates(data: Dataset, *, judged: bool = False) -> Candidates:
    """Return all pairs of different responses to one prompt; without ``judged``, those that no judgement compares."""
    found: list[tuple[int, int, int]] = []
    for number, (responses, edges) in enumerate(zip(data["responses"], data["edges"], strict=True)):
        known = set() if judged else {frozenset((edge["a"], edge["b"])) for edge in edges}
        found += [
            (number, a, b)
            for a in range(len(responses))
            for b in range(a + 1, len(responses))
            if responses[a] != responses[b] and frozenset((a, b)) not in known
        ]
    return Candidates(*np.array(found, np.int64).reshape(-1, 3).T)
