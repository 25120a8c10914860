"""The pairwise kernel against closed forms, torch's own losses, and its symmetries."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from assay.objectives import pairwise_loss

real = st.floats(-20, 20)
share = st.floats(0, 1)
few = settings(max_examples=60, deadline=None)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def slope(delta: float, **options: Any) -> float:
    d = f64(delta).requires_grad_()
    pairwise_loss(d, **options).backward()
    assert d.grad is not None
    return float(d.grad)


def optimum(**options: Any) -> float:
    """Find the margin where the slope changes sign, by bisection: it rises with the margin."""
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle, **options) < 0 else (low, middle)
    return low


def test_soft_target_with_margin_has_its_optimum_at_margin_plus_logit() -> None:
    best = optimum(target=0.8, margin=0.5)
    assert best == pytest.approx(0.5 + math.log(0.8 / 0.2), abs=1e-9)
    assert best == pytest.approx(1.886294, abs=1e-6)
    assert float(pairwise_loss(f64(best), 0.8, 0.5)) == pytest.approx(entropy(0.8), abs=1e-12)
    assert entropy(0.8) == pytest.approx(0.500402, abs=1e-6)
    assert float(pairwise_loss(f64(1.0), 0.8, 0.5)) == pytest.approx(0.574077, abs=1e-6)
    assert slope(1.0, target=0.8, margin=0.5) == pytest.approx(1 / (1 + math.exp(-0.5)) - 0.8, abs=1e-12)


def test_margin_and_soft_target_of_the_same_gap_count_twice() -> None:
    assert optimum(target=1 / (1 + math.exp(-1.5)), margin=1.5) == pytest.approx(3.0, abs=1e-6)


@few
@given(delta=real, p=share, m=real, w=st.floats(0, 5))
def test_swapping_the_sides_changes_nothing(delta: float, p: float, m: float, w: float) -> None:
    one = pairwise_loss(f64(delta), p, m, w, "sum")
    other = pairwise_loss(f64(-delta), 1 - p, -m, w, "sum")
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@few
@given(delta=real, p=share, q=share)
def test_random_flips_equal_smoothing_in_expectation(delta: float, p: float, q: float) -> None:
    d = f64(delta).requires_grad_()
    flipped = (1 - q) * pairwise_loss(d, p) + q * pairwise_loss(d, 1 - p)
    smoothed = pairwise_loss(d, (1 - q) * p + q * (1 - p))
    torch.testing.assert_close(flipped, smoothed, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(loss, d, retain_graph=True)[0] for loss in (flipped, smoothed)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


@few
@given(delta=real, m=real)
def test_two_judgements_equal_one_share_of_votes(delta: float, m: float) -> None:
    votes = pairwise_loss(f64(delta, delta), f64(1, 0), m, f64(0.3, 0.7))
    torch.testing.assert_close(votes, pairwise_loss(f64(delta), 0.3, m), rtol=1e-12, atol=1e-12)


def test_weight_zero_is_absence() -> None:
    delta, target, weight = f64(0.3, -2.0, 1.1), f64(1, 0.2, 0.7), f64(2.0, 0.0, 0.5)
    kept = torch.tensor([True, False, True])
    without = pairwise_loss(delta[kept], target[kept], 0.0, weight[kept])
    torch.testing.assert_close(pairwise_loss(delta, target, 0.0, weight), without, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_batch_loss_is_the_mean_of_single_losses(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    delta = torch.randn(count, dtype=torch.float64, generator=generator)
    target = torch.rand(count, dtype=torch.float64, generator=generator)
    single = sum(float(pairwise_loss(d.reshape(1), p.reshape(1))) for d, p in zip(delta, target, strict=True)) / count
    assert float(pairwise_loss(delta, target)) == pytest.approx(single, abs=1e-12)


def margins_with_losses(*losses: float) -> torch.Tensor:
    """Invert ``-log sigmoid(d) = loss``."""
    return f64(*(-math.log(math.expm1(loss)) for loss in losses))


def test_reduction_is_by_the_weight_of_the_whole_step() -> None:
    delta, weight = margins_with_losses(0.2, 0.6), f64(1, 3)
    assert float(pairwise_loss(delta, weight=weight)) == pytest.approx(0.5, abs=1e-12)  # (1 * .2 + 3 * .6) / 4
    parts = [pairwise_loss(delta[i : i + 1], weight=weight[i : i + 1], reduction="sum") for i in (0, 1)]
    assert float(sum(parts)) / float(weight.sum()) == pytest.approx(0.5, abs=1e-12)
    means = [float(pairwise_loss(delta[i : i + 1], weight=weight[i : i + 1])) for i in (0, 1)]
    assert sum(means) / 2 == pytest.approx(0.4, abs=1e-12)  # what micro-batch averaging would give


@pytest.mark.parametrize("shape", [(3,), (3, 2), (0,)])
def test_all_weights_zero_give_zero_loss_and_gradient(shape: tuple[int, ...]) -> None:
    delta = torch.full(shape, 2.0, requires_grad=True)
    loss = pairwise_loss(delta, weight=0.0)
    loss.backward()
    assert loss.item() == 0
    assert delta.grad is not None and not delta.grad.any()


def test_weight_multiplies_each_pair_and_not_the_mean() -> None:  # defect 2
    losses = pairwise_loss(margins_with_losses(0.2, 0.6), weight=f64(1, 3), reduction="none")
    torch.testing.assert_close(losses, f64(0.2, 1.8), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("given_dtype", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision_is_never_lowered(given_dtype: torch.dtype, computed: torch.dtype) -> None:
    delta = torch.tensor([0.5, -1.25], dtype=given_dtype)  # exact in every dtype
    loss = pairwise_loss(delta, 0.7, 0.1, 2.0)
    assert loss.dtype == computed
    assert torch.equal(loss, pairwise_loss(delta.to(computed), 0.7, 0.1, 2.0))


@pytest.mark.parametrize("delta", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_extreme_margins_stay_finite(delta: float, target: float, margin: float) -> None:  # defect 1
    z = delta - margin
    expected = (1 - target) * z if z > 0 else -target * z  # the exponentially small rest is below 1e-40
    value = torch.tensor([delta], requires_grad=True)
    loss = pairwise_loss(value, target, margin)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert value.grad is not None
    assert float(value.grad) == pytest.approx((1.0 if z > 0 else 0.0) - target, abs=1e-6)


@few
@given(st.lists(st.tuples(real, share), min_size=1, max_size=6))
def test_agrees_with_torch_binary_cross_entropy(rows: list[tuple[float, float]]) -> None:
    delta, target = (f64(*column) for column in zip(*rows, strict=True))
    expected = F.binary_cross_entropy_with_logits(delta, target)
    torch.testing.assert_close(pairwise_loss(delta, target), expected, rtol=1e-12, atol=1e-12)


def test_without_options_it_is_minus_logsigmoid() -> None:
    delta = f64(-30.0, -0.4, 0.0, 7.0)
    torch.testing.assert_close(pairwise_loss(delta, reduction="none"), -F.logsigmoid(delta), rtol=1e-12, atol=1e-15)


@few
@given(delta=real, p=share, q=share, mix=share)
def test_linear_in_the_target(delta: float, p: float, q: float, mix: float) -> None:
    d = f64(delta)
    mixed = mix * pairwise_loss(d, p) + (1 - mix) * pairwise_loss(d, q)
    torch.testing.assert_close(pairwise_loss(d, mix * p + (1 - mix) * q), mixed, rtol=1e-12, atol=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    delta = f64(-1.3, 0.2, 2.5).requires_grad_()
    target, margin, weight = f64(0.9, 0.4, 0.0), f64(0.1, -0.5, 1.0), f64(1.0, 2.0, 0.3)
    assert torch.autograd.gradcheck(lambda d: pairwise_loss(d, target, margin, weight), (delta,))


def test_members_share_the_settings_of_their_judgement() -> None:
    delta = f64(0.3, -1.0, 2.0, 0.7, 0.1, -0.2).reshape(3, 2)
    target, margin, weight = f64(0.9, 0.2, 0.5), f64(0.0, 0.4, -0.1), f64(1, 2, 3)
    both = pairwise_loss(delta, target, margin, weight, "none")
    for member in range(2):
        alone = pairwise_loss(delta[:, member], target, margin, weight, "none")
        torch.testing.assert_close(both[:, member], alone, rtol=0, atol=0)
    mean = float((both.sum()) / (2 * weight.sum()))
    assert float(pairwise_loss(delta, target, margin, weight)) == pytest.approx(mean, abs=1e-12)


def test_a_weight_per_member_keeps_a_judgement_from_one_of_them() -> None:
    delta = f64(0.3, -1.0, 2.0, 0.7).reshape(2, 2).requires_grad_()
    pairwise_loss(delta, weight=f64(1, 0, 1, 1).reshape(2, 2)).backward()
    assert delta.grad is not None
    assert (delta.grad != 0).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("name", ["target", "margin", "weight"])
@pytest.mark.parametrize(
    ("delta", "setting"),
    [((4,), (4, 1)), ((4,), (4, 4)), ((4,), (3,)), ((4, 2), (2,)), ((4, 2), (4, 3)), ((4, 1), (1, 4))],
)
def test_shapes_that_would_broadcast_the_margins_are_refused(
    name: str, delta: tuple[int, ...], setting: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {name: torch.full(setting, 0.5)}
    with pytest.raises(ValueError, match=rf"{name} has shape"):
        pairwise_loss(torch.zeros(delta), **options)


@pytest.mark.parametrize(
    ("delta", "setting"), [((4,), ()), ((4,), (1,)), ((4, 1), (4,)), ((4, 2), (4,)), ((4, 2), (4, 1)), ((2, 2), (2,))]
)
def test_shapes_with_one_number_per_judgement_fit(delta: tuple[int, ...], setting: tuple[int, ...]) -> None:
    values = torch.arange(1, 1 + math.prod(setting), dtype=torch.float32).reshape(setting)
    losses = pairwise_loss(torch.zeros(delta), weight=values, reduction="none")
    rows = losses.reshape(delta[0], -1) / math.log(2)
    expected = values.reshape(-1).expand(delta[0]) if values.numel() == 1 else values.reshape(-1)
    torch.testing.assert_close(rows, expected.unsqueeze(1).expand_as(rows))


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="'avg'"):
        pairwise_loss(torch.zeros(2), reduction="avg")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gap", "delta", "loss", "gradient"), [(1.5, 0.7, 0.515962, -0.170703), (1.5, 1.65, 0.441504, 0)]
)
def test_margin_matching_is_a_soft_target(gap: float, delta: float, loss: float, gradient: float) -> None:
    p = 1 / (1 + math.exp(-1.1 * gap))
    assert float(pairwise_loss(f64(delta), p)) == pytest.approx(loss, abs=1e-6)
    assert slope(delta, target=p) == pytest.approx(gradient, abs=1e-6)
    assert optimum(target=p) == pytest.approx(1.1 * gap, abs=1e-6)


def test_full_target_is_bradley_terry_bit_for_bit() -> None:
    delta = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 5
    assert torch.equal(pairwise_loss(delta, 1.0, reduction="none"), F.softplus(-delta))
    far = 1 / (1 + math.exp(-1e6 * 1e-3))  # gamma 1e6 at the smallest gap of 1e-3
    torch.testing.assert_close(pairwise_loss(delta, far), pairwise_loss(delta), rtol=0, atol=1e-6)
    assert float(pairwise_loss(f64(0.0), 0.5)) == pytest.approx(math.log(2), abs=1e-12)
