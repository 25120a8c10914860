"""Terms added to the pairwise loss."""

from __future__ import annotations

import pytest
import torch

from assay.objectives import centring_loss, contrastive_loss, gap_correlation, separation, triplet_loss


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


def test_separation_golden_value_and_range() -> None:
    assert float(separation(torch.tensor([0.0, 1.0, 3.0]))) == pytest.approx(0.569873, abs=1e-6)
    assert float(separation(torch.zeros(4))) == pytest.approx(3 / 8)
    assert float(separation(torch.tensor([0.0, 100.0, 300.0, 900.0]))) == pytest.approx(3 / 4)
    both = torch.tensor([[0.0, 1.0, 3.0], [5.0, 2.0, 4.0]])
    torch.testing.assert_close(separation(both), torch.stack([separation(row) for row in both]))
    torch.testing.assert_close(separation(both), separation(both.flip(-1) + 7))


def test_contrastive_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    second = first + 0.1 * torch.randn(5, 8, generator=generator, dtype=torch.float64)
    assert float(contrastive_loss(first[:1], second[:1])) == 0.0
    expected = 0.0
    for i in range(5):
        near = [torch.cosine_similarity(first[i], second[j], dim=0) / 0.05 for j in range(5)]
        expected -= float(near[i] - torch.logsumexp(torch.stack(near), dim=0)) / 5
    assert float(contrastive_loss(first, second)) == pytest.approx(expected, abs=1e-9)
    assert contrastive_loss(first, second) < contrastive_loss(first, second.flip(0))
    torch.testing.assert_close(contrastive_loss(3 * first, second), contrastive_loss(first, second))
    with pytest.raises(ValueError, match="two views"):
        contrastive_loss(first, second[:3])


def test_the_correlation_with_a_gap() -> None:
    generator = torch.Generator().manual_seed(0)
    margins = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    gap = torch.randn(6, generator=generator, dtype=torch.float64)
    found = gap_correlation(margins, gap)
    both = torch.stack([torch.cat([margins, -margins]), torch.cat([gap, -gap])])
    assert float(found.detach()) == pytest.approx(float(torch.corrcoef(both.detach())[0, 1] ** 2), abs=1e-12)
    turned = torch.tensor([1.0, -1, 1, -1, -1, 1], dtype=torch.float64)
    torch.testing.assert_close(gap_correlation(margins * turned, gap * turned), found)
    torch.testing.assert_close(gap_correlation(3 * margins, 7 * gap), found)
    assert float(gap_correlation(2 * gap, gap)) == pytest.approx(1.0)
    weight = torch.tensor([1.0, 2, 0, 1, 1, 1])
    repeated = torch.tensor([0, 1, 1, 3, 4, 5])
    torch.testing.assert_close(gap_correlation(margins, gap, weight), gap_correlation(margins[repeated], gap[repeated]))
    members = torch.stack([margins, gap], dim=1)
    torch.testing.assert_close(gap_correlation(members, gap), torch.stack([found, torch.ones_like(found)]))


def test_no_margin_has_no_correlation() -> None:
    margins = torch.zeros(4, requires_grad=True)
    found = gap_correlation(margins, torch.ones(4))
    found.backward()
    assert float(found.detach()) == 0 and margins.grad is not None and torch.isfinite(margins.grad).all()


def test_the_triplet_keeps_a_margin() -> None:
    anchor = torch.zeros(4, 1, dtype=torch.float64)
    positive = torch.tensor([[0.2], [0.0], [1.0], [0.3]]).sqrt()
    negative = torch.tensor([[0.5], [1.0], [4.0], [0.3]]).sqrt()
    found = triplet_loss(anchor, positive.double(), negative.double())
    # squared distances of 0.2 and 0.5 give 0.7; apart by the margin or more: nothing; as far as each other: the margin
    torch.testing.assert_close(found, torch.tensor([0.7, 0.0, 0.0, 1.0], dtype=torch.float64))
    wider = triplet_loss(anchor, positive.double(), negative.double(), margin=3.0)
    torch.testing.assert_close(wider, torch.tensor([2.7, 2.0, 0.0, 3.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="three states"):
        triplet_loss(anchor, anchor[:2], anchor)
