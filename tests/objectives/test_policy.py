"""Losses of the DPO family against closed forms, an exact world, and TRL's formulas."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from assay.objectives import pairwise_loss
from assay.objectives.policy import (
    Kernel,
    clipped_references,
    edit_weights,
    harmonic_reference,
    kahneman_tversky_loss,
    log_odds,
    margin_loss,
)

KERNELS = get_args(Kernel)
BETA, REFERENCE, REWARD = 0.5, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([1.0, 0.0, -1.0])
#: pi proportional to pi_ref exp(r / beta) in the world of one prompt and three responses.
OPTIMUM = [0.918672, 0.074597, 0.006730]


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_golden_values() -> None:
    # log-ratios 2 and -1, beta 0.1
    delta = f64(0.3).requires_grad_()
    loss = margin_loss("logistic", delta)
    loss.backward()
    assert loss.item() == pytest.approx(0.554355, abs=1e-6)
    assert delta.grad is not None and 0.1 * delta.grad.item() == pytest.approx(-0.042556, abs=1e-6)
    assert margin_loss("squared", f64(0.3), beta=0.1).item() == pytest.approx(4.0, abs=1e-12)
    assert margin_loss("hinge", f64(0.3)).item() == pytest.approx(0.7, abs=1e-12)


def test_at_the_reference() -> None:
    ratios = f64(0.0, 0.0).requires_grad_()
    loss = margin_loss("logistic", 0.3 * (ratios[0] - ratios[1]).reshape(1))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)
    assert ratios.grad is not None and ratios.grad[0].item() == pytest.approx(-0.15, abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_hard_verdicts_give_the_published_forms(kernel: Kernel) -> None:
    beta, ratio = 0.2, torch.linspace(-9, 9, 19, dtype=torch.float64)
    published = {
        "logistic": -functional.logsigmoid(beta * ratio),
        "squared": (ratio - 1 / (2 * beta)) ** 2,
        "hinge": torch.relu(1 - beta * ratio),
    }
    found = margin_loss(kernel, beta * ratio, beta=beta, reduction="none")
    torch.testing.assert_close(found, published[kernel], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_doubtful_verdict_is_the_expectation_and_a_swap_changes_nothing(kernel: Kernel) -> None:
    delta, p, m, w = f64(-2, 0.4, 3), f64(0.9, 0.5, 0.2), f64(0.1, 0, -0.3), f64(1, 2, 0.5)
    found = margin_loss(kernel, delta, p, m, w, "none", beta=0.7)
    sides = [margin_loss(kernel, delta, hard, m, w, "none", beta=0.7) for hard in (1.0, 0.0)]
    torch.testing.assert_close(found, p * sides[0] + (1 - p) * sides[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(found, margin_loss(kernel, -delta, 1 - p, -m, w, "none", beta=0.7), atol=1e-12, rtol=0)
    whole = margin_loss(kernel, delta, p, m, w, beta=0.7)
    torch.testing.assert_close(whole, found.sum() / w.sum(), atol=1e-12, rtol=0)


def test_the_squared_kernel_is_least_where_it_says() -> None:
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    for p in (0.0, 0.3, 0.5, 1.0):
        found = grid[margin_loss("squared", grid, p, reduction="none", beta=0.1).argmin()].item()
        assert found == pytest.approx(p - 0.5, abs=1e-3)


def test_the_logistic_kernel_is_the_one_kernel_bit_for_bit() -> None:
    delta, p = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.rand(50)
    assert torch.equal(margin_loss("logistic", delta, p, beta=0.1), pairwise_loss(delta, p))


def exact_world(steps: int, targets: torch.Tensor) -> torch.Tensor:
    """Learn a softmax over three responses from all pairs with given targets; return it."""
    logits = REFERENCE.log().clone().requires_grad_()
    a, b = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    learner = torch.optim.LBFGS([logits], max_iter=steps, tolerance_grad=1e-14, tolerance_change=1e-16)

    def closure() -> torch.Tensor:
        learner.zero_grad()
        ratio = BETA * (logits.log_softmax(0) - REFERENCE.log())
        loss = margin_loss("logistic", ratio[a] - ratio[b], targets)
        loss.backward()
        return loss

    learner.step(closure)
    return logits.detach().softmax(0)


def test_exact_preferences_lead_to_the_optimum_of_the_regularised_reward() -> None:
    a, b = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    exact = torch.sigmoid((REWARD[a] - REWARD[b]).double())
    found = exact_world(500, exact)
    assert found.tolist() == pytest.approx(OPTIMUM, abs=1e-6)
    # the log of the sum that normalises it
    weight = REFERENCE * torch.exp(REWARD.double() / BETA)
    assert weight.sum().log().item() == pytest.approx(1.391679, abs=1e-6)
    # at the optimum, implicit margins are reward margins and every gradient is 0
    ratio = (BETA * (weight / weight.sum() / REFERENCE).log()).requires_grad_()
    margins = ratio[a] - ratio[b]
    torch.testing.assert_close(margins.detach(), (REWARD[a] - REWARD[b]).double(), atol=1e-12, rtol=0)
    margin_loss("logistic", margins, exact).backward()
    assert ratio.grad is not None and ratio.grad.abs().max() < 1e-12


def test_margin_matching_on_rewards_as_grades_is_the_same_optimum() -> None:
    from assay.feedback import margin_targets

    gaps = np.array([1.0, 2.0, 1.0])
    found = exact_world(500, torch.from_numpy(margin_targets(gaps, 1.0)))
    assert found.tolist() == pytest.approx(OPTIMUM, abs=1e-6)


def test_single_verdicts() -> None:
    s, z = f64(0.4, -1.2), f64(0.3)
    found = kahneman_tversky_loss(s, f64(1, 0), z, reduction="none")
    torch.testing.assert_close(found, torch.stack([1 - torch.sigmoid(s[0] - z[0]), 1 - torch.sigmoid(z[0] - s[1])]))
    # nothing is learned through the reference point
    zero = f64(0.3).requires_grad_()
    kahneman_tversky_loss(s.requires_grad_(), f64(1, 0), zero).backward()
    assert zero.grad is None and s.grad is not None and s.grad[0] < 0 < s.grad[1]


def test_log_odds_at_both_ends() -> None:
    probabilities = f64(1e-12, 0.2, 0.5, 0.9, 1 - 1e-5)
    expected = torch.log(probabilities) - torch.log1p(-probabilities)
    torch.testing.assert_close(log_odds(probabilities.log()), expected, atol=1e-9, rtol=1e-9)
    certain = f64(0.0).requires_grad_()
    log_odds(certain).backward()
    assert log_odds(certain).isfinite().all() and certain.grad is not None and certain.grad.isfinite().all()


def test_a_mixture_of_references() -> None:
    weights, given = f64(0.3, 0.7), torch.tensor([[0.2], [0.6]], dtype=torch.float64).log()
    assert harmonic_reference(given, weights).exp().item() == pytest.approx(0.375, abs=1e-12)
    # weights the other way round are the released ones
    assert harmonic_reference(given, weights.flip(0)).exp().item() == pytest.approx(0.25, abs=1e-12)
    equal = f64(-3.0, -8.0).expand(2, 2)
    torch.testing.assert_close(harmonic_reference(equal, weights), equal[0], atol=1e-12, rtol=0)
    assert harmonic_reference(given[:1], f64(1.0)).item() == pytest.approx(given[0].item(), abs=1e-12)
    flipped = harmonic_reference(given.flip(0), weights.flip(0))
    torch.testing.assert_close(harmonic_reference(given, weights), flipped, atol=1e-12, rtol=0)
    assert given.min() <= harmonic_reference(given, weights) <= given.max()
    # a reference that counts for nothing does no harm
    assert harmonic_reference(given, f64(0.0, 1.0)).exp().item() == pytest.approx(0.6, abs=1e-12)


def test_weights_of_edited_tokens() -> None:
    said = f64(0.1, 0.5, 0.9).log().requires_grad_()
    everywhere = torch.ones(3, dtype=torch.bool)
    assert edit_weights(said, everywhere, 3.0).tolist() == pytest.approx([4, 3, 2.111111], abs=1e-6)
    assert not edit_weights(said, everywhere, 3.0).requires_grad
    assert edit_weights(said, everywhere, 0.0).tolist() == [1, 1, 1]
    assert edit_weights(said, ~everywhere, 3.0).tolist() == [1, 1, 1]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="beta is 0"):
        margin_loss("logistic", f64(1.0), beta=0)
    with pytest.raises(ValueError, match="unknown kernel 'cubic'"):
        margin_loss("cubic", f64(1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delta is -1"):
        edit_weights(f64(-1.0), torch.ones(1, dtype=torch.bool), -1)
    with pytest.raises(ValueError, match="target has shape"):
        margin_loss("hinge", f64(1.0, 2.0), f64(1.0, 1.0, 1.0))


def test_further_references_stay_near_the_first() -> None:
    given = torch.stack([f64(-20, -30), f64(-26, -24)])
    owners = torch.tensor([0, 0])
    found = clipped_references(given, owners, 0.1)
    torch.testing.assert_close(found, torch.stack([f64(-20, -30), f64(-20.92, -28.38)]), rtol=0, atol=1e-12)
    # the base alone where nothing may stray: DPO
    still = clipped_references(given, owners, 0.0)
    assert torch.equal(still, given[:1].expand(2, 2))
    for weights in (f64(0.3, 0.7), f64(1.0, 0.0)):
        torch.testing.assert_close(harmonic_reference(still, weights), given[0], rtol=0, atol=1e-12)
    # each prompt by itself, in any order
    two = clipped_references(torch.cat([given, given * 3], dim=1)[:, [0, 2, 1, 3]], torch.tensor([0, 1, 0, 1]), 0.1)
    torch.testing.assert_close(two[:, [0, 2]], found, rtol=0, atol=1e-12)
    torch.testing.assert_close(two[:, [1, 3]], 3 * found, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="eta is -1"):
        clipped_references(given, owners, -1)
