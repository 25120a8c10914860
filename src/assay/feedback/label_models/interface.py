"""What every label model is: votes in, P(first better) out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from assay.errors import DataError, ModelError
from assay.feedback.label_models.vote_table import VoteTable, checked_votes

_FARTHEST = 30.0  # log-odds beyond which nothing differs in float64


class LabelModel(ABC):
    """Weighs the votes on a pair into P(first better).

    Attributes
    ----------
    accuracy
        float64 ``[m]``: learned P(the vote is right) of each function; None where the model has no such numbers, or is
        not fitted.
    settled
        False where EM still moved after its last round, so that the numbers say little.
    """

    #: What settings and stored files call it.
    name: ClassVar[str]
    accuracy: np.ndarray | None = None
    settled: bool = True

    def fit(self, votes: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Learn from votes, and from labels where there are some.

        Parameters
        ----------
        votes
            Integers ``[n, m]``: +1 the first response, -1 the second, 0 abstained.
        labels
            Integers ``[n]``: +1 the first is better, -1 the second, 0 not known.

        Raises
        ------
        DataError
            If shapes or values are others, nobody voted, or the model needs labels and there are none.
        """
        self._learn(self._enough(VoteTable.of(votes, labels)))
        return self

    def predict(self, votes: np.ndarray) -> np.ndarray:
        """Return P(first better), float64 ``[n]``; where all abstain, the prior."""
        return np.asarray(expit(self.logits(votes)))

    def logits(self, votes: np.ndarray) -> np.ndarray:
        """Return the log-odds of `predict`, float64 ``[n]``, within ±30.

        Raises
        ------
        ModelError
            If the model is not fitted.
        DataError
            If there is another number of functions than it was fitted on, or a vote is none.
        """
        functions = self._functions()
        if functions is None:
            raise ModelError("this label model is not fitted", remedy="call fit(votes) first")
        table = VoteTable.of(checked_votes(votes, functions))
        found = np.clip(self._logits(table.rows.astype(np.float64)), -_FARTHEST, _FARTHEST)
        return np.asarray(found[table.index])

    def intervals(
        self,
        votes: np.ndarray,
        labels: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        *,
        level: float = 0.95,
        resamples: int = 200,
        seed: int = 0,
    ) -> np.ndarray:
        """Return intervals of `accuracy`, float64 ``[m, 2]``, by refitting to bootstrap samples.

        Parameters
        ----------
        votes, labels
            As given to `fit`.
        groups
            ``[n]``: rows of one group come and go together; None: each row by itself.
        level, resamples, seed
            Share of samples inside, their number, and where the random numbers start.

        Raises
        ------
        ModelError
            If the model has no accuracies.
        """
        if self.accuracy is None:
            raise ModelError(
                f"{self.name} has no accuracies to give intervals of", remedy="ask for predicted_intervals of its P"
            )
        found = [model.accuracy for model in self._refits(votes, labels, groups, resamples, seed)]
        return _quantiles(found, self.accuracy.shape, level)

    def predicted_intervals(
        self,
        of: np.ndarray,
        votes: np.ndarray,
        labels: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        *,
        level: float = 0.95,
        resamples: int = 200,
        seed: int = 0,
    ) -> np.ndarray:
        """Return intervals of P(first better) of the votes ``of`` ``[k, m]``, float64 ``[k, 2]``; see `intervals`."""
        found = [model.predict(of) for model in self._refits(votes, labels, groups, resamples, seed)]
        return _quantiles(found, (len(of),), level)

    def _refits(
        self, votes: np.ndarray, labels: np.ndarray | None, groups: np.ndarray | None, resamples: int, seed: int
    ) -> Iterator[Self]:
        """Yield copies of this model, each fitted to a bootstrap sample; one that cannot be fitted is left out."""
        table = VoteTable.of(votes, labels)
        group = np.arange(len(table.index)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
        random = np.random.default_rng(seed)
        size = int(group.max()) + 1
        for _ in range(resamples):
            times = np.bincount(random.integers(size, size=size), minlength=size).astype(np.float64)
            other, again = copy(self), table.weighted(labels, times[group])
            one_kind = not (again.first.any() and again.second.any())
            if table.labelled.any() and (not again.labelled.any() or (one_kind and self.needs_both_kinds)):
                continue  # it would tell of another estimator
            other._learn(again)
            yield other

    @property
    def needs_both_kinds(self) -> bool:
        """Whether labels, where there are some, must be of both kinds."""
        return False

    @property
    def needs_labels(self) -> bool:
        """Whether nothing can be learned from votes alone."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return settings and what was learned as plain values, for JSON."""
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(self).items()}
        return {"name": self.name, **plain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict` of the same class."""
        model = cls()
        for key, value in values.items():
            if key != "name":
                setattr(model, key, np.asarray(value, np.float64) if isinstance(value, list) else value)
        return model

    def _enough(self, table: VoteTable) -> VoteTable:
        if not table.rows.any():
            raise DataError(
                "nobody voted",
                expected="at least one vote on one pair",
                got=f"{len(table.index)} pairs, on all of which all {table.rows.shape[1]} functions abstain",
                remedy="widen the functions' windows, or add functions",
            )
        if self.needs_labels and not table.labelled.any():
            raise DataError(
                f"the label model {self.name!r} needs labels",
                expected="labels of some of the pairs",
                got="none",
                remedy="label a few hundred pairs by hand, or take the model 'symmetric'",
            )
        return table

    @abstractmethod
    def _functions(self) -> int | None:
        """Return the number of functions that it was fitted on; None before."""

    @abstractmethod
    def _learn(self, table: VoteTable) -> None:
        """Learn from the distinct rows and their weights; other fits must not change what was learned here."""

    @abstractmethod
    def _logits(self, rows: np.ndarray) -> np.ndarray:
        """Return the log-odds of distinct rows, ``[U]``."""


def rate(right: np.ndarray, all_of_them: np.ndarray) -> np.ndarray:
    """Return ``(right + 1) / (all + 2)``: the mean of a rate under a uniform prior, never 0 or 1."""
    return np.asarray((right + 1.0) / (all_of_them + 2.0))


def labelled_accuracy(table: VoteTable) -> np.ndarray:
    """Return how often each function is right where it votes on labelled pairs, ``[m]``, by `rate`."""
    says_first, says_second = table.rows > 0, table.rows < 0
    right = table.first @ says_first + table.second @ says_second
    return rate(right, table.labelled @ (says_first | says_second))


def _quantiles(drawn: list[Any], shape: tuple[int, ...], level: float) -> np.ndarray:
    """Return the ends of the middle ``level`` of draws, ``[*shape, 2]``; NaN where there is none."""
    if not drawn:
        return np.full((*shape, 2), np.nan)
    return np.moveaxis(np.quantile(np.stack(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0), 0, -1)
