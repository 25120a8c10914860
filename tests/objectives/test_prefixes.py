"""Margins after every token of two replies."""

from __future__ import annotations

import pytest
import torch

from assay.objectives.prefixes import prefix_margins

VALUES = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, 5.0])  # replies of 3, 2 and 1 tokens
COUNTS = torch.tensor([3, 2, 1])


def test_margins_begin_where_replies_part_and_end_with_the_whole_ones() -> None:
    edges, parted = torch.tensor([[0, 1], [1, 0], [2, 1], [0, 2]]), torch.tensor([1, 0, 0, 2])
    margins, there = prefix_margins(VALUES, COUNTS, edges, parted)
    assert there.tolist() == [[True, True, False], [True, True, True], [True, True, False], [True, False, False]]
    assert margins.tolist() == [[2 - 20, 3 - 20, 0], [10 - 1, 20 - 2, 20 - 3], [5 - 10, 5 - 20, 0], [3 - 5, 0, 0]]


def test_members_are_margins_of_their_own() -> None:
    edges, parted = torch.tensor([[0, 1]]), torch.tensor([0])
    both = torch.stack([VALUES, -2 * VALUES], dim=1)
    margins, there = prefix_margins(both, COUNTS, edges, parted)
    alone, _ = prefix_margins(VALUES, COUNTS, edges, parted)
    assert margins.shape == (1, 3, 2) and there.shape == (1, 3)
    torch.testing.assert_close(margins[..., 0], alone)
    torch.testing.assert_close(margins[..., 1], -2 * alone)


def test_gradients_reach_the_tokens_that_are_compared() -> None:
    values = VALUES.clone().requires_grad_()
    margins, _ = prefix_margins(values, COUNTS, torch.tensor([[0, 1]]), torch.tensor([1]))
    margins.sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0, 1, 1, 0, -2, 0]


def test_nothing_to_compare() -> None:
    margins, there = prefix_margins(
        VALUES, COUNTS, torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    )
    assert margins.shape == there.shape == (0, 0)
    with pytest.raises(IndexError):
        prefix_margins(VALUES, COUNTS, torch.tensor([[0, 9]]), torch.tensor([0]))
