"""Every vote alike: the baseline that label models have to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import logit

from assay.feedback.label_models.interface import LabelModel, rate
from assay.feedback.label_models.vote_table import VoteTable


class MajorityLabelModel(LabelModel):
    """P(first better) is the share of votes for it, ``(for + 1) / (votes + 2)``; one half where they are even."""

    name: ClassVar[str] = "majority"

    def __init__(self) -> None:
        self.functions: int | None = None

    def _functions(self) -> int | None:
        return self.functions

    def _learn(self, table: VoteTable) -> None:
        self.functions = table.rows.shape[1]

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(logit(rate((rows > 0).sum(axis=1), (rows != 0).sum(axis=1))))
