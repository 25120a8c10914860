from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from assay.errors import DataError
from assay.evaluation import Temperature, accuracy, fit_temperature, nll


def _drawn(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    delta = rng.normal(0, 1.5, n)
    return factor * delta, (rng.random(n) < expit(delta)).astype(float)


@pytest.mark.parametrize("factor", [0.2, 1.0, 30.0])
def test_recovers_a_planted_temperature(factor: float) -> None:
    delta, y = _drawn(20_000, factor)
    found = fit_temperature(delta, y)
    assert found.value == pytest.approx(factor, rel=0.06)  # standard error 1.2 %
    assert not found.flags and found.nll_after <= found.nll_before


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.1, 20))
def test_is_the_minimum_that_a_general_optimiser_finds(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    delta, p, w = factor * rng.normal(size=60), rng.random(60), rng.random(60)
    p = np.where(rng.random(60) < 0.6, (delta > 0) * 0.8 + 0.1, p)
    found = fit_temperature(delta, p, w)
    best = minimize_scalar(
        lambda s: nll(delta * np.exp(s), p, w), bounds=(-8, 8), method="bounded", options={"xatol": 1e-9}
    )
    assert found.nll_after == pytest.approx(best.fun, abs=1e-8)


def test_does_not_depend_on_the_unit_of_the_margins_or_on_orientation() -> None:
    delta, y = _drawn(300, 2.0)
    value = fit_temperature(delta, y).value
    assert fit_temperature(delta * 1e6, y).value == pytest.approx(value * 1e6, rel=1e-9)
    turn = np.arange(300) % 2 == 0
    turned = fit_temperature(np.where(turn, -delta, delta), np.where(turn, 1 - y, y))
    assert turned.value == pytest.approx(value, rel=1e-9)


def test_order_stays() -> None:
    delta, y = _drawn(300, 5.0)
    found = fit_temperature(delta, y)
    assert accuracy(found.apply(delta), y) == accuracy(delta, y)
    assert found.probability(delta) == pytest.approx(expit(delta / found.value))


def test_separated_judgements_stay_finite_and_are_flagged() -> None:
    delta = np.linspace(0.1, 3, 30)
    found = fit_temperature(delta, np.ones(30))
    assert found.flags == ("separated",)
    # the mean gradient vanishes against the smoothed target (n+1)/(n+2) = 31/32
    assert np.sum((expit(delta / found.value) - 31 / 32) * delta) == pytest.approx(0, abs=1e-8)
    assert fit_temperature(np.full(40, 0.7), np.ones(40)).probability(np.array([0.7])) == pytest.approx([41 / 42])


def test_margins_that_predict_nothing_are_flattened_and_flagged() -> None:
    delta = np.linspace(-3, 3, 50)
    against = fit_temperature(delta, (delta < 0).astype(float))
    assert "no_signal" in against.flags
    assert np.abs(against.probability(delta) - 0.5).max() < 0.001


def test_degenerate_samples_are_flagged() -> None:
    assert fit_temperature(np.zeros(30), np.ones(30)).flags == ("constant",)
    assert fit_temperature(np.ones(30), np.full(30, 0.5)).flags == ("few_judgements", "all_ties")
    few = fit_temperature(np.array([1.0, 2.0, -1.0]), np.array([1.0, 0.0, 0.0]))
    assert few.flags[0] == "few_judgements" and np.isfinite(few.value)
    with pytest.raises(DataError, match="no judgements"):
        fit_temperature(np.ones(3), np.ones(3), np.zeros(3))


def test_survives_json() -> None:
    found = fit_temperature(np.linspace(0.1, 3, 10), np.ones(10))
    assert Temperature.from_dict(found.to_dict()) == found
