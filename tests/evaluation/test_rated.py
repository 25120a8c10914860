"""Scores beside the grades of single responses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import spearmanr

from assay.evaluation import Platt, brier, evaluate_rated, nll


def lists() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, grades and records: ten prompts of four responses; prompts differ in level only by score."""
    random = np.random.default_rng(0)
    record = np.repeat(np.arange(10), 4)
    grades = random.normal(size=40)
    return grades + 0.3 * random.normal(size=40) + 100.0 * record * (-1.0) ** record, grades, record


def test_rank_correlation_is_scipys_and_within_prompts_levels_do_not_count() -> None:
    scores, grades, record = lists()
    found = evaluate_rated(scores, grades, record, record, resamples=200)
    assert found is not None and found.auroc is None and found.nll is None
    assert found.rank.value == pytest.approx(spearmanr(scores, grades).statistic)
    each = [spearmanr(scores[record == r], grades[record == r]).statistic for r in range(10)]
    assert found.rank_within.value == pytest.approx(np.mean(each))
    assert found.rank_within.value > 0.6 > 0.3 > found.rank.value
    assert found.rank_within.n == found.n_groups == 10 and found.rank_within.ci95 is not None
    json.dumps(found.to_dict())
    assert "within a prompt" in found.lines()[0]


def test_responses_without_a_grade_do_not_count() -> None:
    scores, grades, record = lists()
    missing = np.arange(40) % 4 == 0
    found = evaluate_rated(scores, np.where(missing, np.nan, grades), record, record, resamples=100)
    alone = evaluate_rated(scores[~missing], grades[~missing], record[~missing], record[~missing], resamples=100)
    assert found == alone and found is not None and found.n_responses == 30
    assert evaluate_rated(scores, np.full(40, np.nan), record, record) is None


def test_equal_grades_have_no_order_and_equal_scores_none_either() -> None:
    record = np.repeat([0, 1], 3)
    found = evaluate_rated(np.zeros(6), np.array([1.0, 1, 1, 1, 2, 3]), record, record, resamples=100)
    assert found is not None and found.rank_within.n == 1 and found.rank_within.value == 0.0
    assert np.isnan(found.rank.value)


def test_good_and_bad() -> None:
    random = np.random.default_rng(1)
    scores = random.normal(size=300)
    good = (random.random(300) < expit(2 * scores - 1)).astype(float)
    platt = Platt(2.0, -1.0, 100, 0.7, 0.5)
    found = evaluate_rated(scores, good, np.arange(300), np.arange(300), platt=platt, resamples=200)
    assert found is not None and found.auroc is not None and found.nll is not None and found.brier is not None
    above = (scores[good == 1][:, None] > scores[good == 0][None, :]).mean()
    assert found.auroc.value == pytest.approx(above)
    assert found.nll.value == pytest.approx(nll(2 * scores - 1, good))
    assert found.brier.value == pytest.approx(brier(2 * scores - 1, good))
    assert found.accuracy is not None and found.accuracy.value == ((scores > 0.5) == (good == 1)).mean()
    assert found.rank_within.n == 0 and len(found.lines()) == 3


def test_platt_of_a_pair_is_the_odds_that_this_one_is_the_good_one() -> None:
    platt = Platt(1.7, -0.4, 10, 0.7, 0.6)
    a, b = platt.good(np.array([1.2])), platt.good(np.array([0.3]))
    expected = a * (1 - b) / (a * (1 - b) + b * (1 - a))
    np.testing.assert_allclose(platt.probability(np.array([0.9])), expected)
    np.testing.assert_allclose(logit(expected), platt.apply(np.array([0.9])))


def test_that_all_prompts_are_in_order_is_not_certain() -> None:
    scores, grades = np.tile([0.0, 1.0, 2.0], 4), np.tile([0.0, 0.0, 1.0], 4)
    record = np.repeat(np.arange(4), 3)
    found = evaluate_rated(scores, grades, record, record, resamples=50)
    assert found is not None and found.auroc is not None
    low = 0.025**0.25
    assert found.auroc.ci95 == pytest.approx((low, 1.0))
    exact = evaluate_rated(scores, scores, record, record, resamples=50)
    assert exact is not None and exact.rank_within.ci95 == pytest.approx((2 * low - 1, 1.0))
