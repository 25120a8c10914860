"""Rows in blocks: none lost, none over the budget, and no dearer than by any other cuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.scorers.batches import cost, cut
from assay.scorers.layout import Layout
from assay.scorers.trees import Tree

lengths_of_rows = st.lists(st.integers(0, 50), max_size=40)


@settings(max_examples=60, deadline=None)
@given(lengths_of_rows, st.integers(1, 120), st.integers(0, 100))
def test_blocks_hold_every_row_once_under_the_budget(lengths: list[int], budget: int, overhead: int) -> None:
    for layout in (Layout(overhead_tokens=overhead), Layout(packed=True)):
        array = np.array(lengths, np.int64)
        blocks = layout.blocks(array, budget)
        assert sorted(itertools.chain.from_iterable(blocks)) == list(range(len(lengths)))
        for block in blocks:
            assert len(block) == 1 or layout.tokens(array, [block]) <= budget


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=7, unique=True), st.integers(1, 3000), st.integers(0, 300))
def test_cuts_cost_no_more_than_any_others(lengths: list[int], budget: int, overhead: int) -> None:
    def price(blocks: list[list[int]]) -> float:
        total = 0.0
        for block in blocks:
            if len(block) > 1 and len(block) * max(block) > budget:
                return float("inf")
            total += len(block) * cost(max(block)) + overhead
        return total

    ordered = sorted(lengths, reverse=True)
    every = [
        [list(block) for block in np.split(ordered, [p + 1 for p in range(len(ordered) - 1) if code >> p & 1])]
        for code in range(2 ** (len(ordered) - 1))
    ]
    found = [[lengths[row] for row in block] for block in cut(lengths, budget, overhead)]
    # rows of a group that is over the budget are spread evenly, as long as its longest; never dearer than row by row
    assert price(found) <= price([[length] for length in ordered]) + 1e-9
    if len(ordered) * max(ordered) <= budget:
        assert price(found) == pytest.approx(min(map(price, every)))


def test_similar_lengths_share_a_block_and_a_high_overhead_keeps_all_together() -> None:
    lengths = [10, 200, 12, 190, 11, 210]
    assert [sorted(lengths[row] for row in block) for block in cut(lengths, 10**6, 50)] == [
        [190, 200, 210],
        [10, 11, 12],
    ]
    assert len(cut(lengths, 10**6, 10**6)) == 1
    assert cut([], 10) == []


def test_one_block_where_every_rank_must_make_the_same_calls() -> None:
    layout = Layout(at_once=True)
    assert [block.tolist() for block in layout.blocks(np.array([3, 9, 5]), 4)] == [[1, 2, 0]]
    assert layout.tokens(np.array([3, 9, 5]), [np.array([1, 2, 0])]) == 27
    assert layout.blocks(np.zeros(0, np.int64), 4) == []


def test_many_rows_of_one_length_are_spread_evenly() -> None:
    assert [len(block) for block in cut([10] * 7, 30)] == [3, 2, 2]


def test_packed_rows_stand_end_to_end() -> None:
    texts = [np.array([5, 6, 7]), np.array([5, 6, 8, 9]), np.array([4])]
    trees = [Tree(np.array([0, 1]), 2, 5), Tree(np.array([2]), 1, 1)]
    rows, members = Layout(shares=True, packed=True).rows(texts, trees, pad_id=0)
    assert members.tolist() == [0, 1, 2]
    assert rows["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4]]
    assert rows["position_ids"].tolist() == [[0, 1, 2, 2, 3, 0]]
    assert rows["branch"].tolist() == [[0, 0, 1, 2, 2, 0]]
    assert rows["document"].tolist() == [[0, 0, 0, 0, 0, 1]]
    assert rows["ends"].tolist() == [[0, 2], [0, 4], [0, 5]]
