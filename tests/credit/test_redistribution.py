"""Rewards of tokens: golden values, sums, and exact gradients in a table of all sequences."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.credit import CreditError, attention_credit, redistribute, terminal, uniform
from assay.credit.redistribution import RULES, FirstToken
from assay.credit.spreading import Granularity, known_whole

SCORES = [0.4, 0.1, 0.9, 0.6, 1.5]
OWN, OTHER = np.array([-1, -0.5, -2, -0.1]), np.array([-1.2, -0.4, -1.5, -0.1])


@pytest.mark.parametrize(
    ("rule", "first", "total"), [("subtract_prompt", -0.3, 1.1), ("zero_baseline", 0.1, 1.5), ("zero_first", 0.0, 1.4)]
)
def test_golden_credit(rule: FirstToken, first: float, total: float) -> None:
    found = redistribute(SCORES, rule)
    assert found.tolist() == pytest.approx([first, 0.8, -0.3, 0.9], abs=1e-12)
    assert found.sum() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("mix", "expected", "total"),
    [
        (1.0, (-0.32, 0.81, -0.25, 0.90), 1.14),
        (0.5, (-0.17, 0.41, -0.10, 1.20), 1.34),
        (0.0, (-0.02, 0.01, 0.05, 1.50), 1.54),
    ],
)
def test_golden_final_rewards(mix: float, expected: tuple[float, ...], total: float) -> None:
    final = redistribute(SCORES, mix=mix) - 0.1 * (OWN - OTHER)
    assert final.tolist() == pytest.approx(expected, abs=1e-12)
    assert final.sum() == pytest.approx(total, abs=1e-12)
    assert final.sum() == pytest.approx(SCORES[-1] - mix * SCORES[0] - 0.1 * (OWN - OTHER).sum(), abs=1e-12)


def test_without_mix_the_reward_is_sparse() -> None:
    assert redistribute(SCORES, mix=0.0).tolist() == terminal(1.5, 4).tolist() == [0, 0, 0, 1.5]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.floats(-50, 50), st.floats(0, 1))
def test_sums_shifts_and_scales(scores: list[float], shift: float, mix: float) -> None:
    largest = max(map(abs, scores)) + abs(shift) + 1e-9
    found = redistribute(scores, mix=mix)
    assert found.sum() == pytest.approx(scores[-1] - mix * scores[0], abs=1e-9 * largest)
    assert redistribute(scores, "zero_baseline", mix).sum() == pytest.approx(scores[-1], abs=1e-9 * largest)
    moved = redistribute([score + shift for score in scores])
    assert moved.tolist() == pytest.approx(redistribute(scores).tolist(), abs=1e-9 * largest)
    scaled = redistribute([3.0 * score for score in scores], mix=mix)
    assert scaled.tolist() == pytest.approx((3.0 * found).tolist(), abs=1e-9 * largest)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_arrays_and_tensors_stay_what_they_are(kind: Any) -> None:
    given_scores = kind(SCORES)
    found = redistribute(given_scores, mix=0.5)
    assert isinstance(found, torch.Tensor if kind is torch.tensor else np.ndarray)
    assert found.dtype == (torch.float32 if kind is torch.tensor else np.float64)
    assert list(given_scores) == pytest.approx(SCORES)  # nothing was written into what came
    assert redistribute(np.array([1, 3])).tolist() == [2.0]


def test_gradients_pass_through_tensors() -> None:
    scores = torch.tensor(SCORES, requires_grad=True)
    redistribute(scores, mix=0.5).sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == pytest.approx([-0.5, 0, 0, 0, 1])


def test_controls_have_the_same_sum() -> None:
    attention = np.array([0.1, 0.2, 0.3, 0.4])
    assert attention_credit(1.5, attention).tolist() == pytest.approx([0.075, 0.15, 0.225, 1.05], abs=1e-12)
    assert attention_credit(1.5, 7 * attention).sum() == pytest.approx(1.5)
    assert uniform(1.5, 4).tolist() == [0.375] * 4
    assert torch.is_tensor(uniform(1.0, 2, like=torch.zeros(1)))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: redistribute([0.3]), "no token to give a reward to"),
        (lambda: redistribute([[0.3, 0.4]]), "no token to give a reward to"),
        (lambda: redistribute(SCORES, "first"), "no such rule"),  # type: ignore[arg-type]
        (lambda: redistribute(SCORES, mix=1.5), "out of range"),
        (lambda: terminal(1.0, 0), "no token to give a reward to"),
        (lambda: attention_credit(1.0, np.zeros(3)), "attention is a share"),
        (lambda: attention_credit(1.0, np.array([1.0, -0.1])), "attention is a share"),
    ],
)
def test_what_has_no_credit_is_refused(call: Any, reason: str) -> None:
    with pytest.raises(CreditError, match=reason):
        call()


#: Written for the three: what opens a word, what goes on and ends a sentence, and what ends a line.
WORDS = (" a", "b.", " c\n")


class Table:
    """A policy over three words and three places with a score for every prefix: all sequences can be listed."""

    def __init__(self, seed: int, places: int = 3) -> None:
        random = np.random.default_rng(seed)
        self.places = places
        prefixes = [p for n in range(places + 1) for p in itertools.product(range(3), repeat=n)]
        self.score = {prefix: random.normal() for prefix in prefixes}
        self.logits = {prefix: torch.from_numpy(random.normal(size=3)) for prefix in prefixes if len(prefix) < places}

    def gradient(self, rule: FirstToken, mix: float, discount: float, by: Granularity = "token") -> np.ndarray:
        """Return the expected gradient of all logits: sum over sequences of P(y) G_t grad log pi(y_t)."""
        found = {prefix: torch.zeros(3, dtype=torch.float64) for prefix in self.logits}
        for sequence in itertools.product(range(3), repeat=self.places):
            prefixes = [sequence[:t] for t in range(self.places + 1)]
            chances = [self.logits[p].softmax(0) for p in prefixes[:-1]]
            weight = np.prod([chance[word].item() for chance, word in zip(chances, sequence, strict=True)])
            at = np.array([self.score[p] for p in prefixes])[known_whole([WORDS[k] for k in sequence], by)]
            rewards = redistribute(at, rule, mix)
            for t, (prefix, chance, word) in enumerate(zip(prefixes[:-1], chances, sequence, strict=True)):
                to_go = sum(discount ** (k - t) * rewards[k] for k in range(t, self.places))
                found[prefix] += weight * discount**t * to_go * (torch.eye(3, dtype=torch.float64)[word] - chance)
        return torch.cat(list(found.values())).numpy()


@pytest.mark.parametrize("mix", [1.0, 0.5])
def test_the_expected_gradient_stays_the_same_where_nothing_is_discounted(mix: float) -> None:
    table = Table(0)
    sparse = table.gradient("subtract_prompt", 0.0, 1.0)
    for rule in RULES:
        gap = np.abs(table.gradient(rule, mix, 1.0) - sparse).max()
        assert gap < 1e-12 if rule != "zero_first" else gap > 1e-2
    assert (
        np.abs(table.gradient("subtract_prompt", mix, 0.9) - table.gradient("subtract_prompt", 0.0, 0.9)).max() > 1e-3
    )


@pytest.mark.parametrize("by", ["word", "sentence"])
@pytest.mark.parametrize("seed", range(3))
def test_words_and_sentences_leave_the_expected_gradient_as_it_is(by: Granularity, seed: int) -> None:
    table = Table(seed, places=4)
    found, sparse = table.gradient("subtract_prompt", 1.0, 1.0, by), table.gradient("subtract_prompt", 0.0, 1.0)
    assert np.abs(found - sparse).max() < 1e-12
    # it is another credit than that of tokens: with a discount they differ
    assert np.abs(table.gradient("subtract_prompt", 1.0, 0.9, by) - table.gradient("subtract_prompt", 1.0, 0.9)).max()


def test_one_token_without_its_first_reward_learns_nothing() -> None:
    assert np.abs(Table(1, places=1).gradient("zero_first", 1.0, 1.0)).max() == 0
