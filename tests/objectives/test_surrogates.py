"""Clipping, estimates of divergence, the critic's loss and averages over tokens."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from assay.objectives.surrogates import (
    Average,
    Divergence,
    clipped_surrogate,
    divergence,
    log_ratio_regression,
    over_tokens,
    sequence_log_ratio,
    value_loss,
)

MASK = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_golden_decoupled_clip() -> None:
    ratio = f64(1.5, 0.7, 1.5).requires_grad_()
    found, clipped = clipped_surrogate(ratio.log(), f64(1, -1, -1), 0.2, 0.4)
    found.sum().backward()
    assert found.tolist() == pytest.approx([1.4, -0.8, -1.5], abs=1e-12)
    assert ratio.grad is not None and ratio.grad.tolist() == pytest.approx([0, 0, -1], abs=1e-12)
    assert clipped.tolist() == [True, True, False]


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_gradient_is_0_only_where_the_ratio_has_gone_too_far(advantage: float) -> None:
    ratio = torch.linspace(0.05, 3, 60, dtype=torch.float64).requires_grad_()
    found, clipped = clipped_surrogate(ratio.log(), torch.full_like(ratio, advantage), 0.2, 0.3)
    found.sum().backward()
    far = ratio > 1.3 if advantage > 0 else ratio < 0.8
    assert ratio.grad is not None
    assert torch.equal(ratio.grad == 0, far) and torch.equal(clipped, far)


def test_a_ratio_beyond_all_numbers_is_held() -> None:
    log_ratio = torch.tensor([30.0, 200.0, -200.0, 200.0]).requires_grad_()
    found, clipped = clipped_surrogate(log_ratio, torch.tensor([1.0, -1.0, 1.0, 0.0]))
    found.sum().backward()
    assert log_ratio.grad is not None and torch.isfinite(found).all() and torch.isfinite(log_ratio.grad).all()
    assert found[0].item() == pytest.approx(1.2) and found[1] < -1e8 and found[3] == 0
    assert clipped.tolist() == [True, False, False, False]


def test_a_divergence_of_what_a_policy_never_says_is_held() -> None:
    log_ratio = torch.tensor([-200.0, 200.0]).requires_grad_()
    found = divergence(log_ratio, "k3")
    found.sum().backward()
    assert log_ratio.grad is not None and torch.isfinite(found).all() and torch.isfinite(log_ratio.grad).all()


def test_one_epsilon_is_the_published_formula() -> None:
    log_ratio, advantages = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    found = clipped_surrogate(log_ratio, advantages, 0.2, 0.2)[0]
    ratio = log_ratio.exp()
    expected = [min(r * a, min(max(r, 0.8), 1.2) * a) for r, a in zip(ratio.tolist(), advantages.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (1.0, 0.2), (0.2, -0.1)])
def test_epsilons_out_of_range_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low < 1"):
        clipped_surrogate(f64(0), f64(1), low, high)


def test_golden_divergences() -> None:
    policy, reference = f64(0.5, 0.3, 0.2), f64(0.4, 0.4, 0.2)
    ratio = (policy / reference).log()
    exact = float((policy * ratio).sum())
    found = {kind: float((policy * divergence(ratio, kind)).sum()) for kind in get_args(Divergence)}
    assert exact == pytest.approx(0.025267, abs=1e-6)
    assert found["k1"] == pytest.approx(exact, abs=1e-12) and found["k3"] == pytest.approx(exact, abs=1e-12)
    assert found["k2"] == pytest.approx(0.024862, abs=1e-6)
    # the ratio turned round estimates another quantity
    assert float((policy * divergence(-ratio, "k3")).sum()) == pytest.approx(0.024733, abs=1e-6)
    assert (divergence(torch.linspace(-5, 5, 101), "k3") >= 0).all()


def test_small_divergences_keep_their_digits() -> None:
    assert divergence(torch.tensor([1e-4]), "k3").item() == pytest.approx(0.5e-8, rel=0.1)


def test_a_sequence_has_one_ratio_and_gradients_of_its_own_tokens() -> None:
    log_ratio = torch.tensor([[0.2, -0.1, 0.5], [0.3, 9.0, 9.0]], dtype=torch.float64).requires_grad_()
    found = sequence_log_ratio(log_ratio, MASK)
    assert found[0].tolist() == pytest.approx([0.2] * 3, abs=1e-12) and found[1, 0].item() == pytest.approx(0.3)
    advantage = f64(1.5, -1.0).unsqueeze(1).expand(2, 3)
    loss = over_tokens(clipped_surrogate(found, advantage, 0.9, 9.0)[0], MASK, "sequences").sum()
    (own,) = torch.autograd.grad(loss, log_ratio)
    # the published form: the ratio of the sequence times its advantage
    mean = (log_ratio * MASK).sum(1) / MASK.sum(1)
    (published,) = torch.autograd.grad((mean.exp() * f64(1.5, -1.0)).sum(), log_ratio)
    torch.testing.assert_close(own, published, atol=1e-12, rtol=0)


def test_the_critic_may_not_gain_by_running_away() -> None:
    values, former, returns = f64(0.0, 0.5, 2.0, -1.0), f64(0, 0, 0, 0), f64(1, 1, 1, 1)
    assert value_loss(values, former, returns, None).tolist() == pytest.approx([0.5, 0.125, 0.5, 2.0])
    # 2.0 would be as wrong as 0; cut at 0.2 it counts as 0.8 off, and 1.0 is worse
    assert value_loss(values, former, returns, 0.2).tolist() == pytest.approx([0.5, 0.32, 0.5, 2.0])


def test_regression_is_stationary_where_it_says() -> None:
    log_ratio = torch.tensor([[0.5, -0.2, 0.7], [-2.0, 0, 0]], dtype=torch.float64).requires_grad_()
    loss = log_ratio_regression(log_ratio, f64(0.5, -1.0), MASK, beta=0.5)
    assert loss.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
    assert gradient.abs().max() == 0
    start = torch.zeros(2, 3, dtype=torch.float64)
    assert log_ratio_regression(start, f64(0, 0), MASK, beta=0.5).tolist() == [0, 0]
    with pytest.raises(ValueError, match="above 0"):
        log_ratio_regression(start, f64(0, 0), MASK, beta=0)


def test_averages_over_tokens() -> None:
    losses = torch.tensor([[1.0, 2, 3], [4, 99, 99]])
    found = {kind: over_tokens(losses, MASK, kind, 8).tolist() for kind in get_args(Average)}
    assert found == {"tokens": [6, 4], "sequences": [2, 4], "length": [0.75, 0.5]}
    with pytest.raises(ValueError, match="length with the longest"):
        over_tokens(losses, MASK, "length")


def test_half_precision_is_computed_in_float32() -> None:
    half = torch.tensor([0.1], dtype=torch.bfloat16)
    assert clipped_surrogate(half, torch.ones(1))[0].dtype == divergence(half, "k3").dtype == torch.float32
    assert math.isfinite(divergence(torch.tensor([-30.0], dtype=torch.float16), "k3").item())
