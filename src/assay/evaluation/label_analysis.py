"""What labeling functions do: how often each votes, how often it is right, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.evaluation.intervals import RESAMPLES, SHARE, Estimate, GroupBootstrap
from assay.feedback.label_models.vote_table import VoteTable


@dataclass(frozen=True)
class FunctionRow:
    """One labeling function on one set of pairs.

    Attributes
    ----------
    name
        The function.
    votes
        Pairs on which it voted.
    coverage, overlap, conflict
        Share of pairs on which it votes; on which it and another one vote; on which another one says the opposite.
    accuracy
        Share of its votes on labelled pairs that are right, with an interval over split groups.
    learned
        The label model's P(a vote is right); None where it has no such numbers.
    learned_ci95
        Its interval.
    longer
        Share of its votes that are for the longer response, where lengths differ; NaN without such votes. One half for
        a function that length has nothing to do with.
    seconds
        What it took.
    """

    name: str
    votes: int
    coverage: float
    overlap: float
    conflict: float
    accuracy: Estimate
    learned: float | None
    learned_ci95: tuple[float, float] | None
    longer: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {**vars(self), "accuracy": self.accuracy.to_dict()}


@dataclass(frozen=True)
class LabelAnalysis:
    """All functions together.

    Attributes
    ----------
    rows
        One per function.
    pairs, labelled, silent
        Pairs; those of them that are labelled; those on which every function abstains.
    agreement
        float ``[m, m]``: mean product of two functions' votes where both vote: 1 always alike, -1 always opposite. NaN
        where no pair has both.
    shared_errors
        float ``[m, m]``: correlation of being right, on labelled pairs where both vote. Label models of independent
        votes take it to be 0.
    """

    rows: list[FunctionRow]
    pairs: int
    labelled: int
    silent: int
    agreement: np.ndarray
    shared_errors: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "functions": [row.to_dict() for row in self.rows],
            "pairs": self.pairs,
            "labelled": self.labelled,
            "silent": self.silent,
            "agreement": self.agreement.tolist(),
            "shared_errors": self.shared_errors.tolist(),
        }


def analyse(
    names: Sequence[str],
    votes: np.ndarray,
    truth: np.ndarray,
    group: np.ndarray,
    longer: np.ndarray,
    *,
    learned: np.ndarray | None = None,
    learned_ci95: np.ndarray | None = None,
    seconds: dict[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LabelAnalysis:
    """Describe functions by their votes.

    Parameters
    ----------
    names, votes
        Functions, and int8 ``[E, m]``: +1 the first response, -1 the second, 0 abstained.
    truth
        ``[E]``: +1 the first is better, -1 the second, 0 not known.
    group
        ``[E]``: split groups.
    longer
        ``[E]``: +1 the first is longer, -1 the second, 0 alike.
    learned, learned_ci95
        ``[m]`` and ``[m, 2]``: the label model's accuracies.
    seconds
        What each function took.
    resamples, seed
        Of the bootstrap.
    """
    known = np.flatnonzero(truth != 0)
    right = np.where(votes[known] != 0, votes[known] == truth[known, None], np.nan)
    accuracies = _accuracies(right, group[known], resamples, seed)
    table = VoteTable.of(votes)
    coverage, overlap, conflict = _shares(table)
    rows = [
        FunctionRow(
            name,
            votes=round(float(coverage[j]) * len(votes)),
            coverage=float(coverage[j]),
            overlap=float(overlap[j]),
            conflict=float(conflict[j]),
            accuracy=accuracies[j],
            learned=None if learned is None else float(learned[j]),
            learned_ci95=None if learned_ci95 is None else (float(learned_ci95[j, 0]), float(learned_ci95[j, 1])),
            longer=_for_the_longer(votes[:, j], longer),
            seconds=float((seconds or {}).get(name, 0.0)),
        )
        for j, name in enumerate(names)
    ]
    return LabelAnalysis(
        rows,
        pairs=len(votes),
        labelled=len(known),
        silent=int(table.count[~table.rows.any(axis=1)].sum()),
        agreement=_mean_products(table),
        shared_errors=_correlations(right),
    )


def _shares(table: VoteTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coverage, overlap and conflict of each function, ``[m]``."""
    weight = table.count / max(table.count.sum(), 1.0)
    votes = table.rows != 0
    for_first, for_second = (table.rows > 0).sum(axis=1), (table.rows < 0).sum(axis=1)
    opposed = np.where(table.rows > 0, for_second[:, None], for_first[:, None]) > 0
    several = (for_first + for_second > 1)[:, None]
    return weight @ votes, weight @ (votes & several), weight @ (votes & opposed)


def _for_the_longer(votes: np.ndarray, longer: np.ndarray) -> float:
    """Return the share of a function's votes that are for the longer response; NaN where no length differs."""
    with_length = int(np.count_nonzero((votes != 0) & (longer != 0)))
    return int(np.count_nonzero((votes == longer) & (votes != 0))) / with_length if with_length else float("nan")


def _accuracies(right: np.ndarray, group: np.ndarray, resamples: int, seed: int) -> list[Estimate]:
    if not len(right):
        return [Estimate(float("nan"), None, 0)] * right.shape[1]
    weight = np.isfinite(right).astype(np.float64)
    bounds = [SHARE] * right.shape[1]
    return GroupBootstrap(group, resamples, seed).ratios(np.nan_to_num(right), weight, between=bounds)


def _mean_products(table: VoteTable) -> np.ndarray:
    rows = table.rows.astype(np.float64)
    weighted = rows * table.count[:, None]
    together = np.abs(weighted).T @ np.abs(rows)
    return np.divide(weighted.T @ rows, together, out=np.full(together.shape, np.nan), where=together > 0)


def _correlations(right: np.ndarray) -> np.ndarray:
    """Correlate the columns of ``[n, m]``, each two where both are known."""
    there = np.isfinite(right).astype(np.float64)
    value = np.nan_to_num(right)
    number = there.T @ there
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (value.T @ there) / number  # of the row's function, where the column's votes too
        covariance = (value.T @ value) / number - mean * mean.T
        variance = mean * (1.0 - mean)  # of zeros and ones
        return np.asarray(covariance / np.sqrt(variance * variance.T))
