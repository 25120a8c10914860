"""The order of tasks: what learning one does to those before it."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from assay.evaluation.transfer import backward_transfer, best_order, order_value


def test_transfer_is_what_learning_one_did_to_another() -> None:
    before = {"a": 0.5, "b": 0.4}
    after = {"a": {"a": 0.9, "b": 0.1}, "b": {"a": 0.6, "b": 0.8}}
    found = backward_transfer(["a", "b"], before, after)
    np.testing.assert_allclose(found, [[0.4, 0.1], [-0.3, 0.4]])
    # learning a harms b, and learning b helps a: a comes first
    assert best_order(found) == [0, 1]
    assert order_value(found, [0, 1]) == pytest.approx(0.1) and order_value(found, [1, 0]) == pytest.approx(-0.3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_order_is_that_of_brute_force(count: int) -> None:
    for seed in range(20):
        transfer = np.random.default_rng((count, seed)).normal(size=(count, count))
        best = max(permutations(range(count)), key=lambda order: order_value(transfer, order))
        assert best_order(transfer) == list(best)


def test_without_transfer_all_orders_are_equal() -> None:
    transfer = np.diag([0.1, 0.2, 0.3])
    assert {order_value(transfer, order) for order in permutations(range(3))} == {0.0}
    assert best_order(transfer) == [0, 1, 2]


@pytest.mark.parametrize("transfer", [np.zeros((2, 3)), np.full((2, 2), np.nan), np.zeros((13, 13))])
def test_what_is_no_transfer(transfer: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"shape|tasks"):
        best_order(transfer)
