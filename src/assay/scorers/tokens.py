"""What a causal model says at every token of a reply, in one pass: log-probabilities, or scores of all prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.scorers.calling import embedded, hidden_of
from assay.scorers.interface import Batch, Rows

#: Makes of the states before each token of the replies ``[T, d]``, of these tokens ``[T]``, and of the states at the
#: ends of the texts ``[N, d]`` what is wanted of each token ``[T, ...]`` and of each text ``[N, ...]``.
OfTokens = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def read_tokens(model: Any, batch: Batch, function: OfTokens) -> tuple[Tensor, Tensor]:
    """Apply a function to the states of a batch whose rows say where tokens of replies are predicted.

    Parameters
    ----------
    model
        A scorer with a causal ``backbone`` (see `assay.scorers.reading.ReadingMixin`).
    batch
        Rows with ``predicted``, and their order.
    function
        See `OfTokens`; it is called once per block.

    Returns
    -------
    tuple
        What it made of tokens ``[T, ...]``, reply after reply in the order of the texts, and of texts ``[N, ...]``.
    """
    blocks, order = batch["rows"], batch["order"]
    together = len(blocks) > 1 and torch.is_grad_enabled() and model.reads_vectors
    inputs: Sequence[Any] = embedded(model.backbone, blocks) if together else [None] * len(blocks)
    parts = [_of_block(model.backbone, rows, own, function) for rows, own in zip(blocks, inputs, strict=True)]
    tokens, texts = (torch.cat(side) for side in zip(*parts, strict=True))
    return tokens[token_order(blocks, order)], texts[order]


def _of_block(backbone: Any, rows: Rows, inputs: dict[str, Tensor] | None, function: OfTokens) -> tuple[Tensor, Tensor]:
    hidden = hidden_of(backbone, rows, inputs)
    _, row, column, token = rows["predicted"].unbind(dim=1)
    if "ends" in rows:
        last_row, last = rows["ends"].unbind(dim=1)
    else:
        last = rows["attention_mask"].sum(dim=1) - 1
        last_row = torch.arange(len(last), device=last.device)
    return function(hidden[row, column], token, hidden[last_row, last])


def texts_in(rows: Rows) -> int:
    """Return how many texts a block of rows holds."""
    return len(rows["ends"]) if "ends" in rows else len(rows["input_ids"])


def token_order(blocks: Sequence[Rows], order: Tensor) -> Tensor:
    """Return where each token stands among those of the blocks, reply after reply in the order of the texts, ``[T]``.

    Within a reply tokens stand in order already.
    """
    place_of = torch.empty_like(order)
    place_of[order] = torch.arange(len(order), device=order.device)
    first, owners = 0, []
    for rows in blocks:
        owners.append(place_of[rows["predicted"][:, 0] + first])
        first += texts_in(rows)
    return torch.argsort(torch.cat(owners), stable=True)


def token_counts(batch: Batch) -> Tensor:
    """Return how many predicted tokens each text has, int64 ``[N]``."""
    counts = [torch.bincount(rows["predicted"][:, 0], minlength=texts_in(rows)) for rows in batch["rows"]]
    return torch.cat(counts)[batch["order"]]
