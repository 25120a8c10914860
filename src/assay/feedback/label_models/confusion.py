"""A confusion table per function: Dawid and Skene's model, which does not take the two responses as alike."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from scipy.special import logit

from assay.errors import ConfigError, DataError
from assay.feedback.label_models.interface import LabelModel, rate
from assay.feedback.label_models.likelihood import most_likely
from assay.feedback.label_models.vote_table import VoteTable


class ConfusionLabelModel(LabelModel):
    r"""Independent votes, each with its own rate of being right where the first is better, and where the second is.

    .. math::
        \mathrm{logit} P = \mathrm{logit}(\pi) + \sum_{v_j = 1} \log\frac{a_j}{1 - b_j}
        + \sum_{v_j = -1} \log\frac{1 - a_j}{b_j}

    with :math:`a_j = P(v_j = 1 | \text{first better, voted})`, :math:`b_j = P(v_j = -1 | \text{second better, voted})`
    (Dawid and Skene 1979). The two differ for a function with a liking for one place, such as a judge who prefers
    what it reads first. Abstaining tells nothing.

    Parameters
    ----------
    estimator
        ``"labels"``, ``"em"``, or ``"auto"``: labels where there are some, else EM.
    """

    name: ClassVar[str] = "confusion"

    def __init__(self, estimator: Literal["auto", "labels", "em"] = "auto") -> None:
        if estimator not in ("auto", "labels", "em"):
            raise ConfigError("unknown estimator", where="estimator", expected="auto, labels or em", got=estimator)
        self.estimator = estimator
        self.right_of_first: np.ndarray | None = None
        self.right_of_second: np.ndarray | None = None
        self.prior = 0.5

    @property
    def needs_labels(self) -> bool:
        """With the estimator of that name."""
        return self.estimator == "labels"

    @property
    def needs_both_kinds(self) -> bool:
        """Unless it learns by EM."""
        return self.estimator != "em"

    def _functions(self) -> int | None:
        return None if self.right_of_first is None else len(self.right_of_first)

    def _learn(self, table: VoteTable) -> None:
        way = self.estimator
        if way == "auto":
            way = "labels" if table.labelled.any() else "em"
        if way == "labels":
            if not (table.first.any() and table.second.any()):
                better = "first" if table.first.any() else "second"
                raise DataError(
                    "the labels are all of one kind, so nothing tells how functions vote where it is the other",
                    expected="labels +1 and -1",
                    got=f"in all of {table.labelled.sum():.0f} labelled pairs the {better} response is better",
                    remedy="name the responses of each pair in random order, or take the model 'symmetric'",
                )
            self._take_rates(table, table.first, table.second)
        else:
            found = most_likely(table, prior=None, tied=False)
            self.right_of_first, self.right_of_second, self.prior, self.settled = found
        first, second = self.right_of_first, self.right_of_second
        assert first is not None and second is not None
        self.accuracy = self.prior * first + (1.0 - self.prior) * second

    def _take_rates(self, table: VoteTable, first: np.ndarray, second: np.ndarray) -> None:
        says_first, says_second = table.rows > 0, table.rows < 0
        says = says_first | says_second
        self.right_of_first = rate(first @ says_first, first @ says)
        self.right_of_second = rate(second @ says_second, second @ says)
        self.prior = float(rate(first.sum(), first.sum() + second.sum()))

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        a, b = self.right_of_first, self.right_of_second
        assert a is not None and b is not None
        for_first, for_second = np.log(a) - np.log1p(-b), np.log1p(-a) - np.log(b)
        return np.asarray(logit(self.prior) + (rows > 0) @ for_first + (rows < 0) @ for_second)
