"""One call that judges a scorer on held-out judgements, with intervals, beside baselines and against another scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from assay.errors import ModelError
from assay.evaluation.calibrators import Calibration, stored_form
from assay.evaluation.ceiling import Ceiling, ceiling_of
from assay.evaluation.comparison import BaselineResult, Comparison, compared, judge_baseline
from assay.evaluation.intervals import RESAMPLES, SHARE, Estimate, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms, brier_terms, decided, hard_labels, nll_terms, spread
from assay.evaluation.powered import PoweredEstimate
from assay.evaluation.reliability import (
    CalibrationError,
    ReliabilityCurve,
    calibration_error,
    ece,
    reliability_curve,
)
from assay.evaluation.slices import LengthSlices, Slice, by_length, by_margin, by_source
from assay.evaluation.uncertainty import UncertaintyEvaluation, evaluate_uncertainty
from assay.feedback.pairs import Pairs

HISTOGRAM_BINS = 30


@dataclass(frozen=True)
class Probabilities:
    """How good P = sigmoid(delta) is as a probability; raw, or calibrated.

    ``nll_hard`` and ``brier_hard`` are measured against the targets rounded to a side, ``ece_soft`` counts correct with
    the target's probability; all three are None where every target is 0, 0.5 or 1 already.
    """

    nll: Estimate
    brier: Estimate
    ece: CalibrationError
    curve: ReliabilityCurve
    nll_hard: float | None = None
    brier_hard: float | None = None
    ece_soft: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return flat plain numbers with siblings ``*_ci95``, ``ece_debiased``, ``ece_null_band95``, and the curve."""
        values: dict[str, Any] = {
            "nll": self.nll.value,
            "nll_ci95": list(self.nll.ci95) if self.nll.ci95 else None,
            "brier": self.brier.value,
            "brier_ci95": list(self.brier.ci95) if self.brier.ci95 else None,
            "ece": self.ece.value,
            "ece_debiased": self.ece.debiased,
            "ece_null_mean": self.ece.null_mean,
            "ece_null_band95": list(self.ece.null_band95),
            "calibration_curve": self.curve.to_dict(),
        }
        extra = {"nll_hard": self.nll_hard, "brier_hard": self.brier_hard, "ece_soft": self.ece_soft}
        return {**values, **{name: value for name, value in extra.items() if value is not None}}


@dataclass(frozen=True)
class MarginHistogram:
    """Signed margins of the judged-better over the worse response: right above 0, wrong below.

    ``edges`` [B+1] in score units, symmetric; ``count`` [B] decided judgements. Margins beyond the outer edges (the
    99 % quantile of the size) are counted in the outer bins.
    """

    edges: np.ndarray
    count: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Return the arrays as lists."""
        return {"edges": self.edges.tolist(), "count": self.count.tolist()}


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes
    ----------
    accuracy
        On decided judgements; predicted ties count one half.
    raw, calibrated
        Probabilities of the margins as they are and under ``calibration``; ``calibrated`` is None without one.
    n_pairs, n_groups
        Judgements and split groups.
    ties, predicted_ties, zero_weight
        Judged ties (left out of accuracy and ECE), margins of exactly 0, judgements of weight 0: numbers of judgements.
    """

    accuracy: Estimate
    raw: Probabilities
    n_pairs: int
    n_groups: int
    ties: int
    predicted_ties: int
    zero_weight: int
    margins: dict[str, float]
    histogram: MarginHistogram
    by_margin: list[Slice]
    by_length: LengthSlices
    by_source: list[Slice]
    calibrated: Probabilities | None = None
    calibration: Calibration | None = None
    baselines: dict[str, BaselineResult] = field(default_factory=dict)
    against: Comparison | None = None
    uncertainty: UncertaintyEvaluation | None = None
    powered: PoweredEstimate | None = None
    ceiling: Ceiling | None = None
    seed: int = 0
    resamples: int = RESAMPLES

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON (NaN stays NaN; ``write_json`` turns it into null)."""
        return {
            "accuracy": self.accuracy.to_dict(),
            **self.raw.to_dict(),
            "calibrated": self.calibrated.to_dict() if self.calibrated else None,
            "calibration": stored_form(self.calibration, "given") if self.calibration else None,
            "n_pairs": self.n_pairs,
            "n_groups": self.n_groups,
            "ties": self.ties,
            "predicted_ties": self.predicted_ties,
            "zero_weight": self.zero_weight,
            "margins": dict(self.margins),
            "margin_histogram": self.histogram.to_dict(),
            "by_margin": [part.to_dict() for part in self.by_margin],
            "by_length": self.by_length.to_dict(),
            "by_source": [part.to_dict() for part in self.by_source],
            "baselines": {name: result.to_dict() for name, result in self.baselines.items()},
            "against": self.against.to_dict() if self.against else None,
            "noise_ceiling": self.ceiling.to_dict() if self.ceiling else None,
            "prediction_powered": self.powered.to_dict() if self.powered else None,
            "uncertainty": self.uncertainty.to_dict() if self.uncertainty else None,
            "bootstrap": {"resamples": self.resamples, "seed": self.seed},
        }


def randomly_oriented(pairs: Pairs, delta: np.ndarray, seed: int) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Exchange a and b of a random half of the judgements -> (pairs, delta, sign [E] of +1 or -1).

    Records often name the better response first; no figure may depend on that order.
    """
    sign = np.where(np.random.default_rng(seed).random(len(pairs)) < 0.5, -1.0, 1.0)
    keep = sign > 0
    turned = replace(
        pairs,
        a=np.where(keep, pairs.a, pairs.b),
        b=np.where(keep, pairs.b, pairs.a),
        p=np.where(keep, pairs.p, 1.0 - pairs.p),
        m=pairs.m * sign,
        length_a=np.where(keep, pairs.length_a, pairs.length_b),
        length_b=np.where(keep, pairs.length_b, pairs.length_a),
    )
    return turned, delta * sign, sign


