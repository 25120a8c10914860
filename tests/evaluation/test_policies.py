"""Judging what policies write, against brute force and known answers."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from assay.evaluation.policies import agreement, best_of, divergence, length_controlled, perplexity, win_rate


def test_win_rates_count_ties_as_half() -> None:
    preferred = np.array([1.0, 0.0, 0.5, 1.0])
    found = win_rate(preferred, np.array([10, 20, 30, 40]), np.array([5, 10, 15, 20]), np.arange(4))
    assert found.rate.value == 0.625 and (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.longer == 2.0
    other = win_rate(1 - preferred, np.array([5, 10, 15, 20]), np.array([10, 20, 30, 40]), np.arange(4))
    assert other.rate.value + found.rate.value == pytest.approx(1)
    assert other.controlled.value + found.controlled.value == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="at least one"):
        win_rate(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))


def test_length_is_controlled_for_as_by_a_logistic_regression() -> None:
    random = np.random.default_rng(0)
    gap = random.normal(size=4000)
    preferred = (random.random(4000) < expit(-0.4 + 1.5 * np.tanh(gap + 0.8))).astype(float)
    shifted = gap + 0.8  # ours are longer
    found = length_controlled(preferred, shifted)
    model = LogisticRegression(C=np.inf).fit(np.tanh(shifted)[:, None], preferred)
    assert found == pytest.approx(float(expit(model.intercept_[0])), abs=1e-4)
    assert found == pytest.approx(float(expit(-0.4)), abs=0.03) and preferred.mean() > 0.5  # it wins by length only
    assert length_controlled(preferred, np.zeros(4000)) == pytest.approx(preferred.mean(), abs=1e-4)
    assert 0.9 < length_controlled(np.ones(50), random.normal(size=50)) < 1


def test_divergence_is_the_mean_log_ratio() -> None:
    pi, reference = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    draws = np.random.default_rng(0).choice(3, 200_000, p=pi)
    found = divergence(np.log(pi[draws]), np.log(reference[draws]), np.full(len(draws), 2), np.arange(len(draws)))
    assert found["per_response"].value == pytest.approx(0.025267, abs=1e-3)
    assert found["per_token"].value == pytest.approx(found["per_response"].value / 2)


def test_best_of_n_is_the_mean_over_all_subsets() -> None:
    random = np.random.default_rng(1)
    proxy, gold = random.normal(size=(4, 6)), random.normal(size=(4, 6))
    for n, found in zip((1, 2, 5, 6), best_of(proxy, gold, (1, 2, 5, 6)), strict=True):
        expected = [
            own[max(chosen, key=lambda place: by[place])]
            for by, own in zip(proxy, gold, strict=True)
            for chosen in combinations(range(6), n)
        ]
        assert found["gold"].value == pytest.approx(np.mean(expected))
        assert found["divergence"] == pytest.approx(math.log(n) - (n - 1) / n)
    assert found["proxy"].value == pytest.approx(proxy.max(axis=1).mean())
    with pytest.raises(ValueError, match="best of 7 of 6"):
        best_of(proxy, gold, (7,))


def test_perplexity_counts_tokens() -> None:
    found = perplexity(np.array([-2.0, -9.0]), np.array([1, 3]), np.arange(2))
    assert found.value == pytest.approx(math.exp(11 / 4))


def test_agreement_of_a_recovered_reward_with_the_true_one() -> None:
    gold = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.5, 0.0]])
    groups = np.arange(4)
    found = agreement(7 * gold - 3, gold, groups)
    assert found["same_order"].value == 1 and found["same_order"].n == 3 and found["rank"] == pytest.approx(1)
    turned = agreement(-gold, gold, groups)
    assert turned["same_order"].value == 0 and turned["rank"] == pytest.approx(-1)
    flat = agreement(np.zeros((4, 2)), gold, groups)
    assert flat["same_order"].value == 0.5 and flat["rank"] == 0
    assert agreement(gold, np.zeros((4, 2)), groups)["same_order"] is None
