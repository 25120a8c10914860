"""One accuracy per function: the model of independent votes that treats both responses alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from scipy.special import logit

from assay.errors import ConfigError
from assay.feedback.label_models.interface import LabelModel, labelled_accuracy
from assay.feedback.label_models.likelihood import most_likely
from assay.feedback.label_models.moments import triplet_accuracies
from assay.feedback.label_models.vote_table import VoteTable

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
        elif way == "em":
            self.accuracy, _, _, self.settled = most_likely(table, prior=self.prior, tied=True)
        else:
            self.accuracy = triplet_accuracies(table)

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        assert self.accuracy is not None
        return np.asarray(logit(self.prior) + rows @ _weights(self.accuracy))


def _weights(accuracy: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(accuracy, _MOST_CERTAIN, 1.0 - _MOST_CERTAIN)))
