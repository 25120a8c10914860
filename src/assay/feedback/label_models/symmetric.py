"""One accuracy per function: the model of independent votes that treats both responses alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from scipy.special import expit, logit

from assay.errors import ConfigError
from assay.feedback.label_models.interface import LabelModel, labelled_accuracy, rate
from assay.feedback.label_models.moments import triplet_accuracies
from assay.feedback.label_models.vote_table import VoteTable

_ROUNDS, _STILL = 500, 1e-7
_MOST_CERTAIN = 1e-12


class SymmetricLabelModel(LabelModel):
    r"""P(first better) from independent votes, each right with an accuracy of its own.

    .. math:: \mathrm{logit} P(\text{first}) = \mathrm{logit}(\text{prior}) + \sum_j v_j \,\mathrm{logit}(a_j)

    Naming the responses in the other order turns P into 1 - P exactly (prior one half), which models with a table per
    class do not. Where functions are copies of one another it is too sure of itself: see `CorrelatedLabelModel`, and
    calibrate on labels.

    Parameters
    ----------
    estimator
        Of the accuracies: ``"labels"``, the share of labelled pairs on which the function was right,
        ``(right + 1) / (voted + 2)``; ``"em"``, the same with the posterior in place of labels where there are none,
        until nothing moves; ``"moments"``, from the agreement of each three functions (`triplet_accuracies`); or
        ``"auto"``: labels where there are some, else EM. Without labels, functions are taken to be right more
        often than wrong on the whole.
    prior
        P(first better) before any vote; one half where the order of responses means nothing.
    """

    name: ClassVar[str] = "symmetric"

    def __init__(self, estimator: Literal["auto", "labels", "em", "moments"] = "auto", *, prior: float = 0.5) -> None:
        if estimator not in ("auto", "labels", "em", "moments"):
            raise ConfigError("unknown estimator", where="estimator", expected="auto, labels, em or moments")
        if not 0 < prior < 1:
            raise ConfigError("a prior is a probability", where="prior", expected="between 0 and 1", got=str(prior))
        self.estimator, self.prior = estimator, prior

    @classmethod
    def with_accuracies(cls, accuracy: Sequence[float], *, prior: float = 0.5) -> Self:
        """Return the model of known accuracies, ``[m]``, each from 0 to 1."""
        model = cls(prior=prior)
        model.accuracy = np.asarray(accuracy, np.float64)
        return model

    @property
    def needs_labels(self) -> bool:
        """With the estimator of that name."""
        return self.estimator == "labels"

    def _functions(self) -> int | None:
        return None if self.accuracy is None else len(self.accuracy)

    def _learn(self, table: VoteTable) -> None:
        way = self.estimator
        if way == "auto":
            way = "labels" if table.labelled.any() else "em"
        if way == "labels":
            self.accuracy = labelled_accuracy(table)
        else:
            self.accuracy = self._by_em(table) if way == "em" else triplet_accuracies(table)

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        assert self.accuracy is not None
        return np.asarray(logit(self.prior) + rows @ _weights(self.accuracy))

    def _by_em(self, table: VoteTable) -> np.ndarray:
        rows = table.rows.astype(np.float64)
        votes = np.abs(rows)
        free = table.count - table.labelled
        times_voted = table.count @ votes
        # soft start: the share of votes, drawn towards one half
        says = votes.sum(axis=1)
        posterior = (0.5 * (says + rows.sum(axis=1)) + 0.5) / (says + 1.0)
        accuracy = np.zeros(rows.shape[1])
        for _ in range(_ROUNDS):
            first = free * posterior + table.first
            # the weight of right votes: first's where they say first, the others' where they say second
            right = 0.5 * (table.count @ votes + (2.0 * first - table.count) @ rows)
            found = rate(right, times_voted)
            moved = np.abs(found - accuracy).max()
            accuracy = found
            if moved < _STILL:
                break
            posterior = expit(logit(self.prior) + rows @ _weights(accuracy))
        return accuracy


def _weights(accuracy: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(accuracy, _MOST_CERTAIN, 1.0 - _MOST_CERTAIN)))
