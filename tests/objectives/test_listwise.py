"""List losses against golden values, the pairwise kernel, brute force, and their symmetries."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.objectives import listmle_loss, listnet_loss, pairwise_loss

real = st.floats(-20, 20)
lists = st.integers(2, 6).flatmap(
    lambda k: st.tuples(*[st.lists(real, min_size=k, max_size=k)] * 2)  # scores, grades
)
few = settings(max_examples=60, deadline=None)
BOTH = pytest.mark.parametrize("loss", [listnet_loss, listmle_loss])


def f64(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_equal_grades_have_no_order() -> None:
    scores = f64([0.3, -0.4, 1.2, 0.1]).requires_grad_()
    grades = f64([2.0, 1.0, 1.0, 1.0])
    turned = torch.tensor([0, 3, 1, 2])
    torch.testing.assert_close(listmle_loss(scores, grades), listmle_loss(scores[turned], grades[turned]))
    even = f64([0.0, 0.0, 0.0]).requires_grad_()
    listmle_loss(even, f64([1.0, 1.0, 1.0])).backward()
    assert even.grad is not None
    torch.testing.assert_close(even.grad, torch.zeros(3, dtype=torch.float64))
    first = torch.logsumexp(scores, 0) - scores[0]
    rest = 3 * torch.logsumexp(scores[1:], 0) - scores[1:].sum()
    torch.testing.assert_close(listmle_loss(scores, grades), first + rest)


def test_golden_values() -> None:
    scores, grades = f64([0.5, 0.0, -1.0]), f64([2.0, 1.0, 0.0])
    assert float(listnet_loss(scores, grades)) == pytest.approx(0.861541, abs=1e-6)
    assert float(listnet_loss(grades + 7, grades)) == pytest.approx(0.832396, abs=1e-6)
    assert float(listmle_loss(scores, grades)) == pytest.approx(0.917392, abs=1e-6)


def test_two_responses_are_a_soft_pair() -> None:
    found = float(listnet_loss(f64([0.3, -0.4]), f64([1.2, 0.5])))
    assert found == pytest.approx(0.635455, abs=1e-6)
    assert found == pytest.approx(float(pairwise_loss(f64([0.7]), 1 / (1 + math.exp(-0.7)))), abs=1e-12)


def test_two_responses_in_order_are_a_hard_pair() -> None:
    assert float(listmle_loss(f64([0.3, -0.4]), f64([2.0, 1.0]))) == pytest.approx(
        float(pairwise_loss(f64([0.7]))), abs=1e-12
    )


def test_listmle_is_the_likelihood_of_an_order() -> None:
    scores = f64([0.5, 0.0, -1.0, 2.0])
    total = 0.0
    for order in itertools.permutations(range(4)):
        grades = torch.empty(4, dtype=torch.float64)
        grades[list(order)] = f64([3.0, 2.0, 1.0, 0.0])
        total += math.exp(-float(listmle_loss(scores, grades)))
    assert total == pytest.approx(1.0, abs=1e-12)


@BOTH
@few
@given(pair=lists, shift=real)
def test_offsets_and_order_of_columns_do_not_matter(loss, pair, shift) -> None:  # type: ignore[no-untyped-def]
    scores, grades = (f64(values) for values in pair)
    whole = float(loss(scores, grades))
    assert float(loss(scores + shift, grades)) == pytest.approx(whole, abs=1e-9)
    assert float(loss(scores.flip(0), grades.flip(0))) == pytest.approx(whole, abs=1e-9)
    if loss is listnet_loss:
        assert float(loss(scores, grades + shift)) == pytest.approx(whole, abs=1e-9)


@BOTH
def test_a_mask_is_removal_whatever_stands_there(loss) -> None:  # type: ignore[no-untyped-def]
    scores, grades = f64([[0.5, 9.0, 0.0, -1.0]]), f64([[2.0, math.nan, 1.0, 0.0]])
    short = loss(f64([[0.5, 0.0, -1.0]]), f64([[2.0, 1.0, 0.0]]))
    assert torch.equal(loss(scores, grades), short)
    bad = f64([[0.5, math.inf, 0.0, -1.0]]).requires_grad_()
    mask = torch.tensor([[True, False, True, True]])
    found = loss(bad, torch.nan_to_num(grades), mask)
    assert torch.equal(found.detach(), short)
    found.backward()
    assert bad.grad is not None and torch.isfinite(bad.grad).all() and bad.grad[0, 1] == 0


@BOTH
def test_lists_weigh_what_they_are_given_and_short_ones_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    scores, grades = f64([[0.5, 0.0], [1.0, 3.0], [5.0, 0.0]]), f64([[1.0, 0.0], [0.0, 2.0], [1.0, math.nan]])
    each = loss(scores, grades, reduction="none")
    weights = f64([1.0, 3.0, 8.0])
    assert each[2] == 0
    assert float(loss(scores, grades, weight=weights)) == pytest.approx(float((each[0] + 3 * each[1]) / 4), abs=1e-12)
    assert float(loss(scores[2:], grades[2:])) == 0
    for count in (1, 2):
        mean = loss(scores[:count], grades[:count])
        assert float(mean) == pytest.approx(float(each[:count].mean()), abs=1e-12)


@BOTH
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_scores_stay_finite(loss, size: float) -> None:  # type: ignore[no-untyped-def]
    scores = torch.tensor([[size, -size, 0.0]], requires_grad=True)
    found = loss(scores, torch.tensor([[0.0, 1.0, 2.0]]))
    found.backward()
    assert torch.isfinite(found) and scores.grad is not None and torch.isfinite(scores.grad).all()


@BOTH
def test_half_precision_is_computed_in_float32(loss) -> None:  # type: ignore[no-untyped-def]
    scores, grades = torch.tensor([0.5, -1.0]).bfloat16(), torch.tensor([1.0, 0.0])
    assert loss(scores, grades).dtype == torch.float32
    assert torch.equal(loss(scores, grades), loss(scores.float(), grades))


@BOTH
def test_what_does_not_fit_is_refused(loss) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"one shape.*scores \(2, 3\), grades \(3,\)"):
        loss(torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="weight has shape"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), weight=torch.ones(3))
    with pytest.raises(ValueError, match="reduction is 'median'"):
        loss(torch.zeros(3), torch.zeros(3), reduction="median")
