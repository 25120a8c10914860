"""Gamma fitted on independent judgements: recovery, refusals, and real repeated items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from assay.errors import DataError
from assay.feedback import comparison, edge, from_rows, pairs
from assay.feedback.gamma import fit_gamma, repeated_gaps


def planted(gamma: float, items: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    gap = random.integers(-4, 5, items).astype(float)
    return gap, (random.random(items) < expit(gamma * gap)).astype(float), np.arange(items)


def test_a_planted_gamma_is_recovered_within_its_interval() -> None:
    found = fit_gamma(*planted(0.6))
    assert found.ci95[0] < 0.6 < found.ci95[1] and found.usable
    assert found.value == pytest.approx(0.6, abs=0.15)
    assert found.nll < found.nll_without
    gap, better, item = planted(0.6)
    turned = fit_gamma(-gap, 1 - better, item, resamples=10)
    assert turned.value == pytest.approx(found.value, rel=1e-6)


def test_it_is_the_logistic_regression_without_an_intercept() -> None:
    from sklearn.linear_model import LogisticRegression

    gap, better, item = planted(0.6)
    peer = LogisticRegression(C=1e10, fit_intercept=False).fit(gap[:, None], better)
    assert fit_gamma(gap, better, item, resamples=10).value == pytest.approx(float(peer.coef_[0, 0]), rel=1e-4)


def test_labels_made_from_the_grade_are_refused_by_name() -> None:
    gap, _, item = planted(0.6)
    with pytest.raises(DataError, match="repeat the sign of confidence in every one of") as caught:
        fit_gamma(gap, (np.sign(gap) + 1) / 2, item, grade="confidence")
    assert "without end" in str(caught.value)
    with pytest.raises(DataError, match="too few independent judgements"):
        fit_gamma(gap[:5], np.ones(5), item[:5])


def test_a_grade_that_says_nothing_is_reported_and_not_usable() -> None:
    gap, _, item = planted(0.6)
    noise = np.random.default_rng(5).integers(0, 2, len(gap)).astype(float)
    found = fit_gamma(gap, noise, item)
    assert found.ci95[0] == 0 and not found.usable


def test_items_are_resampled_whole() -> None:
    gap, better, item = planted(0.6, items=60)
    alone = fit_gamma(gap, better, item)
    copies = fit_gamma(np.repeat(gap, 9), np.repeat(better, 9), np.repeat(item, 9))
    assert copies.value == pytest.approx(alone.value, rel=1e-5)
    width = alone.ci95[1] - alone.ci95[0]
    assert copies.ci95[1] - copies.ci95[0] == pytest.approx(width, rel=1e-3)


def test_repeated_items_pair_each_gap_with_the_other_verdicts() -> None:
    judged = [edge(0, 1), edge(1, 0), edge(0, 1), edge(0, 2)]
    view = pairs(from_rows([comparison("Q", ["a", "b", "c"], judged)]))
    gap, better, item = repeated_gaps(view, np.array([3.0, 1.0, np.nan, 4.0]))
    assert sorted(zip(gap, better, strict=True)) == [(-1, 1), (-1, 1), (3, 0), (3, 1)]
    assert len(set(item)) == 1
    assert all(len(part) == 0 for part in repeated_gaps(view.take(np.array([3])), np.array([4.0])))


def test_a_copied_row_says_nothing_new() -> None:
    judged = [edge(0, 1, annotator="w"), edge(0, 1, annotator="w"), edge(1, 0, annotator="v")]
    view = pairs(from_rows([comparison("Q", ["a", "b"], judged)]))
    gap, better, _ = repeated_gaps(view, np.array([3.0, 3.0, 2.0]))
    assert sorted(zip(gap, better, strict=True)) == [(-2, 1), (-2, 1), (3, 0), (3, 0)]
