from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, log_loss

from assay.evaluation import accuracy, brier, nll, score_drift, spread
from assay.evaluation.metrics import hard_labels

_MARGINS = hnp.arrays(np.float64, 20, elements=st.floats(-50, 50))
_TARGETS = hnp.arrays(np.float64, 20, elements=st.floats(0, 1))
_WEIGHTS = hnp.arrays(np.float64, 20, elements=st.floats(0.01, 10))


def test_four_points_of_the_method_sheet() -> None:
    delta, y = logit([0.92, 0.83, 0.28, 0.46]), np.array([1.0, 0, 0, 1])
    # (.08^2 + .83^2 + .28^2 + .54^2) / 4 and -(ln .92 + ln .17 + ln .72 + ln .46) / 4
    assert brier(delta, y) == pytest.approx((0.08**2 + 0.83**2 + 0.28**2 + 0.54**2) / 4, abs=1e-12)
    assert nll(delta, y) == pytest.approx(-math.log(0.92 * 0.17 * 0.72 * 0.46) / 4, abs=1e-12)
    assert (brier(delta, y), nll(delta, y)) == pytest.approx((0.266325, 0.740093), abs=1e-6)


def test_agrees_with_scikit_learn_on_hard_labels_and_weights() -> None:
    rng = np.random.default_rng(0)
    delta, y, w = rng.normal(0, 2, 500), rng.integers(0, 2, 500).astype(float), rng.random(500)
    assert nll(delta, y, w) == pytest.approx(log_loss(y, expit(delta), sample_weight=w), abs=1e-10)
    assert brier(delta, y, w) == pytest.approx(brier_score_loss(y, expit(delta), sample_weight=w), abs=1e-12)


@given(_MARGINS, _TARGETS, _WEIGHTS)
def test_exchanging_a_and_b_changes_nothing(delta: np.ndarray, p: np.ndarray, w: np.ndarray) -> None:
    for metric in (nll, brier):
        assert metric(-delta, 1 - p, w) == pytest.approx(metric(delta, p, w), abs=1e-9)
    p = np.round(p * 4) / 4  # 1 - p is exact, so a tie stays a tie
    assert accuracy(-delta, 1 - p, w) == pytest.approx(accuracy(delta, p, w), abs=1e-12, nan_ok=True)


@given(_MARGINS, _TARGETS, _WEIGHTS)
def test_a_soft_target_is_two_weighted_hard_ones(delta: np.ndarray, p: np.ndarray, w: np.ndarray) -> None:
    twice, labels = np.tile(delta, 2), np.repeat([1.0, 0.0], len(p))
    assert nll(twice, labels, np.concatenate([w * p, w * (1 - p)])) == pytest.approx(nll(delta, p, w), rel=1e-9)


def test_extreme_margins_stay_exact() -> None:
    delta = np.array([1e4, -1e4])
    assert nll(delta, np.array([1.0, 0.0])) == 0.0
    assert nll(delta, np.array([0.0, 1.0])) == 1e4
    assert brier(delta, np.array([0.0, 1.0])) == 1.0


def test_accuracy_counts_predicted_ties_half_and_leaves_judged_ties_out() -> None:
    delta = np.array([1.0, -1.0, 0.0, 5.0])
    assert accuracy(delta, np.array([1.0, 1.0, 1.0, 0.5])) == pytest.approx((1 + 0 + 0.5) / 3)
    assert accuracy(delta, np.array([0.6, 0.4, 0.9, 0.5]), np.array([1, 1, 2, 9])) == pytest.approx(3 / 4)
    assert math.isnan(accuracy(delta, np.full(4, 0.5)))


def test_zero_weights_equal_removal() -> None:
    rng = np.random.default_rng(1)
    delta, p, w = rng.normal(size=30), rng.random(30), (rng.random(30) < 0.5).astype(float)
    for metric in (accuracy, nll, brier):
        assert metric(delta, p, w) == pytest.approx(metric(delta[w > 0], p[w > 0]), abs=1e-12)
        assert math.isnan(metric(delta, p, np.zeros(30)))


@pytest.mark.parametrize(
    ("delta", "p", "w", "told"),
    [
        ([1.0, 2.0], [1.0], None, "one length"),
        ([np.nan, 1.0], [1.0, 0.0], None, "1 of 2 are not, the first at 0"),
        ([1.0, 1.0], [1.0, 1.5], None, "targets p must lie in"),
        ([1.0, 1.0], [1.0, 0.0], [1.0, -1.0], "must not be negative"),
    ],
)
def test_bad_arrays_are_refused(delta: list[float], p: list[float], w: list[float] | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        nll(np.array(delta), np.array(p), None if w is None else np.array(w))


def test_hard_labels_keep_ties() -> None:
    assert hard_labels(np.array([0.0, 0.3, 0.5, 0.51, 1.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_spread_and_drift() -> None:
    found = spread(np.array([3.0, -4.0, 0.0, 0.0]))
    assert (found["mean_abs"], found["rms"], found["zero_share"]) == (1.75, 2.5, 0.5)
    scores = np.array([1.0, 2.0, 4.0])
    moved = score_drift(scores, 2 * scores + 3)
    assert moved["scale"] == pytest.approx(2) and moved["rank_correlation"] == pytest.approx(1)
    assert moved["shift"] == pytest.approx((scores + 3).mean() / scores.std())
    assert math.isnan(score_drift(np.ones(3), scores)["shift"])
