"""Prototypes: golden values, hulls, limits, and what an empty bank gives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.objectives.prototypes import (
    class_term,
    diversity_loss,
    effective_number,
    imp_threshold,
    mixture_weights,
    spread_of,
    squared_distances,
)

POINTS = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
STATE = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
ALL = torch.ones(3, dtype=torch.bool)


def test_mixture_of_squared_distances() -> None:
    q = mixture_weights(squared_distances(STATE, POINTS, scaled=False), 1.0)
    assert q[0].tolist() == pytest.approx([0.495463, 0.495463, 0.009075], abs=1e-6)
    assert (q @ POINTS)[0].tolist() == pytest.approx([0.990925, 0.018149, 0.0], abs=1e-6)


def test_mixture_of_unsquared_distances() -> None:
    q = mixture_weights(squared_distances(STATE, POINTS, scaled=False).sqrt(), 1.0)
    assert q[0].tolist() == pytest.approx([0.436581, 0.436581, 0.126837], abs=1e-6)
    assert (q @ POINTS)[0].tolist() == pytest.approx([0.873163, 0.253675, 0.0], abs=1e-6)


@pytest.mark.parametrize(("scaled", "expected"), [(False, 4.693147), (True, 2.026481)])
def test_class_term(scaled: bool, expected: float) -> None:
    chosen = torch.tensor([True, True, False])
    distances = squared_distances(STATE, POINTS, scaled=scaled)
    assert class_term(distances, 1.0, chosen, ~chosen).item() == pytest.approx(expected, abs=1e-6)
    assert class_term(distances, 1.0, ~chosen, chosen).item() == pytest.approx(-expected, abs=1e-6)
    assert class_term(distances, 1.0, chosen, torch.zeros(3, dtype=torch.bool)).item() == 0.0
    assert class_term(distances, 1.0, torch.zeros(3, dtype=torch.bool), chosen).item() == 0.0


def test_class_counts_cancel_in_margins() -> None:
    distances = squared_distances(torch.randn(2, 3, dtype=torch.float64), POINTS)
    twice = torch.cat([distances, distances[:, :2]], dim=1)
    chosen, more = torch.tensor([True, True, False]), torch.tensor([True, True, False, True, True])
    once = class_term(distances, 1.0, chosen, ~chosen)
    again = class_term(twice, 1.0, more, ~more)
    assert (once[0] - once[1]).item() == pytest.approx((again[0] - again[1]).item(), abs=1e-12)


def test_diversity() -> None:
    points = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.0, 0.4]], dtype=torch.float64, requires_grad=True)
    loss = diversity_loss(points, ALL, 0.5, scaled=False)
    assert loss.item() == pytest.approx(0.15, abs=1e-12)
    loss.backward()
    assert points.grad is not None
    moved = points.detach() - 0.01 * points.grad
    assert all(torch.pdist(moved)[:2] > torch.pdist(points.detach())[:2])


def test_diversity_is_zero_from_tau_on_and_of_single_points() -> None:
    points = torch.tensor([[0.0, 0.0], [0.5, 0.0], [9.0, 9.0]])
    assert diversity_loss(points, torch.tensor([True, True, False]), 0.5, scaled=False).item() == 0.0
    assert diversity_loss(points, torch.tensor([True, False, False])).item() == 0.0
    assert diversity_loss(points, torch.zeros(3, dtype=torch.bool)).item() == 0.0


def test_diversity_scales_by_the_root_of_the_width_and_skips_other_members() -> None:
    points, active = torch.randn(2, 4, 5, dtype=torch.float64) * 0.3, torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]]) > 0
    both = diversity_loss(points, active, 0.5)
    for member in range(2):
        own = points[member][active[member]] / math.sqrt(5)
        terms = (0.5 - torch.pdist(own)).clamp_min(0)
        assert both[member].item() == pytest.approx((terms.sum() / max(1, int((terms > 0).sum()))).item(), abs=1e-12)


def test_equal_points_have_no_nan_gradient() -> None:
    points = torch.zeros(3, 4, requires_grad=True)
    diversity_loss(points, ALL).backward()
    assert points.grad is not None and torch.equal(points.grad, torch.zeros_like(points))


@pytest.mark.parametrize(("variance", "alpha", "expected"), [(5.0, 0.1, 25.480292), (1.0, 1e-5, 24.933817)])
def test_threshold_of_imp(variance: float, alpha: float, expected: float) -> None:
    spread = spread_of(POINTS, ALL)
    assert spread.item() == pytest.approx(0.888889, abs=1e-6)
    assert imp_threshold(spread, 3, alpha, variance).item() == pytest.approx(expected, abs=1e-6)
    other = -2 * variance * math.log(alpha / (1 + 8 / 9 / variance) ** 1.5)
    assert imp_threshold(spread, 3, alpha, variance).item() == pytest.approx(other, abs=1e-9)


def test_spread_looks_at_active_points_and_is_zero_below_two() -> None:
    assert spread_of(POINTS, torch.tensor([False, True, False])).item() == 0.0
    assert spread_of(POINTS, torch.zeros(3, dtype=torch.bool)).item() == 0.0
    padded = torch.cat([POINTS, torch.full((1, 3), 9.0, dtype=torch.float64)])
    assert spread_of(padded, torch.tensor([True, True, True, False])).item() == pytest.approx(8 / 9)


@given(st.integers(0, 10_000), st.floats(0.0, 50.0))
def test_weights_are_a_distribution_and_the_mixture_lies_in_the_hull(seed: int, kappa: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    usable = torch.rand(2, 5, generator=generator) < 0.7
    usable[:, 0] = True
    states = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    q = mixture_weights(squared_distances(states, points), kappa, usable)
    assert (q >= 0).all() and torch.allclose(q.sum(-1), torch.ones(4, 2, dtype=torch.float64))
    assert (q[:, ~usable] == 0).all()
    assert (effective_number(q) <= usable.sum(-1).double() + 1e-9).all() and (effective_number(q) >= 1 - 1e-9).all()
    mixed = torch.einsum("nmk,mkd->nmd", q, points)
    # in the hull: along no direction beyond the farthest point
    direction = torch.randn(3, generator=generator, dtype=torch.float64)
    reach = (points @ direction).masked_fill(~usable, -math.inf).max(dim=-1).values
    assert ((mixed @ direction) <= reach + 1e-9).all()
    order = torch.randperm(5, generator=generator)
    again = mixture_weights(squared_distances(states, points[:, order]), kappa, usable[:, order])
    assert torch.allclose(again, q[..., order], atol=1e-12)


def test_limits_of_kappa() -> None:
    distances = squared_distances(torch.tensor([[1.1, 0.0, 0.0]]), POINTS.float())
    assert mixture_weights(distances, 0.0)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert mixture_weights(distances, 1e6)[0].tolist() == pytest.approx([0, 1, 0])


def test_distances_equal_the_plain_formula() -> None:
    states, points = torch.randn(4, 7, dtype=torch.float64), torch.randn(2, 3, 7, dtype=torch.float64)
    plain = (states[:, None, None] - points).square().mean(-1)
    assert torch.allclose(squared_distances(states, points), plain, atol=1e-12)
    assert squared_distances(states.half(), points.half()).dtype == torch.float32


def test_an_empty_bank_gives_zero_weights_and_zero_gradients() -> None:
    distances = torch.rand(2, 3, requires_grad=True)
    q = mixture_weights(distances, 2.0, torch.zeros(3, dtype=torch.bool))
    q.sum().backward()
    assert (q == 0).all() and distances.grad is not None and (distances.grad == 0).all()
    assert (effective_number(q) == 0).all()
