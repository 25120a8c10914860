"""Rounds of self-labels (SER) in a study: the loop of ``assay evolve`` on cached features, nothing kept on disk."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import expit

from assay.evaluation import fit_temperature
from assay.feedback.pairs import WEAK, Pairs
from assay.feedback.self_labels import standard
from assay.feedback.splitting import nested_shares
from assay.scorers import RewardModel
from assay.scorers.encoding import mean_of_members, scores_in
from assay.workflows.fitting_frozen import Vectors, fit_heads
from assay.workflows.heads import record_folds
from assay.workflows.options import epochs_within, resolved
from assay.workflows.settings import RoundsSettings, TrainSettings


@dataclass(frozen=True)
class Evolved:
    """What rounds of self-labels ended with.

    Attributes
    ----------
    margins
        Of the pairs to be tested, ``[E]``: those of the best round.
    temperature, nll
        Of the best round, on judgements that no round learned from; nll after calibration.
    round, labels
        Which round that was, and how many labels it had beside people's judgements.
    """

    margins: np.ndarray
    temperature: float
    nll: float
    round: int
    labels: int


def evolve_on_features(
    rounds: RoundsSettings,
    settings: TrainSettings,
    whole: Vectors,
    model: RewardModel,
    known: np.ndarray,
    rest: np.ndarray,
    tested: Pairs,
    most_steps: int,
    weak: np.ndarray | None = None,
) -> Evolved:
    """Train on the known records and label the pairs of the rest, round by round, as `assay.workflows.evolve_verb`.

    Parameters
    ----------
    rounds, settings
        Of the rounds, and of each training.
    whole, model
        All records with their features, and an untrained model around their backbone.
    known, rest
        Records whose judgements are known, and those whose pairs are to be labelled: what is judged of these is hidden.
    tested
        Pairs of any records, whose margins are asked for.
    most_steps
        See `assay.workflows.options.epochs_within`.
    weak
        ``[E]``: P(first better) of the pairs of the rest by weaker judges, NaN where they say nothing. Such labels are
        learned from until the model is sure of a pair itself.
    """
    view = whole.records.pairs
    check = known[nested_shares(whole.data.select(known), [rounds.check_share], settings.seed + 1)[0]]
    learn = np.setdiff1d(known, check)
    checked = view.take(np.isin(view.row, check))
    taught, pool = (np.isin(view.row, rows) for rows in (learn, rest))
    p = np.where(taught, view.p, np.nan if weak is None else weak)
    # of the other judgements nothing may be known, be it how sure somebody was
    blind = replace(
        view,
        source=np.where(taught, view.source, WEAK),
        m=np.where(taught, view.m, 0.0),
        w=np.where(taught, view.w, 1.0),
    )
    sure = np.zeros(len(view), bool)
    labelling = rounds.labelling()
    best: Evolved | None = None
    for number in range(rounds.rounds + 1):
        used = np.flatnonzero((taught | pool) & np.isfinite(p))
        # what is calibrated on is kept apart, so folds would serve nothing
        found = fit_on(settings, whole, replace(blind, p=p).take(used), model, most_steps, folds=1)
        evidence = found.score_features(whole.features, whole.records.prompt_of, native=True)
        calibration = fit_temperature(_margins(whole, evidence, checked), checked.p, checked.w)
        if best is not None and calibration.nll_after > best.nll:
            break
        labels = len(used) - int(taught.sum())
        margins = _margins(whole, evidence, tested)
        best = Evolved(margins, calibration.value, calibration.nll_after, number, labels)
        values = mean_of_members(scores_in(evidence))
        values = standard(values, float(values[whole.records.texts_of(learn)].mean()), calibration.value)
        rule, _ = labelling.rule_by(*_sides(values, whole, checked))
        new = pool & ~sure
        new[new] = labelling.kept(*_sides(values, whole, view.take(new)), rule)
        if not new.any():
            break
        sure |= new
        delta = _margins(whole, evidence, view.take(new))
        p[new] = expit(delta / calibration.value) if rounds.soft else (delta > 0).astype(float)
    assert best is not None
    return best


def fit_on(
    settings: TrainSettings, whole: Vectors, given: Pairs, model: RewardModel, most_steps: int, *, folds: int
) -> RewardModel:
    """Train heads on some judgements of the records; calibrated out of fold with two folds or more."""
    rows = np.unique(given.row)
    vectors = Vectors(whole.data, replace(whole.records, pairs=given), whole.features).select(rows)
    settings = resolved(settings.model_copy(update={"epochs": epochs_within(settings, len(given), most_steps)}), 0)
    fold_of = record_folds(vectors.data, folds, settings.seed) if folds > 1 else np.zeros(len(rows), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        return fit_heads(settings, vectors, fold_of, Path(folder), model).model


def _margins(whole: Vectors, evidence: np.ndarray, given: Pairs) -> np.ndarray:
    return mean_of_members(whole.records.margins(evidence, given))


def _sides(values: np.ndarray, whole: Vectors, given: Pairs) -> tuple[np.ndarray, np.ndarray]:
    first = whole.records.offsets[given.row]
    return values[first + given.a], values[first + given.b]
