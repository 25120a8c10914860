"""Terms added to the pairwise loss."""

from __future__ import annotations

import pytest
import torch

from assay.objectives import centring_loss


def test_centring_is_the_weighted_sum_of_squares() -> None:
    a, b = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    assert float(centring_loss(a, b)) == pytest.approx(1.5**2 + 1.0**2)
    assert float(centring_loss(a, b, torch.tensor([2.0, 0.0]))) == pytest.approx(2 * 1.5**2)


def test_centring_pulls_the_sum_and_leaves_the_difference() -> None:
    a, b = torch.tensor([1.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    centring_loss(a, b).backward()
    assert a.grad is not None and b.grad is not None
    assert float(a.grad) == float(b.grad) == pytest.approx(2 * 1.5)


def test_centring_of_members_uses_the_weight_of_their_judgement() -> None:
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [-3.0, 0.0]])
    assert float(centring_loss(a, b, torch.tensor([1.0, 2.0]))) == pytest.approx(1 + 9 + 2 * (0 + 16))


def test_centring_keeps_double_precision_and_raises_half() -> None:
    fine = torch.tensor([1e-12], dtype=torch.float64)
    assert float(centring_loss(fine + 1, -torch.ones(1, dtype=torch.float64))) == pytest.approx(1e-24, rel=1e-3)
    assert (
        centring_loss(torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    )


@pytest.mark.parametrize("weight", [(3, 1), (2,), (3, 3)])
def test_centring_refuses_a_weight_that_would_broadcast_the_scores(weight: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weight has shape"):
        centring_loss(torch.zeros(3), torch.zeros(3), torch.ones(weight))


def test_centring_refuses_sides_of_different_shape() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        centring_loss(torch.zeros(3), torch.zeros(3, 1))
