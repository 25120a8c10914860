"""The laws of the edge algebra, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DataError
from assay.feedback import Pairs, comparison, edge, from_rows, pairs
from assay.feedback import algebra as al
from assay.feedback.changes import change, with_pairs
from assay.objectives import pairwise_loss

few = settings(max_examples=40, deadline=None)
share = st.floats(0, 1)
edges = st.lists(
    st.tuples(share, st.floats(-3, 3), st.floats(0, 5), st.sampled_from([(0, 1), (1, 0), (0, 2), (2, 1)])),
    min_size=1,
    max_size=8,
)


def data(rows: Any = ((0.9, 0.0, 1.0, (0, 1)), (0.5, 0.0, 2.0, (2, 1)))) -> Dataset:
    judged = [edge(a, b, p=p, m=m, w=w) for p, m, w, (a, b) in rows]
    return from_rows([comparison("Q", ["one", "two", "three"], judged), comparison("R", ["x", "yy"], [edge(1, 0)])])


def losses(given: Pairs, scores: tuple[float, ...] = (0.7, -0.4, 1.3)) -> tuple[float, float]:
    """Return the summed loss and its gradient in the scores of the first record, as one number each."""
    s = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    mine = given.take(given.row == 0)
    p, m, w = (torch.from_numpy(getattr(mine, name)) for name in ("p", "m", "w"))
    loss = pairwise_loss(s[mine.a] - s[mine.b], p, m, w, reduction="sum")
    loss.backward()
    assert s.grad is not None
    return float(loss.detach()), float((s.grad * torch.tensor([1.0, 2.0, 4.0])).sum())


def same(one: Pairs, other: Pairs) -> None:
    for name in ("row", "a", "b", "p", "m", "w", "length_a", "length_b"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-12)


@few
@given(rows=edges, e1=share, e2=share, seed=st.integers(0, 9))
def test_laws(rows: Any, e1: float, e2: float, seed: int) -> None:
    view = pairs(data(rows))
    some = np.random.default_rng(seed).random(len(view)) < 0.5
    assert losses(al.swap(view, some)) == pytest.approx(losses(view), abs=1e-9)
    same(al.swap(al.swap(view, some), some), view)
    same(al.flip(al.flip(view, some), some), view)
    np.testing.assert_array_equal(al.flip(view, some).m, view.m)
    twice = al.smooth(al.smooth(view, e1), e2)
    np.testing.assert_allclose(twice.p, al.smooth(view, e1 + e2 - 2 * e1 * e2).p, atol=1e-12)
    same(al.smooth(al.swap(view, some), e1), al.swap(al.smooth(view, e1), some))
    same(al.smooth(al.flip(view, some), e1), al.flip(al.smooth(view, e1), some))
    same(al.scale_w(al.scale_w(view, e1), e2), al.scale_w(view, e1 * e2))
    same(al.set_p(al.set_p(view, e1, "x"), e2, "y"), al.set_p(view, e2, "y"))
    kept, dropped = al.drop(view, some), al.drop(view, ~some)
    assert sorted([*kept.id, *dropped.id]) == sorted(view.id)
    assert losses(al.scale_w(view, 0.0, some)) == pytest.approx(losses(kept), abs=1e-9)
    assert losses(al.append(kept, dropped)) == pytest.approx(losses(view), abs=1e-9)
    assert losses(al.merged(view)) == pytest.approx(losses(view), abs=1e-9)


def test_golden_smoothing() -> None:
    view = pairs(data())
    assert al.smooth(al.smooth(view, 0.1), 0.2).p[0] == pytest.approx(0.692, abs=1e-12)


def test_random_flips_are_smoothing_in_expectation() -> None:
    """Exactly, over the two outcomes of one flip."""
    view = pairs(data([(0.9, 0.3, 2.0, (0, 1))]))
    q = 0.17
    expected = [(1 - q) * x + q * y for x, y in zip(losses(view), losses(al.flip(view)), strict=True)]
    assert losses(al.smooth(view, q)) == pytest.approx(expected, abs=1e-12)
    many = view.take(np.zeros(20_000, np.int64))
    assert float((al.flip_some(many, q, seed=0).p < 0.5).mean()) == pytest.approx(q, abs=0.01)
    np.testing.assert_array_equal(al.flip_some(many, q, seed=0).p, al.flip_some(many, q, seed=0).p)


def test_repeated_judgements_merge_exactly_and_others_do_not() -> None:
    rows = [(1.0, 0.0, 0.3, (0, 1)), (1.0, 0.0, 0.7, (1, 0)), (1.0, 0.5, 1.0, (0, 1)), (1.0, 0.0, 1.0, (0, 2))]
    view = pairs(data(rows))
    found = al.merged(view)
    assert list(zip(found.row, found.a, found.b, strict=True)) == [(0, 0, 1), (0, 0, 1), (0, 0, 2), (1, 1, 0)]
    np.testing.assert_allclose(found.p, [0.3, 1, 1, 1])
    np.testing.assert_allclose(found.m, [0, 0.5, 0, 0])
    np.testing.assert_allclose(found.w, [1, 1, 1, 1])
    assert losses(found) == pytest.approx(losses(view), abs=1e-12)


def test_the_prior_constraint_halves_its_bound() -> None:
    """PCRM: whichever response is named first, the best margin of the preferred one is D0 / 2."""
    for ends, p in (((0, 1), 1.0), ((1, 0), 1.0), ((0, 1), 0.0)):
        view = pairs(data([(p, 0.0, 1.0, ends)]))
        found = al.reversed_copy(view, np.full(len(view), 4.0), "similarity")
        preferred = ends[0] if p == 1.0 else ends[1]
        at = {preferred: 2.0, 1 - preferred: 0.0}
        loss, _ = losses(found, (at[0], at[1], 0.0))
        assert loss / 2 == pytest.approx(0.253856 / 2, abs=1e-6)
        assert abs(losses(found, (at[0], at[1], 0.0))[1]) < 1e-12
    far = al.reversed_copy(view, np.full(len(view), 1e4), "similarity")
    assert losses(far) == pytest.approx(losses(view), abs=1e-6)
    tied = pairs(data([(0.5, 0.0, 1.0, (0, 1))]))
    assert len(al.reversed_copy(tied, np.full(len(tied), 4.0), "similarity")) == len(tied) + 1  # of the other record


def test_one_gap_counts_once() -> None:
    view = pairs(data())
    p = 1 / (1 + np.exp(-1.5))
    soft = al.set_p(view, p, "grades")
    with pytest.raises(DataError, match=r"one gap would count twice") as caught:
        al.set_m(soft, 1.5, "grades")
    assert "m + logit(p) = 3" in str(caught.value)
    with pytest.raises(DataError, match="count twice"):
        al.set_p(al.set_m(view, 1.5, "grades"), p, "grades")
    with pytest.warns(al.DoubleCountingWarning, match="= 3"):
        assert (al.set_m(soft, 1.5, "grades", twice=True).m == 1.5).all()
    al.set_m(soft, 1.5, "strength")  # of another signal
    al.set_m(al.set_p(view, 1.0, "grades"), 1.5, "grades")  # a hard label is no gap
    al.set_m(soft, 0.0, "grades")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: al.smooth(v, 1.1), "smoothing is a share"),
        (lambda v: al.set_p(v, np.nan, "x"), "a target is a probability"),
        (lambda v: al.set_m(v, np.inf, "x"), "a margin is a finite number"),
        (lambda v: al.scale_w(v, -1.0), "weight factor"),
        (lambda v: al.flip_some(v, 2.0, 0), "share is out of range"),
    ],
)
def test_impossible_values_are_refused(call: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call(pairs(data()))


def test_every_change_is_told() -> None:
    view = pairs(data([(0.9, 0.0, 1.0, (0, 1)), (0.3, 1.0, 1.0, (2, 1))]))
    one = np.array([True, False, False])
    counts = {
        "swap": (al.swap(view, one), (0, 0, 0, 0)),
        "flip": (al.flip(view, one), (1, 0, 0, 1)),
        "flip and swap": (al.swap(al.flip(view, one)), (1, 0, 0, 1)),
        "smooth": (al.smooth(view, 0.1), (3, 0, 0, 0)),
        "weight": (al.scale_w(view, 2.0, one), (1, 0, 0, 0)),
        "drop": (al.drop(view, one), (0, 1, 0, 0)),
        "append": (al.append(view, view.take(one)), (0, 0, 1, 0)),
        "replace": (al.append(al.drop(view, one), view.take(one)), (0, 1, 1, 0)),
    }
    for name, (after, expected) in counts.items():
        found = change(name, view, after)
        assert (found.changed, found.dropped, found.appended, found.turned) == expected, name
    assert change("flip", view, counts["flip"][0]).line() == "flip: of 3 judgements 1 changed, 1 turned round"


def test_ids_are_never_given_twice() -> None:
    view = pairs(data())
    last = np.arange(len(view)) == len(view) - 1
    found = change("replace", view, al.append(al.drop(view, last), al.smooth(view, 0.1).take(last)))
    assert (found.changed, found.dropped, found.appended) == (0, 1, 1)


def test_changed_judgements_go_back_into_the_records() -> None:
    records = data()
    view = pairs(records)
    changed = al.append(al.drop(al.smooth(view, 0.1), np.array([1])), view.take(np.array([2])))
    written = with_pairs(records, changed)
    assert written.features == records.features and written.column_names == records.column_names
    again = pairs(written)
    assert [len(row["edges"]) for row in written] == [1, 2]
    order = np.argsort(changed.row, kind="stable")
    for name in ("row", "a", "b", "p", "m", "w", "source", "group", "length_a"):
        np.testing.assert_array_equal(getattr(again, name), getattr(changed, name)[order])
    assert written[0]["edges"][0]["annotator"] is None and written[0]["edges"][0]["round"] is None
    same(pairs(with_pairs(records, view)), view)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("p", 1.2, "impossible p"),
        ("w", -1, "impossible w"),
        ("a", 7, "not there"),
        ("a", -1, "not there"),
        ("a", 1, "not"),
    ],
)
def test_impossible_judgements_are_not_written(name: str, value: float, message: str) -> None:
    from dataclasses import replace

    view = pairs(data())
    bad = getattr(view, name).copy()
    bad[1] = value
    with pytest.raises(DataError, match=message):
        with_pairs(data(), replace(view, **{name: bad}))
