"""Padded batches: texts sorted by length and cut under a token budget."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

DEFAULT_TOKEN_BUDGET = 8192
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


def under_budget(lengths: Sequence[int] | np.ndarray, token_budget: int) -> Iterator[np.ndarray]:
    """Cut items, sorted by length, into batches whose padded size stays under ``token_budget`` tokens.

    An item longer than the budget makes a batch of its own. Yields arrays of item indices; together they are all items.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        count = max(1, token_budget // max(longest, 1))
        yield order[start : start + count]
        start += count
