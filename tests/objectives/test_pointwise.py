"""Verdicts on single responses, regression, and clipped margins."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.objectives import clipped_margins, pairwise_loss, pointwise_loss, quantile_loss, regression_loss


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_single_verdicts_are_binary_cross_entropy() -> None:
    scores, target = f64(0.3, -2.0, 40.0), f64(1.0, 0.25, 0.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, target)
    torch.testing.assert_close(pointwise_loss(scores, target), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(pointwise_loss(scores + 3, target, threshold=3.0), expected, rtol=0, atol=1e-12)


def test_two_verdicts_on_one_scale_pull_apart() -> None:
    """With a good and a bad response the threshold cancels where both are equally far from it."""
    good, bad = f64(0.8), f64(-0.8)
    both = pointwise_loss(torch.cat([good, bad]), f64(1.0, 0.0), reduction="sum")
    assert float(both) == pytest.approx(2 * float(pairwise_loss(f64(0.8))), abs=1e-12)


def test_regression_leaves_missing_grades_out_of_loss_and_gradient() -> None:
    scores = f64(1.0, 5.0, -1.0).requires_grad_()
    loss = regression_loss(scores, f64(2.0, math.nan, 1.0), weight=f64(1.0, 9.0, 3.0))
    assert float(loss.detach()) == pytest.approx((1 + 3 * 4) / 4, abs=1e-12)
    loss.backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, f64(-0.5, 0.0, -3.0))
    assert float(regression_loss(f64(1.0), f64(math.nan))) == 0


def test_regression_of_several_dimensions() -> None:
    scores, grades = torch.ones(2, 3), torch.tensor([[1.0, 2.0, math.nan], [math.nan, math.nan, 4.0]])
    assert float(regression_loss(scores, grades)) == pytest.approx((0 + 1 + 9) / 3)
    assert float(regression_loss(scores, grades, weight=torch.tensor([1.0, 0.0]))) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="expected the same"):
        regression_loss(scores, grades[:, 0])


numbers = st.lists(st.tuples(st.floats(-20, 20), st.floats(-5, 5), st.floats(0.1, 3)), min_size=1, max_size=6).map(
    lambda rows: f64(*[value for row in rows for value in row]).reshape(-1, 3).unbind(dim=1)
)


@pytest.mark.parametrize("loss", [regression_loss, pointwise_loss])
@settings(max_examples=40, deadline=None)
@given(columns=numbers)
def test_weights_repeat_and_order_does_not_matter(loss, columns) -> None:  # type: ignore[no-untyped-def]
    scores, grades, weight = columns
    target = torch.sigmoid(grades) if loss is pointwise_loss else grades
    whole = loss(scores, target, weight=weight, reduction="sum")
    doubled = loss(scores.repeat(2), target.repeat(2), weight=(weight / 2).repeat(2), reduction="sum")
    assert float(doubled) == pytest.approx(float(whole), rel=1e-9, abs=1e-12)
    turned = loss(scores.flip(0), target.flip(0), weight=weight.flip(0), reduction="sum")
    assert float(turned) == pytest.approx(float(whole), rel=1e-9, abs=1e-12)
    rows = zip(scores, target, weight, strict=True)
    single = sum(float(loss(s[None], t[None], weight=w[None], reduction="sum")) for s, t, w in rows)
    assert single == pytest.approx(float(whole), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(columns=numbers, limit=st.floats(0.1, 25))
def test_clipping_keeps_the_sign_and_what_lies_within(columns, limit) -> None:  # type: ignore[no-untyped-def]
    a, b, _ = columns
    found = clipped_margins(a, b, limit)
    torch.testing.assert_close(found, -clipped_margins(b, a, limit), rtol=0, atol=0)
    assert bool((found.abs() <= 2 * limit).all()) and bool((found * (a - b) >= 0).all())
    within = (a.abs() <= limit) & (b.abs() <= limit)
    assert torch.equal(found[within], (a - b)[within])


@pytest.mark.parametrize("loss", [regression_loss, pointwise_loss])
def test_gradients_agree_with_differences(loss) -> None:  # type: ignore[no-untyped-def]
    scores = f64(0.4, -1.7, 3.0).requires_grad_()
    target, weight = f64(0.2, 0.9, 0.5), f64(1.0, 0.5, 2.0)
    assert torch.autograd.gradcheck(lambda s: loss(s, target, weight=weight), (scores,))


def test_clipped_margins() -> None:
    a, b = f64(1.5).requires_grad_(), f64(-0.4).requires_grad_()
    loss = pairwise_loss(clipped_margins(a, b, 1.0))
    assert float(loss.detach()) == pytest.approx(0.220417, abs=1e-6)
    assert float(pairwise_loss(a - b).detach()) == pytest.approx(0.139387, abs=1e-6)
    loss.backward()
    assert a.grad is not None and b.grad is not None
    assert float(a.grad) == 0 and float(b.grad) > 0
    assert torch.equal(clipped_margins(a, b, math.inf), a - b)
    with pytest.raises(ValueError, match="limit is 0"):
        clipped_margins(a, b, 0)


def test_quantiles_are_where_the_pinball_loss_is_least() -> None:
    grades = f64(*range(11))
    places = torch.linspace(-1, 11, 1201, dtype=torch.float64)
    for level, expected in ((0.1, 1.0), (0.5, 5.0), (0.85, 9.0)):
        losses = torch.stack([quantile_loss(place.expand_as(grades), grades, level) for place in places])
        assert float(places[losses.argmin()]) == pytest.approx(expected, abs=0.02)
    # the median is that of the absolute error, and levels mirror each other
    scores = f64(0.3, -2.0, 4.0, 7.5, 1.0, 0.0, 2.0, 3.0, 9.0, 11.0, 5.0)
    half = quantile_loss(scores, grades, 0.5)
    torch.testing.assert_close(half, (grades - scores).abs().mean() / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(quantile_loss(scores, grades, 0.3), quantile_loss(-scores, -grades, 0.7))


def test_quantiles_per_member_and_missing_grades() -> None:
    scores, grades = torch.zeros(2, 3), torch.tensor([[1.0, -1.0, math.nan]]).expand(2, -1)
    levels = torch.tensor([[0.1], [0.9]])
    found = quantile_loss(scores, grades, levels, reduction="none")
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.9, 0.0], [0.9, 0.1, 0.0]]))
    assert quantile_loss(scores.half(), grades.half(), 0.5).dtype == torch.float32
    with pytest.raises(ValueError, match="expected the same"):
        quantile_loss(torch.zeros(2), torch.zeros(3), 0.5)
