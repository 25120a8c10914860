"""Expected calibration error, what a calibrated scorer would get by chance, and the reliability curve.

A finite sample makes the ECE of a perfectly calibrated predictor positive. So the ECE never stands alone: beside it
stand its distribution under y ~ Bernoulli(P) (mean and 95 % band) and the ECE less that mean.

Conventions: confidence = max(P, 1 - P) = sigmoid(|delta|); correct = the likelier side was judged better, P = 0.5
counts one half; equal-width bins on [0.5, 1], closed on the left. Exchanging a and b changes nothing. Judged ties
(p = 0.5) have no correct side and are left out, unless ``soft``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import expit

from assay.evaluation.metrics import accuracy_terms, checked, decided

BINS = 15
_ENUMERATED = 12  # judgements per bin up to which all outcomes are listed
_NORMAL_VARIANCE = 100.0  # outcomes of variance beyond which a bin's sum is drawn from its normal limit
_CHUNK_VALUES = 4_000_000


@dataclass(frozen=True)
class CalibrationError:
    """Calibration error of one scorer on one sample.

    Attributes
    ----------
    value
        ECE in [0, 0.5].
    null_mean, null_band95
        Mean and central 95 % of the ECE that a calibrated predictor with these confidences gets on as many independent
        judgements. Those of one long ranking depend on each other, so that a calibrated predictor leaves the band more
        often there.
    debiased
        ``value - null_mean``; negative values occur by chance and are not cut off.
    n
        Judgements that were counted (ties are not).
    """

    value: float
    null_mean: float
    null_band95: tuple[float, float]
    debiased: float
    n: int


@dataclass(frozen=True)
class ReliabilityCurve:
    """One point per occupied confidence bin; all arrays have one length.

    Attributes
    ----------
    confidence, accuracy
        Weighted means in the bin; calibrated means equal.
    band_low, band_high
        Central 95 % of the accuracy of a calibrated predictor in this bin.
    count
        Judgements in the bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    count: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Return the arrays as lists of plain numbers."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class _Binned:
    """Judgements sorted by bin. ``spread`` is w where the outcome is random, 0 where P = 0.5 fixes it at one half."""

    confidence: np.ndarray
    correct: np.ndarray
    w: np.ndarray
    spread: np.ndarray
    edges: list[slice]

    @property
    def total(self) -> float:
        return float(self.w.sum())


def _binned(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None, bins: int, soft: bool = False) -> _Binned:
    delta, p, w = checked(delta, p, w)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if soft:
        correct = np.where(delta == 0, 0.5, np.where(delta > 0, p, 1.0 - p))
    else:
        keep = decided(p)
        delta, p, w = delta[keep], p[keep], w[keep]
        correct = accuracy_terms(delta, p)
    confidence = expit(np.abs(delta))
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
    order = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[order], np.arange(bins + 1))
    edges = [slice(int(lo), int(hi)) for lo, hi in pairwise(ends) if hi > lo]
    spread = np.where(delta == 0, 0.0, w)
    return _Binned(confidence[order], correct[order], w[order], spread[order], edges)


def ece(
    delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None, *, bins: int = BINS, soft: bool = False
) -> float:
    """Weighted mean over bins of ``|accuracy - confidence|``; NaN without a decided judgement.

    Parameters
    ----------
    soft
        False: correct by the side of 0.5 on which the target lies. True: correct with the target's probability, the
        expectation over judges when ``p`` is a share of votes; ties then count one half.
    """
    data = _binned(delta, p, w, bins, soft)
    if data.total <= 0:
        return float("nan")
    gaps = data.w * (data.correct - data.confidence)
    return float(sum(abs(gaps[edge].sum()) for edge in data.edges)) / data.total


def _null_gaps(data: _Binned, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``sum of w * (correct - confidence)`` per bin under calibration -> [draws, bins]."""
    out = np.zeros((draws, len(data.edges)))
    for column, edge in enumerate(data.edges):
        confidence, weight = data.confidence[edge], data.spread[edge]
        variance = float(np.sum(weight**2 * confidence * (1 - confidence)))
        if variance > _NORMAL_VARIANCE * max(float(weight.max()) ** 2, 1e-300):
            out[:, column] = rng.normal(0.0, np.sqrt(variance), draws)
            continue
        step = max(1, _CHUNK_VALUES // len(confidence))
        for start in range(0, draws, step):
            rows = min(step, draws - start)
            correct = rng.random((rows, len(confidence)), dtype=np.float32) < confidence.astype(np.float32)
            out[start : start + rows, column] = correct @ weight - confidence @ weight
    return out


def _exact_mean(confidence: np.ndarray, weight: np.ndarray) -> float:
    """Return E|sum of w * (correct - confidence)| over all 2^n outcomes of one bin."""
    sums, chances = np.zeros(1), np.ones(1)
    for c, w in zip(confidence, weight, strict=True):
        sums = np.concatenate([sums + w * (1 - c), sums - w * c])
        chances = np.concatenate([chances * c, chances * (1 - c)])
    return float(np.abs(sums) @ chances)


def calibration_error(
    delta: np.ndarray,
    p: np.ndarray,
    w: np.ndarray | None = None,
    *,
    bins: int = BINS,
    draws: int = 2000,
    seed: int = 0,
) -> CalibrationError:
    """Measure the ECE together with what a calibrated predictor would get at this sample size.

    The null mean is a sum over bins, so it is exact (all outcomes listed) for each bin of at most 12 judgements and
    Monte Carlo for the others; the band is Monte Carlo.
    """
    data = _binned(delta, p, w, bins)
    nan = float("nan")
    if data.total <= 0:
        return CalibrationError(nan, nan, (nan, nan), nan, len(data.w))
    gaps = data.w * (data.correct - data.confidence)
    value = float(sum(abs(gaps[edge].sum()) for edge in data.edges)) / data.total
    sizes = np.abs(_null_gaps(data, draws, np.random.default_rng(seed)))
    means = [
        _exact_mean(data.confidence[edge], data.spread[edge])
        if edge.stop - edge.start <= _ENUMERATED
        else float(sizes[:, column].mean())
        for column, edge in enumerate(data.edges)
    ]
    null_mean = sum(means) / data.total
    low, high = np.quantile(sizes.sum(axis=1) / data.total, [0.025, 0.975])
    return CalibrationError(value, null_mean, (float(low), float(high)), value - null_mean, len(data.w))


def reliability_curve(
    delta: np.ndarray,
    p: np.ndarray,
    w: np.ndarray | None = None,
    *,
    bins: int = BINS,
    draws: int = 2000,
    seed: int = 0,
) -> ReliabilityCurve:
    """Return confidence against accuracy per bin with weight, and the band of a calibrated predictor."""
    data = _binned(delta, p, w, bins)
    gaps = _null_gaps(data, draws, np.random.default_rng(seed))
    rows = []
    for column, edge in enumerate(data.edges):
        weight = data.w[edge]
        total = float(weight.sum())
        if total <= 0:
            continue
        confidence = float(weight @ data.confidence[edge]) / total
        low, high = np.quantile(gaps[:, column], [0.025, 0.975]) / total
        accuracy = float(weight @ data.correct[edge]) / total
        rows.append((confidence, accuracy, confidence + low, confidence + high, len(weight)))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return ReliabilityCurve(columns[0], columns[1], columns[2], columns[3], columns[4].astype(np.int64))
