"""No split group on two sides; shares by judgements; the order of rows does not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigError, DataError
from assay.feedback import comparison, edge, folds, from_rows, overlap, split, without_groups


def records(groups: Sequence[str], judgements: Sequence[int] | None = None) -> Dataset:
    counts = judgements or [1] * len(groups)
    return from_rows(
        comparison(f"prompt {i} {group}", ["A", "B"], [edge(0, 1)] * count, split_group=group)
        for i, (group, count) in enumerate(zip(groups, counts, strict=True))
    )


def judged(data: Dataset) -> int:
    return sum(len(edges) for edges in data["edges"])


sizes = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 4)), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None)
@given(sizes, st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_group_is_on_both_sides_and_nothing_is_lost(rows: list[tuple[str, int]], share: float, seed: int) -> None:
    groups, counts = zip(*rows, strict=True)
    data = records(groups, counts)
    if len(set(groups)) < 2:
        with pytest.raises(DataError, match="too few split groups"):
            split(data, share, seed)
        return
    train, test = split(data, share, seed)
    assert not set(train["split_group"]) & set(test["split_group"])
    assert sorted([*train["prompt_id"], *test["prompt_id"]]) == sorted(data["prompt_id"])
    assert len(train) and len(test)


def test_the_share_is_of_judgements() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, size=300).tolist()
    data = records([f"g{i}" for i in range(300)], counts)
    for seed in range(3):
        test = split(data, 0.2, seed)[1]
        assert abs(judged(test) - 0.2 * sum(counts)) <= 3  # at most half of the largest group


def test_a_group_larger_than_the_share_stays_in_training() -> None:
    data = records(["big"] * 50 + [f"g{i}" for i in range(50)])
    for seed in range(5):
        train, test = split(data, 0.2, seed)
        assert "big" in train["split_group"]
        assert len(test) == 20


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    data = records([f"g{i % 40}" for i in range(100)])
    shuffled = data.select(np.random.default_rng(1).permutation(100))
    assert set(split(data)[1]["split_group"]) == set(split(shuffled)[1]["split_group"])
    assert set(split(data, seed=0)[1]["split_group"]) != set(split(data, seed=1)[1]["split_group"])


def test_unlabelled_records_are_split_by_rows() -> None:
    data = records([f"g{i}" for i in range(10)], [0] * 10)
    assert len(split(data, 0.3)[1]) == 3


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_zero_and_one(share: float) -> None:
    with pytest.raises(ConfigError, match="test"):
        split(records("ab"), share)


def test_folds_are_balanced_and_cover_everything_once() -> None:
    data = records([f"g{i % 23}" for i in range(100)])
    parts = folds(data, 5, seed=3)
    assert sorted(p for _, test in parts for p in test["prompt_id"]) == sorted(data["prompt_id"])
    for train, test in parts:
        assert not set(train["split_group"]) & set(test["split_group"])
        assert len(train) + len(test) == 100
        assert 16 <= len(test) <= 24
    assert folds(data, 5, seed=4)[0][1]["prompt_id"] != parts[0][1]["prompt_id"]


def test_more_folds_than_groups() -> None:
    with pytest.raises(DataError, match="3 folds"):
        folds(records("aabb"), 3)
    with pytest.raises(ConfigError, match="k"):
        folds(records("ab"), 1)


def test_overlap_counts_groups_rows_and_judgements() -> None:
    train, test = records("aabbc", [1, 2, 3, 4, 5]), records("bxy", [6, 1, 1])
    found = overlap(train, test)
    assert (found.groups, found.train_rows, found.test_rows) == (1, 2, 1)
    assert (found.train_judgements, found.test_judgements) == (7, 6)
    assert found.examples == ("prompt 2 b", "prompt 3 b")
    kept, removed = without_groups(train, test)
    assert kept["split_group"] == ["a", "a", "c"]
    assert removed == found
    assert not overlap(kept, test)


def test_the_same_prompt_under_another_group_name_is_overlap() -> None:
    train = from_rows([comparison("P", ["A", "B"], [edge(0, 1)], split_group="one")])
    test = from_rows([comparison("P", ["C", "D"], [edge(0, 1)], split_group="two")])
    assert overlap(train, test).groups == 1
    assert len(without_groups(train, test)[0]) == 0
