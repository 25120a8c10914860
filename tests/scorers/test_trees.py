"""Prefix trees: who sees whom, and which texts share a row, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.scorers.batches import cost
from assay.scorers.interface import Rows
from assay.scorers.masks import visible
from assay.scorers.trees import grow, lay_out


def random_texts(draw: np.random.Generator, count: int, letters: int = 3) -> list[np.ndarray]:
    return [
        np.concatenate([draw.integers(0, 2, draw.integers(0, 4)), draw.integers(0, letters, draw.integers(1, 6))])
        for _ in range(count)
    ]


def test_every_text_sees_itself_and_nothing_else() -> None:
    draw = np.random.default_rng(0)
    for count in [1, 2, 3, 8] * 25:
        texts = random_texts(draw, count)
        trees = grow(texts)
        assert sorted(np.concatenate([tree.members for tree in trees])) == list(range(count))
        laid = lay_out(texts, trees, pad_id=9)
        rows = Rows(branch=torch.from_numpy(laid["branch"]), position_ids=torch.from_numpy(laid["position_ids"]))
        mask = visible(rows)[:, 0].numpy()
        assert [tree.length for tree in trees] == (laid["branch"] >= 0).sum(axis=1).tolist()
        assert (laid["input_ids"][laid["branch"] < 0] == 9).all()
        for member, (row, column) in zip(np.concatenate([t.members for t in trees]), laid["ends"], strict=True):
            seen = mask[row, column]
            assert laid["input_ids"][row][seen].tolist() == texts[member].tolist()
            assert laid["position_ids"][row][seen].tolist() == list(range(len(texts[member])))


def test_grouping_costs_least() -> None:
    """Against every way to cut the sorted texts into runs."""
    draw = np.random.default_rng(1)
    for _ in range(40):
        texts = random_texts(draw, 6, letters=2)
        ordered = sorted(tuple(map(int, text)) for text in texts)

        def price(run: list[tuple[int, ...]]) -> float:
            distinct = sorted(set(run))
            trunk = 0
            while all(len(text) > trunk for text in distinct) and len({text[trunk] for text in distinct}) == 1:
                trunk += 1
            return cost(trunk + sum(len(text) - trunk for text in distinct))

        best = min(
            sum(price(ordered[i:j]) for i, j in zip([0, *cuts], [*cuts, 6], strict=True))
            for code in range(32)
            for cuts in [[place + 1 for place in range(5) if code >> place & 1]]
        )
        assert sum(cost(tree.length) for tree in grow(texts)) == pytest.approx(best)


def test_many_texts_share_a_trunk() -> None:
    texts = [np.array([7] * 100 + [number, 8]) for number in range(70)]
    assert len(grow(texts)) == 2


def test_equal_texts_are_computed_once_and_long_trees_are_cut() -> None:
    text = np.arange(10)
    assert grow([text, text, text])[0].length == 10
    branches = [np.concatenate([text, [20 + i] * 5]) for i in range(4)]
    assert [tree.length for tree in grow(branches)] == [30]
    assert all(tree.length <= 20 for tree in grow(branches, longest=20))
    assert [tree.length for tree in grow([np.arange(50)], longest=20)] == [50]  # one text is never cut
    assert grow([]) == []
