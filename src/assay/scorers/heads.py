"""Heads: from a text's vector to its score, for one model or several members at once."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from assay.scorers.attributes import AttributeHead

HeadKind = Literal["linear", "mlp", "attributes"]


class LinearHead(nn.Module):
    """Score ``h @ W``, without a bias: Bradley-Terry sees differences only.

    Zero at the start, so the first loss is log 2 for every pair, whatever the backbone.

    Parameters
    ----------
    width
        d, the size of a text's vector.
    members
        M, how many heads are trained side by side.
    """

    def __init__(self, width: int, members: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, width))

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``."""
        # also where all weights are kept in 16 bits: texts of high scores would tie
        return states.float() @ self.weight.float().T


class MLPHead(nn.Module):
    """Score by one hidden layer with dropout; the output layer starts at zero, so the first loss is log 2.

    Parameters
    ----------
    width, members
        As for `LinearHead`.
    hidden
        Size of the hidden layer.
    dropout
        Share of hidden units dropped in training.
    seed
        Seeds the hidden layer, through a generator of its own.
    """

    def __init__(self, width: int, members: int = 1, hidden: int = 256, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = 1.0 / math.sqrt(width)
        self.inner = nn.Parameter(torch.empty(members, width, hidden).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(members, hidden))
        self.outer = nn.Parameter(torch.zeros(members, hidden))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``."""
        inside = torch.einsum("nd,mdh->nmh", states.float(), self.inner.float()) + self.bias.float()
        return (self.dropout(nn.functional.gelu(inside)) * self.outer.float()).sum(dim=-1)


def make_head(
    kind: HeadKind,
    width: int,
    *,
    members: int = 1,
    hidden: int = 256,
    dropout: float = 0.1,
    seed: int = 0,
    attributes: int = 0,
) -> nn.Module:
    """Build a head by name."""
    if kind == "linear":
        return LinearHead(width, members)
    if kind == "mlp":
        return MLPHead(width, members, hidden, dropout, seed)
    if kind == "attributes":
        return AttributeHead(width, attributes, members)
    raise ValueError(f"unknown head {kind!r}; expected 'linear', 'mlp' or 'attributes'")
