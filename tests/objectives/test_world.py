"""A world of one prompt and three responses, solved exactly: where each way of learning from rewards comes to rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from assay.objectives.advantages import group_baseline
from assay.objectives.surrogates import divergence, log_ratio_regression

BETA = 0.5
REFERENCE, REWARD = (torch.tensor(v, dtype=torch.float64) for v in ((0.5, 0.3, 0.2), (1.0, 0.0, -1.0)))
OPTIMUM = REFERENCE * (REWARD / BETA).exp() / (REFERENCE * (REWARD / BETA).exp()).sum()
#: Of k3 as a loss: solves pi = beta pi_ref / (c - r).
OF_K3 = (0.840848, 0.115623, 0.043529)


def gradient(policy: torch.Tensor, rewards: torch.Tensor, loss: str | None = None) -> torch.Tensor:
    """Return the expected policy gradient in the logits; samples are weighed by what the policy says, detached."""
    logits = policy.log().clone().requires_grad_()
    said = logits.log_softmax(0)
    ratio = said - REFERENCE.log()
    objective = policy * said * rewards
    if loss is not None:
        objective = objective - BETA * policy * divergence(ratio, loss)  # type: ignore[arg-type]
    (found,) = torch.autograd.grad(objective.sum(), logits)
    return found


def with_k1(policy: torch.Tensor) -> torch.Tensor:
    return REWARD - BETA * divergence((policy / REFERENCE).log(), "k1")


def test_the_optimum() -> None:
    assert OPTIMUM.tolist() == pytest.approx([0.918672, 0.074597, 0.006730], abs=1e-6)
    value = (OPTIMUM * REWARD).sum() - BETA * (OPTIMUM * (OPTIMUM / REFERENCE).log()).sum()
    assert value.item() == pytest.approx(0.695839, abs=1e-6)


def test_the_divergence_in_the_reward_and_k2_as_a_loss_have_the_right_optimum() -> None:
    assert gradient(OPTIMUM, with_k1(OPTIMUM)).abs().max() < 1e-12
    assert gradient(OPTIMUM, REWARD, "k2").abs().max() < 1e-12
    assert gradient(REFERENCE, with_k1(REFERENCE)).abs().max() > 0.1


def test_k3_as_a_loss_has_another_one() -> None:
    assert gradient(OPTIMUM, REWARD, "k3").tolist() == pytest.approx([-0.128440, 0.044673, 0.083767], abs=1e-5)
    other = torch.tensor(OF_K3, dtype=torch.float64)
    assert gradient(other, REWARD, "k3").abs().max() < 1e-5


def climbed(step: Callable[[torch.Tensor], torch.Tensor], rate: float = 1.0, steps: int = 4000) -> torch.Tensor:
    logits = REFERENCE.log().clone()
    for _ in range(steps):
        logits = logits + rate * step(logits.softmax(0))
    return logits.softmax(0)


def test_exact_ascent_reaches_the_optimum() -> None:
    found = climbed(lambda policy: gradient(policy, with_k1(policy)))
    torch.testing.assert_close(found, OPTIMUM, atol=1e-6, rtol=0)


def test_division_by_the_spread_of_rewards_has_no_optimum_inside() -> None:
    def step(policy: torch.Tensor) -> torch.Tensor:
        mean = (policy * REWARD).sum()
        spread = (policy * (REWARD - mean).square()).sum().sqrt()
        return gradient(policy, (REWARD - mean) / spread, "k2")

    found = climbed(step, rate=0.1, steps=20000)
    assert found[0] > 0.995  # the best response takes all; undivided it would take 0.919


def test_a_baseline_of_the_others_leaves_the_expected_gradient() -> None:
    """All groups of two samples, each weighed by its probability."""
    policy = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    found = torch.zeros(3, dtype=torch.float64)
    for one in range(3):
        for other in range(3):
            rewards = REWARD[[one, other]]
            baseline, _ = group_baseline(rewards, torch.zeros(2, dtype=torch.int64), "leave_one_out")
            for own, advantage in zip((one, other), (rewards - baseline).tolist(), strict=True):
                score = torch.eye(3, dtype=torch.float64)[own] - policy
                found += policy[one] * policy[other] * advantage * score / 2
    torch.testing.assert_close(found, gradient(policy, REWARD), atol=1e-12, rtol=0)


@pytest.mark.parametrize("normalised", [True, False])
def test_one_fit_of_log_ratios_needs_the_normaliser(normalised: bool) -> None:
    """GPO with S = r, samples weighed by the reference (identity 21)."""
    log_z = (REFERENCE * (REWARD / BETA).exp()).sum().log()
    strength = REWARD - (BETA * log_z if normalised else 0.0)
    logits = REFERENCE.log().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        ratio = (logits.log_softmax(0) - REFERENCE.log()).unsqueeze(1)
        loss = (REFERENCE * log_ratio_regression(ratio, strength, torch.ones(3, 1, dtype=torch.bool), BETA)).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    expected = OPTIMUM.tolist() if normalised else [0.802638, 0.173229, 0.024133]
    assert logits.softmax(0).tolist() == pytest.approx(expected, abs=1e-5)
