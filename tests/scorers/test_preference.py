"""GPM's head: skew, Bradley-Terry as a case, circles that no score expresses, and scores from a comparison set."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.objectives import pairwise_loss
from assay.scorers.heads import LinearHead
from assay.scorers.preference import PreferenceHead, areas, cyclic_share, native_margins

CIRCLE = torch.tensor(
    [[math.cos(a), math.sin(a)] for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)], dtype=torch.float64
)


def drawn(width: int = 5, **options: object) -> PreferenceHead:
    head = PreferenceHead(width, 2, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return head


def states(count: int, width: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def all_edges(count: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(count), torch.arange(count))


def test_bradley_terry_is_a_case() -> None:
    one = torch.tensor([[1.3, 1.0], [0.4, 1.0]], dtype=torch.float64)
    assert areas(one[0], one[1]).item() == pytest.approx(0.9, abs=1e-12)
    rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    assert (one[1] @ (rotation @ one[0])).item() == pytest.approx(0.9)
    assert (one[0] @ rotation @ one[1]).item() == pytest.approx(-0.9), "the other way to write it has the other sign"


def test_unit_vectors_make_a_circle() -> None:
    found = [areas(CIRCLE[i], CIRCLE[(i + 1) % 3]).item() for i in range(3)]
    assert found == pytest.approx([0.866025] * 3, abs=1e-6)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("scales", [False, True])
def test_margins_are_skew(unit: bool, scales: bool) -> None:
    head, h, edges = drawn(unit=unit, scales=scales, tau=0.5), states(4), all_edges(4)
    # responses of one prompt share its state
    prompts = states(1, seed=2).expand(4, -1) if scales else None
    found = head.margins(h, edges, prompts).reshape(4, 4, 2)
    assert torch.allclose(found, -found.transpose(0, 1), atol=1e-6)
    assert found.diagonal(dim1=0, dim2=1).abs().max() < 1e-7
    evidence = head.evidence(h, prompts).detach().numpy()
    again = native_margins(evidence[edges[:, 0]], evidence[edges[:, 1]])
    assert np.allclose(again, found.detach().reshape(16, 2).numpy(), atol=1e-5)


def test_it_starts_as_bradley_terry() -> None:
    head, plain, h = PreferenceHead(5), LinearHead(5, normalise=True), states(6)
    edges = torch.tensor([[0, 1], [2, 3], [4, 5]])
    margins = head.margins(h, edges, h)
    loss = pairwise_loss(margins[:, 0])
    # the other blocks begin a little off, so that they can differ
    assert loss.item() == pytest.approx(math.log(2), abs=0.05)
    loss.backward()
    pairwise_loss((plain(h)[edges[:, 0]] - plain(h)[edges[:, 1]])[:, 0]).backward()
    assert head.weight.grad is not None and plain.weight.grad is not None
    assert torch.allclose(head.weight.grad[0, 0, 0], plain.weight.grad[0], atol=0.05)


def test_one_block_with_a_constant_is_bradley_terry() -> None:
    head, plain, h = PreferenceHead(5, blocks=1, scales=False), LinearHead(5, normalise=True), states(6)
    with torch.no_grad():
        plain.weight.copy_(states(1, seed=5))
        head.weight[0, 0, 0] = plain.weight[0]
    edges = all_edges(6)
    scores = plain(h)[:, 0]
    assert torch.allclose(head.margins(h, edges)[:, 0], scores[edges[:, 0]] - scores[edges[:, 1]], atol=1e-5)


def test_scores_are_mean_margins_over_the_comparison_set() -> None:
    head, h, others = drawn(scales=False), states(3), states(7, seed=4)
    assert (head(h) == 0).all()
    head.compare_with(others)
    both = torch.cat([h, others])
    edges = torch.cartesian_prod(torch.arange(3), torch.arange(3, 10))
    mean = head.margins(both, edges).reshape(3, 7, 2).mean(dim=1)
    assert torch.allclose(head(h), mean, atol=1e-5)


def test_planted_circles_are_learned_by_embeddings_and_by_no_score() -> None:
    """Responses of three kinds, each of which beats the next; a score is right in two of three pairs at best."""
    generator = torch.Generator().manual_seed(3)
    kind = torch.randint(0, 3, (1200,), generator=generator)
    h = torch.nn.functional.one_hot(kind, 3).float() + 0.1 * torch.randn(1200, 3, generator=generator)
    a, b = torch.arange(600), torch.arange(600, 1200)
    differ = kind[a] != kind[b]
    edges = torch.stack([a, b], dim=1)[differ]
    target = ((kind[edges[:, 1]] - kind[edges[:, 0]]) % 3 == 1).float()
    learn, test = slice(0, 200), slice(200, None)
    results = {}
    for name, head in (("gpm", PreferenceHead(3, scales=False, normalise=False)), ("linear", LinearHead(3))):
        optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
        for step in range(301):
            margins = (
                head.margins(h, edges)[:, 0]
                if isinstance(head, PreferenceHead)
                else (head(h)[edges[:, 0]] - head(h)[edges[:, 1]])[:, 0]
            )
            if step == 300:
                break
            optimiser.zero_grad()
            pairwise_loss(margins[learn], target[learn]).backward()
            optimiser.step()
        right = ((margins[test] > 0) == (target[test] > 0.5)).float().mean().item()
        results[name] = right, pairwise_loss(margins[test], target[test]).item()
    assert results["gpm"][0] > 0.95
    assert results["linear"][0] <= 2 / 3 + 0.05 and results["linear"][1] >= math.log(2) - 0.01


def test_share_of_circles() -> None:
    circle = areas(CIRCLE[:, None], CIRCLE[None]).numpy()
    assert cyclic_share(circle) == 1.0
    scores = np.array([3.0, 1.0, 2.0, 0.0])
    assert cyclic_share(scores[:, None] - scores) == 0.0
    assert math.isnan(cyclic_share(circle[:2, :2]))
    four = np.zeros((4, 4))
    four[:3, :3] = circle
    four[3, :3], four[:3, 3] = -1, 1
    assert cyclic_share(four) == 0.25
