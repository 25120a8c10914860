"""Isotonic calibration and Platt's line, against scikit-learn and a planted truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from assay.errors import DataError
from assay.evaluation.calibration import fit_temperature
from assay.evaluation.isotonic import Isotonic, fit_isotonic, fit_platt


def planted(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Margins whose probabilities a temperature cannot describe: sure at first, then flat."""
    random = np.random.default_rng(seed)
    delta = random.normal(scale=3.0, size=n)
    truth = 0.5 + 0.35 * np.tanh(2 * delta)
    return delta, (random.random(n) < truth).astype(float)


def test_it_finds_what_a_temperature_cannot() -> None:
    found, line = fit_isotonic(*planted()), fit_temperature(*planted())
    delta, y = planted(seed=1)

    def nll(p: np.ndarray) -> float:
        return -float(np.log(np.where(y == 1, p, 1 - p)).mean())

    assert nll(found.probability(delta)) < nll(line.probability(delta)) - 0.005
    assert found.nll_after < found.nll_before
    grid = np.linspace(-8, 8, 101)
    assert np.abs(found.probability(grid) - (0.5 + 0.35 * np.tanh(2 * grid))).max() < 0.12


def test_it_rises_is_odd_and_stays_off_certainty() -> None:
    delta, y = planted(300)
    found = fit_isotonic(delta, y)
    grid = np.linspace(-50, 50, 1001)
    p = found.probability(grid)
    assert (np.diff(p) >= -1e-12).all()
    np.testing.assert_allclose(found.probability(-grid), 1 - p, atol=1e-12)
    np.testing.assert_allclose(expit(found.apply(grid)), p, atol=1e-12)
    sure = fit_isotonic(np.array([1.0, 2.0, -3.0]), np.array([1.0, 1.0, 0.0]))
    assert sure.probability(np.array([9.0]))[0] == pytest.approx(1 - 1 / 5)
    turned = fit_isotonic(-delta, 1 - y)
    np.testing.assert_allclose(turned.probability(grid), p, atol=1e-12)


def test_weights_are_repetitions_and_zero_is_absence() -> None:
    delta, y = planted(60)
    w = np.random.default_rng(0).integers(0, 3, 60).astype(float)
    weighted = fit_isotonic(delta, y, w)
    grid = np.linspace(-5, 5, 50)
    repeated = fit_isotonic(np.repeat(delta, w.astype(int)), np.repeat(y, w.astype(int)))
    inner = (weighted.probability(grid) > 0.1) & (weighted.probability(grid) < 0.9)
    np.testing.assert_allclose(weighted.probability(grid)[inner], repeated.probability(grid)[inner], atol=1e-9)
    with pytest.raises(DataError, match="no judgements to fit"):
        fit_isotonic(delta, y, np.zeros(60))


def test_it_survives_json() -> None:
    found = fit_isotonic(*planted(50))
    assert Isotonic.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_platt_is_logistic_regression_on_smoothed_labels() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(2.0, 3.0, 500)
    good = (random.random(500) < expit(0.7 * scores - 1.5)).astype(float)
    found = fit_platt(scores, good)
    many, few = good.sum(), (1 - good).sum()
    target = np.where(good == 1, (many + 1) / (many + 2), 1 / (few + 2))
    both, sides = np.concatenate([scores, scores])[:, None], np.repeat([1, 0], 500)
    peer = LogisticRegression(C=1e10, tol=1e-8, max_iter=1000)
    peer.fit(both, sides, sample_weight=np.concatenate([target, 1 - target]))
    assert found.slope == pytest.approx(float(peer.coef_[0, 0]), rel=1e-4)
    assert found.offset == pytest.approx(float(peer.intercept_[0]), rel=1e-4)
    assert found.good(np.array([0.0]))[0] == pytest.approx(expit(found.offset))
    apart = fit_platt(np.array([-1.0, 1.0]), np.array([0.0, 1.0]))
    assert np.isfinite(apart.slope) and apart.good(np.array([1.0]))[0] == pytest.approx(2 / 3, abs=1e-4)
    with pytest.raises(DataError, match="judged alike"):
        fit_platt(scores, np.ones(500))
