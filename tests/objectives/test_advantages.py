"""Advantages against brute force, golden values, and the identities of redistributed rewards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.credit import redistribute
from assay.objectives.advantages import (
    generalised_advantages,
    group_advantages,
    group_baseline,
    returns_to_go,
    whitened,
)

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.0])
def test_returns_are_discounted_sums(discount: float) -> None:
    rewards = drawn(0, 3, 4)
    found = returns_to_go(rewards, MASK, discount)
    for row, length in enumerate((4, 2, 1)):
        for t in range(4):
            expected = sum(discount ** (k - t) * rewards[row, k].item() for k in range(t, length)) if t < length else 0
            assert found[row, t].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("discount", "trace"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_generalised_advantages_are_the_weighted_mean_of_all_horizons(discount: float, trace: float) -> None:
    rewards, values = drawn(1, 3, 4), drawn(2, 3, 4)
    found, learned = generalised_advantages(rewards, values, MASK, discount, trace)
    for row, length in enumerate((4, 2, 1)):
        v = [*values[row, :length].tolist(), 0.0]
        for t in range(length):
            # horizon n: n rewards, then the critic; what lies beyond the end adds nothing
            horizons = [
                sum(discount**k * rewards[row, t + k].item() for k in range(n)) + discount**n * v[t + n] - v[t]
                for n in range(1, length - t + 1)
            ]
            weights = [(1 - trace) * trace**n for n in range(len(horizons) - 1)] + [trace ** (len(horizons) - 1)]
            assert found[row, t].item() == pytest.approx(np.dot(weights, horizons), abs=1e-12)
    torch.testing.assert_close(learned, (found + values) * MASK, atol=1e-12, rtol=0)
    assert (found[~MASK] == 0).all() and (learned[~MASK] == 0).all()


def of_scores(scores: torch.Tensor, mix: float) -> torch.Tensor:
    return torch.stack([torch.as_tensor(redistribute(own, mix=mix)) for own in scores])


@pytest.mark.parametrize("mix", [1.0, 0.5])
@pytest.mark.parametrize("trace", [0.0, 0.5, 0.95, 1.0])
def test_redistribution_is_an_offset_of_the_critic(mix: float, trace: float) -> None:
    scores, values = drawn(3, 5, 4), drawn(4, 5, 3)
    whole = torch.ones(5, 3, dtype=torch.bool)
    sparse = of_scores(scores, 0.0)
    own = generalised_advantages(of_scores(scores, mix), values, whole, 1.0, trace)[0]
    offset = generalised_advantages(sparse, values + mix * scores[:, :-1], whole, 1.0, trace)[0]
    torch.testing.assert_close(own, offset, atol=1e-12, rtol=0)
    discounted = generalised_advantages(of_scores(scores, mix), values, whole, 0.9, trace)[0]
    other = generalised_advantages(sparse, values + mix * scores[:, :-1], whole, 0.9, trace)[0]
    assert (discounted - other).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("normalised", (1.632993, 0, -0.816497, -0.816497)),
        ("leave_one_out", (2.666667, 0, -1.333333, -1.333333)),
        ("centred", (2, 0, -1, -1)),
        ("none", (3, 1, 0, 0)),
    ],
)
def test_golden_groups(kind: str, expected: tuple[float, ...]) -> None:
    rewards = torch.tensor([3.0, 1, 0, 0], dtype=torch.float64)
    baseline, spread = group_baseline(rewards, torch.zeros(4, dtype=torch.int64), kind)  # type: ignore[arg-type]
    assert ((rewards - baseline) / spread).tolist() == pytest.approx(expected, abs=1e-6)


def test_all_over_the_batch_is_divided_by_one_spread() -> None:
    rewards, groups = torch.tensor([1.0, 3, 10, 30], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    baseline, spread = group_baseline(rewards, groups, "batch")
    left = rewards - baseline
    assert left.tolist() == [-1, 1, -10, 10] and spread.tolist() == pytest.approx([np.sqrt(50.5)] * 4)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1 + 0.2, 1e8, -3.3])
def test_equal_rewards_give_nothing(value: float) -> None:
    rewards = torch.full((5,), value, dtype=torch.float32)
    # rounding is no difference
    rewards[1] = float(np.nextafter(np.float32(value), np.float32(9e9))) if value else 0.0
    for kind in ("normalised", "batch"):
        baseline, spread = group_baseline(rewards, torch.zeros(5, dtype=torch.int64), kind)
        assert ((rewards - baseline) / spread).tolist() == [0.0] * 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(0.1, 10), st.floats(-10, 10))
def test_affine_rewards_leave_normalised_advantages(rewards: list[float], scale: float, shift: float) -> None:
    one = torch.tensor(rewards, dtype=torch.float64)
    if one.std(correction=0) < 1e-2:
        return
    groups = torch.zeros(len(one), dtype=torch.int64)
    sides = []
    for given_rewards in (one, scale * one + shift):
        baseline, spread = group_baseline(given_rewards, groups, "normalised")
        sides.append((given_rewards - baseline) / spread)
    torch.testing.assert_close(*sides, atol=1e-7, rtol=0)


def test_leave_one_out_on_redistributed_rewards_begins_with_that_on_whole_ones() -> None:
    scores, groups = drawn(5, 6, 5), torch.tensor([0, 0, 0, 1, 1, 1])
    scores[:, 0] = torch.tensor([0.3, -2.0], dtype=torch.float64)[groups]  # one prompt, one score
    whole = torch.ones(6, 4, dtype=torch.bool)
    sparse = group_advantages(of_scores(scores, 0.0), whole, groups, "leave_one_out")
    spread = group_advantages(of_scores(scores, 1.0), whole, groups, "leave_one_out")
    torch.testing.assert_close(spread[:, 0], sparse[:, 0], atol=1e-6, rtol=0)
    # further on, what the prefix has earned already is taken off
    torch.testing.assert_close(sparse - spread, scores[:, :-1] - scores[:, :1], atol=1e-6, rtol=0)
    # with one reward at the end every token has the advantage of its response
    assert (sparse == sparse[:, :1]).all()


def test_groups_do_not_see_one_another_or_padding() -> None:
    rewards, groups = drawn(6, 3, 4), torch.tensor([0, 0, 1])
    found = group_advantages(rewards, MASK, groups, "normalised")
    changed = torch.where(MASK, rewards, 99.0)
    changed[2, 0] = -7.0
    other = group_advantages(changed, MASK, groups, "normalised")
    torch.testing.assert_close(found[:2], other[:2], atol=1e-12, rtol=0)
    assert (found[~MASK] == 0).all()


def test_whitening_looks_at_tokens_only() -> None:
    advantages = drawn(7, 3, 4)
    found = whitened(advantages, MASK)[MASK]
    assert found.mean().item() == pytest.approx(0, abs=1e-12) and found.std(correction=0).item() == pytest.approx(1)
    kept = whitened(advantages, MASK, shift=False)[MASK] / advantages[MASK]
    torch.testing.assert_close(kept, kept[:1].expand_as(kept))


def test_large_rewards_of_one_prompt_do_not_make_those_of_another_equal() -> None:
    """What is rounding is judged within a group: millions beside it are no reason to learn nothing."""
    small = torch.tensor([0.0, 0.5, 1.0, 0.5], dtype=torch.float64)
    rewards = torch.cat([small, small * 4e6 + 1e9]).unsqueeze(1)
    mask, groups = torch.ones(8, 1, dtype=torch.bool), torch.arange(8) // 4
    found = group_advantages(rewards, mask, groups, "normalised")
    torch.testing.assert_close(found[:4], group_advantages(rewards[:4], mask[:4], groups[:4], "normalised"))
    assert found[:4].abs().max() >= 0.5
    mean, spread = group_baseline(rewards[:, 0], groups, "normalised")
    assert mean[:4].tolist() == [0.5] * 4 and spread[0].item() == pytest.approx(0.125**0.5)


def test_nearly_equal_rewards_do_not_blow_up_what_tokens_earned() -> None:
    """Prefix scores swing by 2 while whole ones differ by a thousandth: what is divided by must see the swings."""
    scores = torch.tensor([[0.0, 2, 1.000], [0, -1, 1.001], [0, 2, 0.999], [0, -1, 1.0005]], dtype=torch.float64)
    whole, groups = torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, dtype=torch.int64)
    for kind in ("normalised", "batch"):
        found = group_advantages(of_scores(scores, 1.0), whole, groups, kind)
        assert found.abs().max() < 3 and found.square().mean().item() == pytest.approx(1, abs=1e-3)
    # one reward at the end: the published advantages, whatever the lengths
    rewards = torch.zeros(3, 4, dtype=torch.float64)
    rewards[torch.arange(3), torch.tensor([3, 1, 0])] = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    sparse = group_advantages(rewards, MASK, torch.zeros(3, dtype=torch.int64), "normalised")
    totals = np.array([3.0, 1.0, 0.5])
    expected = (totals - totals.mean()) / totals.std()
    assert sparse[:, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert (sparse[0] == sparse[0, 0]).all()
