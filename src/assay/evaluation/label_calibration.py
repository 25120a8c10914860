"""A label model whose confidence was fitted on labels that did not teach it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from assay.errors import DataError
from assay.evaluation.calibrators import Calibration, CalibrationKind, fit_calibration
from assay.feedback.label_models import LabelModel

FOLDS = 5


@dataclass(frozen=True)
class CalibratedLabelModel:
    """A label model and the map from its log-odds to calibrated ones.

    Attributes
    ----------
    model
        Fitted to all votes and labels.
    calibration
        Fitted on `out_of_fold`; None: the model's own confidence.
    out_of_fold
        float64 ``[n]``: log-odds of the labelled pairs, each by a model that did not see the labels of its group; NaN
        where nobody voted, or there is no label.
    """

    model: LabelModel
    calibration: Calibration | None
    out_of_fold: np.ndarray

    def logits(self, votes: np.ndarray) -> np.ndarray:
        """Return the calibrated log-odds of "first better", float64 ``[n]``."""
        found = self.model.logits(votes)
        return found if self.calibration is None else np.asarray(self.calibration.apply(found))

    def predict(self, votes: np.ndarray) -> np.ndarray:
        """Return the calibrated P(first better), float64 ``[n]``."""
        found = self.model.logits(votes)
        return self.model.predict(votes) if self.calibration is None else self.calibration.probability(found)


def fit_label_model(
    model: LabelModel,
    votes: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    kind: CalibrationKind = "temperature",
    folds: int = FOLDS,
    seed: int = 0,
) -> CalibratedLabelModel:
    """Fit a label model, and calibrate it by cross-fitting over split groups.

    Each fold's labels are hidden from the model that judges it (their votes are not), the calibration is fitted to all
    folds' log-odds, and the model is fitted once more to everything. Labels without a vote do not calibrate.

    Parameters
    ----------
    model
        Of any kind; it is fitted in place.
    votes, labels
        ``[n, m]`` and ``[n]``, as for `LabelModel.fit`.
    groups
        ``[n]``: split groups.
    kind
        Of the calibration.
    folds, seed
        Number of folds, and their draw.

    Raises
    ------
    DataError
        If the labelled pairs that have votes are of fewer than two groups.
    """
    known = np.flatnonzero((labels != 0) & (votes != 0).any(axis=1))
    names, group = np.unique(np.asarray(groups)[known].astype(str), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            "too few labels to calibrate on",
            expected="labelled pairs of two prompts or more, on which a function votes",
            got=f"{len(known)} pairs of {len(names)} prompts",
            remedy="label more pairs, or raise the share of labels",
        )
    fold_of = np.random.default_rng(seed).permutation(len(names)) % min(folds, len(names))
    fold = fold_of[group.ravel()]
    out = np.full(len(labels), np.nan)
    for each in range(int(fold_of.max()) + 1):
        apart = known[fold == each]
        shown = labels.copy()
        shown[apart] = 0
        out[apart] = deepcopy(model).fit(votes, shown).logits(votes[apart])
    calibration = fit_calibration(out[known], (labels[known] + 1.0) / 2.0, kind=kind)
    return CalibratedLabelModel(model.fit(votes, labels), calibration, out)
