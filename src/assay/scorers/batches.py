"""Rows of tokens in blocks of similar length under a token budget."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEFAULT_TOKEN_BUDGET = 8192
# Attention grows with the square of length; at this many tokens it costs as much as the rest (d = 384 .. 1024).
QUADRATIC_TOKENS = 4096
#: Token ids of one text.
TokenIds = Sequence[int] | np.ndarray


def text_key(ids: TokenIds) -> bytes:
    """Return 128 bits that tell token ids apart."""
    return hashlib.sha256(np.asarray(ids, np.int32).tobytes()).digest()[:16]


def pad(sequences: Sequence[TokenIds], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad token ids on the right; return ids and attention mask, both ``[N, L]`` int64."""
    longest = max(len(ids) for ids in sequences)
    ids = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def cost(length: np.ndarray | float) -> Any:
    """Return the work of a row, in tokens: linear in its length, and attention."""
    return length * (1.0 + length / QUADRATIC_TOKENS)


def cut(lengths: Sequence[int] | np.ndarray, token_budget: int, overhead_tokens: int = 0) -> list[np.ndarray]:
    """Cut rows, sorted by length, into blocks at the least total cost, none of them over the budget.

    A block is as long as its longest row. Short blocks of rows of one length pad nothing but are many; a long one pads
    much. The best cuts of the rows of the j greatest lengths follow from those of fewer. Rows of several lengths that
    are too many for one block are spread evenly over several, which is not always the cheapest.

    Parameters
    ----------
    lengths
        ``[R]`` tokens of each row.
    token_budget
        Padded tokens of a block; a row that is longer makes a block of its own.
    overhead_tokens
        Fixed cost of a block, as the number of tokens that take as long.

    Returns
    -------
    list of ndarray
        Row numbers of each block, longest first; together they are all rows.
    """
    lengths = np.asarray(lengths, np.int64)
    if not len(lengths):
        return []
    order = np.argsort(-lengths, kind="stable")
    negative, first = np.unique(-lengths[order], return_index=True)
    width = -negative
    bounds = np.append(first, len(order))
    per_block = np.maximum(1, token_budget // np.maximum(width, 1))
    best, start_of = np.zeros(len(width) + 1), np.zeros(len(width) + 1, np.int64)
    for end in range(1, len(width) + 1):
        rows = bounds[end] - bounds[:end]
        total = best[:end] + rows * cost(width[:end]) + overhead_tokens * -(-rows // per_block[:end])
        start_of[end] = total.argmin()
        best[end] = total[start_of[end]]
    blocks: list[np.ndarray] = []
    end = len(width)
    while end:
        start = start_of[end]
        rows = order[bounds[start] : bounds[end]]
        blocks[:0] = np.array_split(rows, -(-len(rows) // per_block[start]))
        end = start
    return blocks
