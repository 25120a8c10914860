"""Margin matching: golden values, limits, transforms, what is refused and what is warned about."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import logit

from assay.errors import DataError
from assay.evaluation import calibration_error
from assay.feedback.targets import (
    TargetWarning,
    margin_targets,
    target_summary,
    transformed,
    warn_of_extremes,
)
from assay.objectives import pairwise_loss


@pytest.mark.parametrize(
    ("gamma", "gap", "delta", "p", "loss", "slope"),
    [
        (1.1, 1.5, 0.7, 0.838891, 0.515962, -0.170703),
        (2.2, 0.25, -0.4, 0.634136, 0.766669, -0.232823),
        (0.3, 0.0, 0.7, 0.5, 0.753186, 0.168188),
        (1.1, 1.5, 1.65, 0.838891, 0.441504, 0.0),
    ],
)
def test_golden_values(gamma: float, gap: float, delta: float, p: float, loss: float, slope: float) -> None:
    target = margin_targets(gap, gamma)
    assert float(target) == pytest.approx(p, abs=1e-6)
    d = torch.tensor([delta], dtype=torch.float64, requires_grad=True)
    found = pairwise_loss(d, float(target))
    found.backward()
    assert d.grad is not None
    assert float(found.detach()) == pytest.approx(loss, abs=1e-6)
    assert float(d.grad) == pytest.approx(slope, abs=1e-6)


def test_without_gamma_it_is_plain_bradley_terry_to_the_bit() -> None:
    gaps = np.array([0.3, -2.0, 0.0])
    np.testing.assert_array_equal(margin_targets(gaps, None), [1.0, 0.0, 0.5])
    delta = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for target in (torch.from_numpy(margin_targets(np.full(len(delta), 0.3), None)), None):
        one = delta.detach().clone().requires_grad_()
        loss = pairwise_loss(one) if target is None else pairwise_loss(one, target.to(one.dtype))
        found.append((loss.detach(), torch.autograd.grad(loss, one)[0]))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_limits_of_gamma() -> None:
    gaps = np.array([1e-3, 5.0, -1e-3])
    assert np.abs(margin_targets(gaps, 1e6) - [1, 1, 0]).max() < 1e-6
    with pytest.warns(TargetWarning, match="nothing is learned"):
        np.testing.assert_array_equal(margin_targets(gaps, 0.0), 0.5)
    with pytest.raises(DataError, match="gamma must be"):
        margin_targets(gaps, -1.0)
    with pytest.raises(DataError, match="gamma must be"):
        margin_targets(gaps, math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(margin_targets(np.array([1e4, -1e4]), 1.0)).all()


@pytest.mark.parametrize("transform", ["identity", "log1p", "rank"])
def test_transforms_are_odd_and_rising(transform: str) -> None:
    gaps = np.array([-3.0, -1.0, 0.0, 0.5, 1.0, 7.0])
    found = transformed(gaps, transform)  # type: ignore[arg-type]
    np.testing.assert_allclose(transformed(-gaps, transform), -found)  # type: ignore[arg-type]
    assert (np.diff(found) > 0).all() and found[2] == 0
    # naming the responses in the other order changes no loss
    p, q = margin_targets(gaps, 1.1, transform), margin_targets(-gaps, 1.1, transform)  # type: ignore[arg-type]
    np.testing.assert_allclose(p, 1 - q, atol=1e-15)


def test_values_of_transforms() -> None:
    np.testing.assert_allclose(transformed(np.array([math.e - 1, -3.0]), "log1p"), [1, -math.log(4)])
    np.testing.assert_allclose(
        transformed(np.array([5.0, -1.0, 0.0, 1.0, 900.0]), "rank"), [0.625, -0.25, 0, 0.25, 0.875]
    )
    np.testing.assert_allclose(transformed(np.array([2.0, -9.0]), lambda g: np.clip(g, -3, 3)), [2, -3])
    with pytest.raises(DataError, match="no such transform"):
        transformed(np.ones(2), "sqrt")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        (["good", "bad"], "grades must be numbers"),
        ([1.0, None], "not a finite number"),
        ([1.0, math.inf, math.nan], "judgement 1 and 1 more"),
    ],
)
def test_gaps_that_are_no_numbers_are_refused(gaps: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        margin_targets(gaps, 1.1)  # type: ignore[arg-type]


def test_saturated_and_flat_targets_are_warned_about_with_figures() -> None:
    gaps = np.array([1.0, 2.0, -3.0, 0.0])
    for gamma, message in ((9.0, "75% of the targets beyond 0.99"), (0.01, "100% of the targets within 0.05")):
        summary = target_summary(margin_targets(gaps, gamma), gamma * gaps)
        with pytest.warns(TargetWarning, match=message):
            warn_of_extremes(summary, gamma)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = target_summary(margin_targets(gaps, 0.8), 0.8 * gaps)
        warn_of_extremes(summary, 0.8)
    assert summary["tied"] == 0.25 and summary["quantiles"]["max"] == pytest.approx(2.4)


def test_a_free_margin_tends_to_gamma_times_the_gap_and_under_plain_labels_without_end() -> None:
    gaps = np.array([0.5, -1.0, 2.0])
    found = []
    for gamma in (1.1, None):
        target = torch.tensor(margin_targets(gaps, gamma))
        delta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([delta], max_iter=200, line_search_fn="strong_wolfe")

        def closure(target: torch.Tensor = target, delta: torch.Tensor = delta) -> torch.Tensor:
            delta.grad = None
            loss = pairwise_loss(delta, target)
            loss.backward()
            return loss

        optimizer.step(closure)
        found.append(delta.detach().numpy())
    np.testing.assert_allclose(found[0], 1.1 * gaps, atol=1e-4)
    np.testing.assert_allclose(logit(margin_targets(gaps, 1.1)), 1.1 * gaps, atol=1e-12)
    assert (np.abs(found[1]) > 8).all()


def test_the_planted_gamma_is_the_best_calibrated_one() -> None:
    """Labels drawn with gamma 1.1: below it a predictor is under-confident, above it over-confident."""
    random = np.random.default_rng(0)
    gaps = random.normal(scale=2.0, size=20_000)
    labels = random.random(len(gaps)) < margin_targets(gaps, 1.1)

    def nll(gamma: float) -> float:
        p = margin_targets(gaps, gamma)
        return -float(np.log(np.where(labels, p, 1 - p)).mean())

    grid = [0.3, 0.6, 1.1, 1.6, 2.2, 5.0]
    errors = [calibration_error(gamma * gaps, labels.astype(float)).value for gamma in grid]
    for losses in ([nll(gamma) for gamma in grid], errors):
        assert grid[int(np.argmin(losses))] == 1.1
        assert losses == sorted(losses[:3], reverse=True) + sorted(losses[3:])
    sure = [np.abs(margin_targets(gaps, gamma) - 0.5).mean() + 0.5 for gamma in grid]
    right = (labels == (gaps > 0)).mean()
    assert all(confidence < right for confidence in sure[:2]) and all(confidence > right for confidence in sure[3:])
