"""Heads: from a text's vector to its score, for one model or several members at once; linear and with a layer."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """From vectors ``[N, d]`` to scores ``[N, M]`` of M members that are trained side by side and share nothing.

    All its weights and buffers begin with the dimension of the members, so that one of them can be taken out. Scores
    are computed in float32 also where weights are kept in 16 bits: texts of high scores would tie.
    """

    #: What it is told of each text beside its vector: entries of `assay.scorers.interface.Batch`.
    reads: frozenset[str] = frozenset()
    #: Whether margins are more than differences of scores (`assay.scorers.preference.PreferenceHead`).
    native: ClassVar[bool] = False
    #: Its weights that weight decay leaves alone.
    undecayed: ClassVar[frozenset[str]] = frozenset()

    def basis(self, states: Tensor) -> Tensor | None:
        """Return what scores are linear in, ``[N, M, D]`` beside `last_weights`; None where there is no such thing."""
        return None

    def last_weights(self) -> Tensor:
        """Return the weights of `basis`, ``[M, D]``."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """Return what the loss adds for the weights of each member as they are, ``[M]``; None: nothing."""
        return None

    def end_step(self) -> None:
        """Do what is to be done after each step of the optimiser."""


def layer_normed(states: Tensor, plain: int = 0) -> Tensor:
    """Return vectors ``[N, d]`` as float32 with mean 0 and variance 1 each, but for the last ``plain`` columns.

    These are no states: the logarithm of the number of tokens, which stands beside a mean (`assay.scorers.pooling`).
    """
    states = states.float()
    width = states.shape[-1] - plain
    normed = functional.layer_norm(states[..., :width], (width,))
    return torch.cat([normed, states[..., width:]], dim=-1) if plain else normed


def _first(shape: tuple[int, int], deviation: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) * deviation if deviation else torch.zeros(shape)


class LinearHead(Head):
    """Score ``h @ W``, without a bias: Bradley-Terry sees differences only.

    Zero at the start, so the first loss is log 2 for every pair, whatever the backbone. That is a saddle where no
    direction of the vectors is better as such, as of pairs in which each label is as often right as wrong: a head of
    zeros gives the backbone no gradient, and the backbone gives it none on average. ``init_std`` leaves it.

    Parameters
    ----------
    width
        d, the size of a text's vector.
    members
        M, how many heads are trained side by side.
    normalise
        Bring each vector to mean 0 and variance 1 before (`layer_normed`).
    plain
        Last columns that are left out of that.
    bias
        Whether each member has an offset, which quantiles of a grade need.
    init_std, seed
        Deviation of the first weights, which are then drawn at random, by a generator of their own.
    """

    def __init__(
        self,
        width: int,
        members: int = 1,
        normalise: bool = False,
        plain: int = 0,
        bias: bool = False,
        init_std: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(_first((members, width), init_std, torch.Generator().manual_seed(seed)))
        self.offset = nn.Parameter(torch.zeros(members)) if bias else None
        self.normalise, self.plain = normalise, plain

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``."""
        scores = self._seen(states) @ self.weight.float().T
        return scores if self.offset is None else scores + self.offset.float()

    def basis(self, states: Tensor) -> Tensor:
        """Return the vectors themselves."""
        seen = self._seen(states)
        return seen.unsqueeze(1).expand(-1, len(self.weight), -1)

    def last_weights(self) -> Tensor:
        """Return the weights."""
        return self.weight.float()

    def _seen(self, states: Tensor) -> Tensor:
        return layer_normed(states, self.plain) if self.normalise else states.float()


class MLPHead(Head):
    """Score by one hidden layer with dropout; the output layer starts at zero, so the first loss is log 2.

    Parameters
    ----------
    width, members, normalise, plain, bias, init_std
        As for `LinearHead`; ``init_std`` is the output layer's.
    hidden
        Size of the hidden layer.
    dropout
        Share of hidden units dropped in training.
    seed
        Seeds what is drawn, through a generator of its own.
    """

    def __init__(
        self,
        width: int,
        members: int = 1,
        hidden: int = 256,
        dropout: float = 0.1,
        seed: int = 0,
        normalise: bool = False,
        plain: int = 0,
        bias: bool = False,
        init_std: float = 0.0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = 1.0 / math.sqrt(width)
        self.inner = nn.Parameter(torch.empty(members, width, hidden).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(members, hidden))
        self.outer = nn.Parameter(_first((members, hidden), init_std, generator))
        self.offset = nn.Parameter(torch.zeros(members)) if bias else None
        self.dropout = nn.Dropout(dropout)
        self.normalise, self.plain = normalise, plain

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``."""
        scores = (self.dropout(self.basis(states)) * self.outer.float()).sum(dim=-1)
        return scores if self.offset is None else scores + self.offset.float()

    def basis(self, states: Tensor) -> Tensor:
        """Return the hidden layer."""
        states = layer_normed(states, self.plain) if self.normalise else states.float()
        # each member's product by itself: the weights are then used as they lie in memory
        hidden = torch.matmul(states, self.inner.float()) + self.bias.float().unsqueeze(1)
        return functional.gelu(hidden).transpose(0, 1)

    def last_weights(self) -> Tensor:
        """Return the weights of the output layer."""
        return self.outer.float()
