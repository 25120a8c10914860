from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import expit, logit

from assay.evaluation import brier, calibration_error, ece, nll, reliability_curve

P = np.array([0.51, 0.54, 0.61, 0.64, 0.66, 0.37, 0.34, 0.81, 0.19, 0.83, 0.94, 0.07])
Y = np.array([1.0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0])
DELTA = logit(P)


def _plain_ece(chance: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """The definition, judgement by judgement."""
    confidence = np.maximum(chance, 1 - chance)
    correct = ((chance > 0.5) == (y == 1)).astype(float)
    total = 0.0
    for low, high in itertools.pairwise(np.linspace(0.5, 1, bins + 1)):
        inside = (confidence >= low) & (confidence < high if high < 1 else confidence <= 1)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def test_the_twelve_points_pin_the_convention() -> None:
    assert ece(DELTA, Y) == pytest.approx(0.360833, abs=1e-6)
    assert ece(DELTA, Y) == pytest.approx(_plain_ece(P, Y), abs=1e-12)
    assert ece(DELTA, Y, bins=10) == pytest.approx(0.1725, abs=1e-6)
    for delta, y in ((DELTA, Y), (-DELTA, 1 - Y)):
        assert brier(delta, y) == pytest.approx(0.264258, abs=1e-6)
        assert nll(delta, y) == pytest.approx(0.725003, abs=1e-6)


def test_unchanged_when_sides_are_exchanged() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        turn = rng.random(12) < 0.5
        assert ece(np.where(turn, -DELTA, DELTA), np.where(turn, 1 - Y, Y)) == ece(DELTA, Y)


def test_debiased_equals_the_exact_mean_over_all_outcomes() -> None:
    exact = 0.0
    for outcome in itertools.product([0.0, 1.0], repeat=12):
        y = np.array(outcome)
        exact += float(np.prod(np.where(y == 1, P, 1 - P))) * ece(DELTA, y)
    found = calibration_error(DELTA, Y, draws=10)
    assert found.null_mean == pytest.approx(exact, abs=1e-9)
    assert (found.null_mean, found.debiased) == pytest.approx((0.253179, 0.107654), abs=1e-6)


def test_monte_carlo_agrees_with_listing_all_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = calibration_error(DELTA, Y).null_mean
    monkeypatch.setattr("assay.evaluation.reliability._ENUMERATED", 0)
    # standard error of 20,000 draws of an ECE of standard deviation 0.07: 0.0005
    assert calibration_error(DELTA, Y, draws=20_000).null_mean == pytest.approx(exact, abs=0.0025)


def test_normal_limit_agrees_with_drawing_every_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    delta = rng.normal(0, 1, 6000)
    y = (rng.random(6000) < expit(delta)).astype(float)
    monkeypatch.setattr("assay.evaluation.reliability._NORMAL_VARIANCE", 0.0)
    normal = calibration_error(delta, y, draws=4000)
    monkeypatch.setattr("assay.evaluation.reliability._NORMAL_VARIANCE", math.inf)
    drawn = calibration_error(delta, y, draws=1000)
    assert normal.null_mean == pytest.approx(drawn.null_mean, rel=0.04)
    assert normal.null_band95 == pytest.approx(drawn.null_band95, rel=0.12)


def test_the_band_holds_a_calibrated_predictor_and_excludes_an_overconfident_one() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(40):
        delta = rng.normal(0, 1.5, 400)
        y = (rng.random(400) < expit(delta)).astype(float)
        low, high = (found := calibration_error(delta, y, draws=400)).null_band95
        inside += low <= found.value <= high
        wild = calibration_error(3 * delta, y, draws=200)
        assert wild.value > wild.null_band95[1] and wild.debiased > 0.05
    assert inside >= 32  # binomial(40, .95): fewer than 33 has probability 0.0002


def test_ties_and_even_margins() -> None:
    delta, p = np.array([0.0, 2.0, 2.0]), np.array([1.0, 0.5, 1.0])
    found = calibration_error(delta, p)
    assert found.n == 2
    assert found.value == pytest.approx((1 - expit(2.0)) / 2)  # the even margin is right half of the time, as it says
    assert found.null_mean == pytest.approx(2 * expit(2.0) * expit(-2.0) / 2)
    assert math.isnan(calibration_error(delta[1:2], p[1:2]).value)


def test_soft_targets_count_by_their_probability() -> None:
    delta = np.array([1.0, -2.0, 0.5])
    assert ece(delta, expit(delta), soft=True) == pytest.approx(0.0, abs=1e-12)
    assert ece(delta, expit(delta)) > 0.1


def test_weights_equal_repetition() -> None:
    w = np.array([1, 2, 3] * 4)
    assert ece(DELTA, Y, w) == pytest.approx(ece(np.repeat(DELTA, w), np.repeat(Y, w)), abs=1e-12)


def test_reliability_curve_adds_up_to_the_ece() -> None:
    curve = reliability_curve(DELTA, Y)
    gap = curve.count @ np.abs(curve.accuracy - curve.confidence) / curve.count.sum()
    assert gap == pytest.approx(ece(DELTA, Y), abs=1e-12)
    assert curve.count.sum() == 12 and np.all(curve.band_low <= curve.confidence)
    assert np.all(curve.band_high >= curve.confidence)
    assert len(reliability_curve(np.zeros(0), np.zeros(0)).count) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("responses", "prompts", "often"), [(4, 100, False), (16, 10, True)])
def test_long_rankings_leave_the_band_more_often(responses: int, prompts: int, often: bool) -> None:
    """Outcomes of all pairs of one Plackett-Luce ranking: calibrated pair by pair, but not independent."""
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(responses, 1)
    above = 0
    for _ in range(150):
        scores = rng.normal(0, 1.2, (prompts, responses))
        ranked = scores + rng.gumbel(size=scores.shape)
        won = (ranked[:, a] > ranked[:, b]).astype(float).ravel()
        error = calibration_error((scores[:, a] - scores[:, b]).ravel(), won)
        above += error.value > error.null_band95[1]
    assert (above / 150 > 0.06) is often
