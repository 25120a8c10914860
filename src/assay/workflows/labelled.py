"""What `assay label` makes: votes, a label model, and P for every pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from scipy.special import expit

from assay.errors import DataError
from assay.evaluation.intervals import GAP, SHARE, GroupBootstrap
from assay.evaluation.label_analysis import LabelAnalysis, analyse
from assay.evaluation.label_calibration import CalibratedLabelModel, fit_label_model
from assay.evaluation.metrics import brier_terms, nll_terms
from assay.evaluation.reliability import calibration_error
from assay.evaluation.selection import RiskControl, confident, control_error_of_labels, control_risk
from assay.feedback.label_models import (
    ConfusionLabelModel,
    CorrelatedLabelModel,
    LabelModel,
    LogisticLabelModel,
    MajorityLabelModel,
    SymmetricLabelModel,
)
from assay.feedback.labeling import Votes
from assay.workflows.label_settings import LabelSettings

LabelModelName = Literal["auto", "correlated", "symmetric", "confusion", "logistic", "majority"]
MODELS: dict[str, type[LabelModel]] = {
    model.name: model
    for model in (
        CorrelatedLabelModel,
        SymmetricLabelModel,
        ConfusionLabelModel,
        LogisticLabelModel,
        MajorityLabelModel,
    )
}


@dataclass(frozen=True)
class Labelled:
    """Votes on all pairs, and what they come to.

    Attributes
    ----------
    votes
        On teaching pairs and on those to label, in this order.
    teaching
        bool ``[E]``: pairs whose judgements taught the label model.
    model
        Label model and calibration.
    logits
        Calibrated log-odds of "first better", ``[E]``.
    kept
        bool ``[E]``: pairs to be labelled whose label is written.
    risk
        How the bound on errors was kept; None where none was asked for.
    analysis
        The functions' table.
    """

    votes: Votes
    teaching: np.ndarray
    model: CalibratedLabelModel
    logits: np.ndarray
    kept: np.ndarray
    risk: RiskControl | None
    analysis: LabelAnalysis


def weigh(settings: LabelSettings, votes: Votes, teaching: np.ndarray, longer: np.ndarray) -> Labelled:
    """Fit the label model to the teaching pairs' judgements and to all votes, and label the other pairs.

    Raises
    ------
    DataError
        If nobody voted, or a model that needs judgements has none, or too few to calibrate on.
    """
    labels = np.where(teaching, votes.pairs.truth, 0).astype(np.int8)
    group = numbered(votes.pairs.group)
    model = _model(settings.label_model, bool((labels != 0).any()))
    fitted = _fit(settings, model, votes.votes, labels, group)
    logits = fitted.logits(votes.votes)
    voted = (votes.votes != 0).any(axis=1)
    kept, risk = _kept(settings, fitted, logits, labels, group)
    if settings.hard:
        voted &= logits != 0  # an even label has no side to be on
    learned = fitted.model.accuracy
    analysis = analyse(
        votes.names,
        votes.votes,
        labels,
        group,
        longer,
        learned=learned,
        learned_ci95=None
        if learned is None
        else fitted.model.intervals(votes.votes, labels, group, seed=settings.seed),
        seconds=votes.seconds,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Labelled(votes, teaching, fitted, logits, kept & voted & ~teaching, risk, analysis)


def numbered(names: np.ndarray) -> np.ndarray:
    """Return a number for each name, the same for the same, int32: a million strings would be sorted for seconds."""
    return np.asarray(pa.array(names, pa.string()).dictionary_encode().indices)


def _model(name: LabelModelName, has_labels: bool) -> LabelModel:
    if name == "auto":
        name = "correlated" if has_labels else "symmetric"
    return MODELS[name]()


def _fit(
    settings: LabelSettings, model: LabelModel, votes: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> CalibratedLabelModel:
    if not labels.any():
        return CalibratedLabelModel(model.fit(votes), None, np.full(len(labels), np.nan))
    kind = "temperature" if settings.calibration == "none" else settings.calibration
    fitted = fit_label_model(model, votes, labels, group, kind=kind, seed=settings.seed)
    if settings.calibration == "none":
        return CalibratedLabelModel(fitted.model, None, fitted.out_of_fold)
    return fitted


def _kept(
    settings: LabelSettings, fitted: CalibratedLabelModel, logits: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, RiskControl | None]:
    p, keep = expit(logits), settings.keep
    if keep.kind == "confident":
        return confident(p, keep.least), None
    if keep.kind == "all":
        return np.ones(len(p), bool), None
    known = np.isfinite(fitted.out_of_fold)
    if not known.any():
        raise DataError(
            "a bound on errors needs judgements to be chosen on",
            expected="some judged pairs in the data, or --labels",
            got="none",
            remedy="label a few hundred pairs by hand, or use --keep.kind confident",
        )
    out = fitted.out_of_fold[known]
    calibrated = out if fitted.calibration is None else fitted.calibration.apply(out)
    judged = expit(calibrated), labels[known], keep.error, group[known]
    risk = (
        control_risk(*judged)
        if keep.of == "all"
        else control_error_of_labels(*judged, certainty=keep.certainty, seed=settings.seed)
    )
    return confident(p, risk.threshold), risk


def against_hidden(done: Labelled, *, resamples: int, seed: int) -> dict[str, Any] | None:
    """Judge the labels by the judgements that were hidden from the label model; None where there are none."""
    pairs = done.votes.pairs
    at = np.flatnonzero(~done.teaching & (pairs.truth != 0) & (done.votes.votes != 0).any(axis=1))
    if not len(at):
        return None
    delta, truth, kept = done.logits[at], (pairs.truth[at] + 1.0) / 2.0, done.kept[at]
    bootstrap = GroupBootstrap(numbered(pairs.group[at]), resamples, seed)
    hits = np.where(delta == 0, 0.5, (delta > 0) == (truth > 0.5))
    majority = np.sign(done.votes.votes[at].sum(axis=1, dtype=np.int64))
    by_majority = np.where(majority == 0, 0.5, (majority > 0) == (truth > 0.5))
    ones = np.ones(len(at))
    found = calibration_error(delta, truth, seed=seed)
    result: dict[str, Any] = {
        "pairs": len(at),
        "accuracy": bootstrap.ratio(hits, ones, between=SHARE).to_dict(),
        "accuracy_of_majority": bootstrap.ratio(by_majority, ones, between=SHARE).to_dict(),
        "accuracy_over_majority": bootstrap.ratio(hits - by_majority, ones, between=GAP).to_dict(),
        "nll": bootstrap.ratio(nll_terms(delta, truth), ones).to_dict(),
        "brier": bootstrap.ratio(brier_terms(delta, truth), ones).to_dict(),
        "ece": found.value,
        "ece_null_band95": list(found.null_band95),
        "kept": float(kept.mean()),
        "wrong_of_all": bootstrap.ratio((1.0 - hits) * kept, ones, between=SHARE).to_dict(),
        "accuracy_of_kept": None,
    }
    if kept.any() and not kept.all():
        result["accuracy_of_kept"] = bootstrap.ratio(hits, kept.astype(float), between=SHARE).to_dict()
    return result
