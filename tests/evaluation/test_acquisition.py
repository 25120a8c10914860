"""What a judgement would tell, against brute force; and choices that do not repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from assay.evaluation.acquisition import binary_entropy, information_gain, spread_out


def test_information_gain_by_brute_force() -> None:
    margin, std = np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.5, 2.0])
    drawn = np.random.default_rng(0).normal(size=(400_000, 1)) * std + margin
    p = expit(drawn)
    expected = binary_entropy(p.mean(axis=0)) - binary_entropy(p).mean(axis=0)
    assert information_gain(margin, std) == pytest.approx(expected, abs=2e-3)


@given(st.floats(-5, 5), st.floats(0, 5))
def test_laws_of_information_gain(margin: float, std: float) -> None:
    def gain(m: float, s: float) -> float:
        return float(information_gain(np.array([m]), np.array([s]))[0])

    assert 0 <= gain(margin, std) <= np.log(2) + 1e-9
    assert gain(margin, std) == pytest.approx(gain(-margin, std), abs=1e-9)
    assert gain(margin, 0.0) == pytest.approx(0.0, abs=1e-9), "a sure model learns nothing, even of a toss-up"
    assert gain(0.0, std + 1) >= gain(0.0, std) - 1e-9


def test_entropy() -> None:
    assert binary_entropy(np.array([0.0, 0.5, 1.0])) == pytest.approx([0.0, np.log(2), 0.0])


def test_farthest_first() -> None:
    # two directions, each three times, once the other way round; and one of its own that is worth least
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [-1, 0, 0.01], [0, 1, 0], [0, 1, 0.01], [0, -1, 0], [0, 0, 1]], float)
    value = np.array([9.0, 8, 7, 6, 5, 4, 1])
    assert spread_out(vectors, value, 3, 7).tolist()[:2] in ([0, 3], [0, 6], [0, 5])
    assert set(spread_out(vectors, value, 3, 7)) >= {0, 6}
    assert 6 not in spread_out(vectors, value, 3, 5), "it is not in the pool"
    assert sorted(spread_out(vectors, value, 20, 7)) == list(range(7))
    assert len(spread_out(np.zeros((0, 3)), np.zeros(0), 2, 5)) == 0
    assert len(set(spread_out(np.zeros((4, 3)), value[:4], 3, 4))) == 3, "equal pairs are still different pairs"


def test_information_gain_of_calibrated_margins() -> None:
    margin, std = np.array([0.5, -1.0]), np.array([1.0, 0.4])
    scaled = information_gain(margin / 2, std / 2)
    assert information_gain(margin, std, lambda z: expit(z / 2)) == pytest.approx(scaled)
    # all that is sure is told already
    assert information_gain(margin, std, lambda z: np.full(z.shape, 0.8)) == pytest.approx([0.0, 0.0])
