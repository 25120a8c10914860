from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from assay.evaluation import accuracy, brier, compare, nll


def test_differences_are_those_of_the_metrics(draw: Callable) -> None:
    data, delta = draw(150, ties=6)
    other = delta + np.random.default_rng(0).normal(0, 3, len(data))
    found = compare(data, delta, other, resamples=200)
    assert found.accuracy.value == pytest.approx(accuracy(delta, data.p) - accuracy(other, data.p))
    assert found.nll.value == pytest.approx(nll(delta, data.p) - nll(other, data.p))
    assert found.brier.value == pytest.approx(brier(delta, data.p) - brier(other, data.p))
    assert (found.other_accuracy, found.other_nll) == pytest.approx((accuracy(other, data.p), nll(other, data.p)))
    decided = found.only_scorer_right - found.only_other_right
    assert decided / found.accuracy.n == pytest.approx(found.accuracy.value)


def test_is_antisymmetric(draw: Callable) -> None:
    data, delta = draw(100)
    other = delta + np.random.default_rng(0).normal(0, 3, len(data))
    one, two = compare(data, delta, other, resamples=300), compare(data, other, delta, resamples=300)
    assert one.accuracy.value == pytest.approx(-two.accuracy.value)
    assert one.accuracy.ci95 is not None and two.accuracy.ci95 is not None
    assert one.accuracy.ci95 == pytest.approx((-two.accuracy.ci95[1], -two.accuracy.ci95[0]))
    assert one.agreement == two.agreement and one.only_scorer_right == two.only_other_right


def test_pairing_narrows_the_interval(draw: Callable) -> None:
    data, delta = draw(400, 1, seed=3)
    near = delta + np.random.default_rng(0).normal(0, 0.5, len(data))
    far = np.random.default_rng(1).permutation(delta)
    narrow, wide = (compare(data, delta, other).accuracy.ci95 for other in (near, far))
    assert narrow is not None and wide is not None
    assert narrow[1] - narrow[0] < 0.6 * (wide[1] - wide[0])


def test_verdicts(draw: Callable) -> None:
    data, delta = draw(300)
    assert compare(data, delta, -delta, resamples=100).verdict == "better"
    assert compare(data, -delta, delta, resamples=100).verdict == "worse"
    assert compare(data, delta, delta, resamples=100).verdict == "undecided"
