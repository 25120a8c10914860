"""Statistics of rows that hold one graded response each: what comparing them will give."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from assay.feedback.drafts import EQUAL_GAP
from assay.feedback.flat_arrays import flat, hashed


@dataclass(frozen=True)
class GradedPairs:
    """What the pairs of distinct graded responses to one prompt say.

    Attributes
    ----------
    longer, groups
        Per pair: +1 if the longer response has the higher grade, -1 if the shorter, 0 if neither; the split group.
    ties, alone, repeated
        Pairs of equal grade; prompts with one response only; rows that repeat a response of their prompt.
    """

    longer: np.ndarray
    groups: np.ndarray
    ties: int
    alone: int
    repeated: int


class GradedResponses:
    """Rows of one graded response each; their pairs come together only when all rows have been seen."""

    def __init__(self) -> None:
        self._keys, self._prompts, self._groups = array("Q"), array("Q"), array("Q")
        self._chars, self._grades = array("I"), array("d")

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, prompt: int, group: int, response: str, grade: float) -> None:
        """Take one response; ``grade`` is the mean over its dimensions."""
        self._keys.append(hashed(prompt, response))
        self._prompts.append(prompt)
        self._groups.append(group)
        self._chars.append(len(response))
        self._grades.append(grade)

    def pairs(self) -> GradedPairs:
        """Compare all distinct responses of each prompt; a repeated one counts once, with its mean grade."""
        _, first, of_row, times = np.unique(
            flat(self._keys), return_index=True, return_inverse=True, return_counts=True
        )
        grade = np.bincount(of_row, weights=flat(self._grades)) / times
        chars, group = flat(self._chars)[first].astype(np.int64), flat(self._groups)[first]
        _, of_prompt, sizes = np.unique(flat(self._prompts)[first], return_inverse=True, return_counts=True)
        order = np.argsort(of_prompt, kind="stable")
        starts = np.cumsum(sizes) - sizes
        longer, groups, ties = [np.zeros(0)], [np.zeros(0, np.uint64)], 0
        for size in np.unique(sizes[sizes > 1]):
            members = order[starts[sizes == size][:, None] + np.arange(size)]
            a, b = np.triu_indices(size, 1)
            gap = grade[members[:, a]] - grade[members[:, b]]
            better = np.sign(np.where(np.abs(gap) <= EQUAL_GAP, 0.0, gap))
            ties += int((better == 0).sum())
            longer.append((better * np.sign(chars[members[:, a]] - chars[members[:, b]])).ravel())
            groups.append(np.repeat(group[members[:, 0]], len(a)))
        repeated = int((times - 1).sum())
        return GradedPairs(np.concatenate(longer), np.concatenate(groups), ties, int((sizes == 1).sum()), repeated)