def margins_of(delta: np.ndarray, pairs: Pairs, name: str) -> np.ndarray:
    """Check margins [E] against the judgements they belong to.

    Raises
    ------
    ValueError
        If there is not one margin per judgement.
    ModelError
        If a margin is NaN or infinite.
    """
    delta = np.asarray(delta, dtype=np.float64)
    if delta.shape != (len(pairs),):
        raise ValueError(f"{name}: expected one margin for each of {len(pairs)} judgements, got shape {delta.shape}")
    bad = np.flatnonzero(~np.isfinite(delta))
    if len(bad):
        raise ModelError(
            f"{name} gave scores that are not finite",
            where=f"row {pairs.row[bad[0]]} of the data",
            expected="a finite margin for every judgement",
            got=f"{len(bad)} of {len(delta)} margins are NaN or infinite",
            remedy="train with a lower learning rate, or score in float32",
        )
    return delta


def _probabilities(delta: np.ndarray, pairs: Pairs, bootstrap: GroupBootstrap) -> Probabilities:
    p, w = pairs.p, pairs.w
    terms = np.stack([nll_terms(delta, p), brier_terms(delta, p)], axis=1)
    nll, brier = bootstrap.ratios(terms, np.stack([w, w], axis=1))
    result = Probabilities(
        nll=nll,
        brier=brier,
        ece=calibration_error(delta, p, w, seed=bootstrap.seed),
        curve=reliability_curve(delta, p, w, seed=bootstrap.seed),
    )
    hard = hard_labels(p)
    if np.array_equal(hard, p):
        return result
    total = max(float(w.sum()), np.finfo(float).tiny)
    return replace(
        result,
        nll_hard=float(w @ nll_terms(delta, hard)) / total,
        brier_hard=float(w @ brier_terms(delta, hard)) / total,
        ece_soft=ece(delta, p, w, soft=True),
    )


def _histogram(delta: np.ndarray, pairs: Pairs) -> MarginHistogram:
    keep = decided(pairs.p)
    signed = (delta * np.sign(pairs.p - 0.5))[keep]
    if not len(signed):
        return MarginHistogram(np.zeros(1), np.zeros(0, dtype=np.int64))
    reach = float(np.quantile(np.abs(signed), 0.99)) or 1.0
    edges = np.linspace(-reach, reach, HISTOGRAM_BINS + 1)  # an even number of bins, so that one edge is 0
    edges[HISTOGRAM_BINS // 2] = 0.0
    count, _ = np.histogram(np.clip(signed, -reach, reach), bins=edges)
    return MarginHistogram(edges, count)


def evaluate(
    pairs: Pairs,
    delta: np.ndarray,
    *,
    calibration: Calibration | None = None,
    baselines: Mapping[str, np.ndarray] | None = None,
    other: np.ndarray | None = None,
    std: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Judge a scorer by its margins on held-out judgements.

    Parameters
    ----------
    pairs
        The judgements, E of them.
    delta
        Raw margins of a over b, float [E]; P(a better) = sigmoid(delta).
    calibration
        Fitted on other judgements; adds the same probability metrics of calibrated margins. Accuracy stays that of the
        margins as they are.
    baselines
        Margins [E] of baselines by name (``length``, ``bag_of_words``), each compared with the scorer.
    other
        Margins [E] of a second scorer on the same judgements, for the paired difference ``against``.
    std
        Standard deviations of the margins [E], where the scorer has them.
    seed, resamples
        Of the orientation, the null distribution of the ECE and the bootstrap.

    Raises
    ------
    ModelError
        If a margin is not finite.
    """
    delta = margins_of(delta, pairs, "the model")
    extra = {name: margins_of(values, pairs, f"baseline {name}") for name, values in (baselines or {}).items()}
    rival = margins_of(other, pairs, "the other model") if other is not None else None
    pairs, delta, sign = randomly_oriented(pairs, delta, seed)
    bootstrap = GroupBootstrap(pairs.group, resamples, seed)
    keep = decided(pairs.p)
    hits = np.where(keep, accuracy_terms(delta, pairs.p), 0.0)
    return Evaluation(
        accuracy=bootstrap.ratio(hits, pairs.w * keep, between=SHARE),
        raw=_probabilities(delta, pairs, bootstrap),
        calibrated=_probabilities(calibration.apply(delta), pairs, bootstrap) if calibration else None,
        calibration=calibration,
        n_pairs=len(pairs),
        n_groups=bootstrap.n_groups,
        ties=int(np.sum(~keep)),
        predicted_ties=int(np.sum(delta == 0)),
        zero_weight=int(np.sum(pairs.w == 0)),
        margins=spread(delta),
        histogram=_histogram(delta, pairs),
        by_margin=by_margin(delta, pairs, bootstrap),
        by_length=by_length(delta, pairs, bootstrap),
        by_source=by_source(delta, pairs, bootstrap),
        baselines={name: judge_baseline(pairs, delta, values * sign, bootstrap) for name, values in extra.items()},
        against=compared(pairs, delta, rival * sign, bootstrap) if rival is not None else None,
        ceiling=ceiling_of(pairs, bootstrap),
        uncertainty=evaluate_uncertainty(pairs, delta, std, bootstrap, calibration.apply if calibration else None)
        if std is not None
        else None,
        seed=seed,
        resamples=resamples,
    )
