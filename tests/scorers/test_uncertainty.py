"""How sure a scorer is: members, a posterior of the last layer, and what of them does not depend on offsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from assay.errors import ModelError
from assay.scorers.head_kinds import make_head
from assay.scorers.laplace import fit_laplace
from assay.scorers.uncertainty import reduced, spread_of_members, spread_of_quantiles

GOLDEN = np.array([1.0, 2.0, 4.0])


def test_golden_reductions() -> None:
    assert reduced(GOLDEN) == pytest.approx(2.333333, abs=1e-6)
    assert GOLDEN.std() == pytest.approx(1.247219, abs=1e-6)
    assert reduced(GOLDEN, "lcb", 1.0) == pytest.approx(1.086114, abs=1e-6)
    assert reduced(GOLDEN, "min") == 1.0


@pytest.mark.parametrize("how", ["mean", "lcb", "min"])
def test_one_member_is_itself(how: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 1))
    assert np.array_equal(reduced(values, how), values[:, 0])  # type: ignore[arg-type]


@given(st.integers(0, 1000), st.floats(0, 5))
def test_laws_of_reductions(seed: int, b: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(4, 6))
    for how in ("mean", "lcb", "min"):
        found = reduced(values, how, b)
        assert np.allclose(found, reduced(rng.permuted(values, axis=1), how, b))
        assert np.allclose(found + 3.0, reduced(values + 3.0, how, b))
        assert (found <= reduced(values) + 1e-12).all()
    assert np.allclose(reduced(values, "lcb", 0.0), reduced(values))
    same = np.repeat(values[:, :1], 3, axis=1)
    assert np.allclose(reduced(same, "lcb", b), reduced(same))


def test_unknown_reductions() -> None:
    with pytest.raises(ValueError, match="mean, lcb or min"):
        reduced(GOLDEN, "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 0"):
        reduced(GOLDEN, "lcb", -1.0)


def test_deviation_of_margins_is_that_of_the_members_and_knows_no_offset() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 4))
    a, b = np.array([0, 2, 5]), np.array([1, 3, 5])
    expected = (values[a] - values[b]).std(axis=1)
    assert np.allclose(spread_of_members(values).of_margins(a, b), expected)
    assert np.allclose(spread_of_members(values + rng.normal(size=4)).of_margins(a, b), expected)
    assert expected[2] == 0


def test_scores_are_seen_against_their_prompt() -> None:
    values = np.random.default_rng(2).normal(size=(5, 3))
    spread, prompt = spread_of_members(values), np.array(["a", "b", "a", "c", "b"])
    found, own = spread.against(prompt, reference=np.ones(3)).vectors, spread.vectors
    assert np.allclose(found[0], (own[0] - own[2]) / 2) and np.allclose(found[0], -found[2])
    assert np.allclose(found[3], own[3] - 1)
    # members that differ by an offset only agree
    offset = spread_of_members(np.array([[1.0, 5.0], [2.0, 6.0]]))
    assert np.allclose(offset.against(np.array([0, 0])).deviations(), 0)


def test_quantiles_give_the_deviation_of_a_normal() -> None:
    levels, sigma = [0.1, 0.3, 0.5, 0.8], np.array([0.5, 2.0])
    values = np.array([1.0, -3.0])[:, None] + sigma[:, None] * norm.ppf(levels)
    spread = spread_of_quantiles(values, levels)
    assert spread.deviations() == pytest.approx(sigma)
    assert spread.of_margins(np.array([0]), np.array([1])) == pytest.approx(np.hypot(*sigma))
    assert spread.against(np.array([7, 7])) is spread
    assert spread_of_quantiles(values[:, ::-1], levels).deviations().tolist() == [0.0, 0.0], "crossed quantiles"


def posterior(precision: float | None = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    basis, weight = rng.normal(size=(40, 4)).astype(np.float32), rng.normal(size=4)
    a, b, w = rng.integers(0, 20, 300), rng.integers(20, 40, 300), rng.uniform(0.2, 2.0, 300)
    laplace = fit_laplace(basis, a, b, weight, w, precision)
    x = basis[a] - basis[b]
    p = expit(x @ weight)
    hessian = (x * (w * p * (1 - p))[:, None]).T @ x
    return laplace.factor @ laplace.factor.T, hessian, np.array([laplace.precision, weight @ weight])


def test_posterior_is_the_inverse_curvature_of_the_loss() -> None:
    covariance, hessian, _ = posterior()
    assert np.allclose(covariance, np.linalg.inv(hessian + 0.7 * np.eye(4)), atol=1e-5)


def test_curvature_is_that_of_the_pairwise_kernel() -> None:
    from assay.objectives import pairwise_loss

    drawn = np.random.default_rng(0)
    x, weight, target = (torch.from_numpy(drawn.random(shape)) for shape in ((30, 3), 3, 30))
    found = torch.autograd.functional.hessian(lambda v: pairwise_loss(x @ v, target, reduction="sum"), weight)
    basis = np.concatenate([x.numpy(), np.zeros((30, 3))])
    laplace = fit_laplace(basis, np.arange(30), np.arange(30, 60), weight.numpy(), np.ones(30), 1.0)
    assert np.allclose(laplace.factor @ laplace.factor.T, np.linalg.inv(found.numpy() + np.eye(3)), atol=1e-5)


def test_precision_by_evidence_is_its_fixed_point() -> None:
    _, hessian, (precision, size) = posterior(None)
    values = np.linalg.eigvalsh(hessian)
    assert precision == pytest.approx((values / (values + precision)).sum() / size, rel=1e-4)


def test_untrained_weights_have_no_evidence() -> None:
    basis = np.eye(4, dtype=np.float32)
    with pytest.raises(ModelError, match="learned nothing"):
        fit_laplace(basis, np.array([0]), np.array([1]), np.zeros(4), np.ones(1))


@pytest.mark.parametrize("kind", ["linear", "mlp", "kernel", "prototypes"])
def test_scores_are_linear_in_the_basis(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    head = make_head(kind, 6, members=2).eval()
    if kind in ("kernel", "prototypes"):
        for member in range(2):
            points = torch.randn(5, 6, generator=generator)
            if kind == "kernel":
                head.begin(member, points, points)  # type: ignore[operator]
            else:
                for row in points:
                    head.add(member, row, 1, [])  # type: ignore[operator]
    with torch.no_grad():
        for parameter in head.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        states = torch.randn(7, 6, generator=generator)
        basis = head.basis(states)
        assert basis is not None
        linear = torch.einsum("nmd,md->nm", basis, head.last_weights())
        assert torch.allclose(linear, head(states), atol=1e-5)
