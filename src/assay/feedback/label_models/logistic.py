"""Supervised weights of the votes, from labels alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from assay.feedback.label_models.interface import LabelModel
from assay.feedback.label_models.vote_table import VoteTable


class LogisticLabelModel(LabelModel):
    """Logistic regression of the labels on the votes, without intercept: odd in the votes, so blind to order.

    Parameters
    ----------
    strength
        Variance of the weights beforehand (scikit-learn's C): 1 lets a single vote move the odds by a factor of e.
    """

    name: ClassVar[str] = "logistic"

    def __init__(self, *, strength: float = 1.0) -> None:
        self.strength = strength
        self.weight: np.ndarray | None = None

    @property
    def needs_labels(self) -> bool:
        """Always."""
        return True

    def _functions(self) -> int | None:
        return None if self.weight is None else len(self.weight)

    def _learn(self, table: VoteTable) -> None:
        from sklearn.linear_model import LogisticRegression

        known = table.labelled > 0
        rows = table.rows[known].astype(np.float64)
        # both orders of each pair, half each, so that labels of one kind are no special case
        model = LogisticRegression(C=self.strength, fit_intercept=False, max_iter=1000)
        first, second = table.first[known] / 2.0, table.second[known] / 2.0
        model.fit(
            np.concatenate([rows, -rows, rows, -rows]),
            np.repeat([1, -1, -1, 1], len(rows)),
            sample_weight=np.concatenate([first, first, second, second]),
        )
        self.weight = np.asarray(model.coef_[0], np.float64)

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ self.weight)
