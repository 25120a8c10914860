"""GPM: preferences that need not be transitive, as skew-symmetric products of embeddings (Zhang et al., ICML 2025)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from assay.scorers.heads import Head, layer_normed

#: Deviation of the weights that tell blocks apart at the start, times the root of the width.
_SPREAD = 0.1


class PreferenceHead(Head):
    r"""Embed a response in pairs of coordinates; a margin is the sum of the areas that two responses span.

    .. math:: s(a \succ b) = \frac{1}{\tau} \sum_k \lambda_k(x) \langle R\,v_{a,k}, v_{b,k} \rangle, \qquad
              R = \begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix}, \qquad v = W h + c

    Skew: exchanging a and b negates it. With one block, second coordinates of 1 and lambda = 1 it is Bradley-Terry with
    the first coordinates as scores; several blocks express cycles. lambda_k(x) = exp(G_k h(x)) weighs the blocks by
    what the prompt asks for.

    A response has no score of its own. `forward` gives its mean margin over a comparison set: since margins are linear
    in either response, that is its margin over the mean embedding of the set (`anchor`), which training stores.

    Deviations from the paper: it starts as Bradley-Terry (the first block is (0, 1) for all texts), so the first loss
    is log 2; lambda is an exponential that starts at 1, in place of a softmax.

    Parameters
    ----------
    width
        d.
    members
        M.
    blocks
        Pairs of coordinates, k; the paper's 2 to 8 dimensions are 1 to 4 blocks.
    tau
        Temperature of the margins.
    unit
        Bring each response's embedding to length 1, as in the paper; False: as it is, so that Bradley-Terry is a case.
    scales
        Whether blocks are weighed by the prompt.
    normalise
        Bring each vector to mean 0 and variance 1 before (`assay.scorers.heads.layer_normed`): products of long
        vectors are hard to learn.
    seed
        Of the start.
    plain
        Last columns that are left out of that.
    """

    native = True

    def __init__(
        self,
        width: int,
        members: int = 1,
        *,
        blocks: int = 3,
        tau: float = 1.0,
        unit: bool = False,
        scales: bool = True,
        normalise: bool = True,
        seed: int = 0,
        plain: int = 0,
    ) -> None:
        super().__init__()
        self.blocks, self.tau, self.unit, self.normalise, self.plain = blocks, tau, unit, normalise, plain
        self.reads = frozenset({"prompts"}) if scales else frozenset()
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(members, blocks, 2, width, generator=generator) * (_SPREAD / width**0.5)
        start[:, 0] = 0.0
        offset = torch.zeros(members, blocks, 2)
        offset[:, 0, 1] = 1.0
        self.weight = nn.Parameter(start)
        self.offset = nn.Parameter(offset)
        self.gate = nn.Parameter(torch.zeros(members, blocks, width)) if scales else None
        self.anchor: Tensor
        self.register_buffer("anchor", torch.zeros(members, blocks, 2))

    def embed(self, states: Tensor) -> Tensor:
        """Return embeddings of texts ``[N, d]``, ``[N, M, blocks, 2]``, without what the prompt weighs."""
        v = torch.einsum("nd,mkcd->nmkc", self._seen(states), self.weight.float()) + self.offset.float()
        return v / v.square().sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12) if self.unit else v

    def scales(self, prompts: Tensor | None) -> Tensor | float:
        """Return the weights of the blocks over tau, ``[N, M, blocks]``, for the states of prompts alone ``[N, d]``."""
        if self.gate is None or prompts is None:
            return 1.0 / self.tau
        return torch.einsum("nd,mkd->nmk", self._seen(prompts), self.gate.float()).exp() / self.tau

    def _seen(self, states: Tensor) -> Tensor:
        return layer_normed(states, self.plain) if self.normalise else states.float()

    def forward(self, states: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return the margins over the comparison set, ``[N, M]``; 0 before there is one."""
        return (self.scales(prompts) * areas(self.embed(states), self.anchor)).sum(dim=-1)

    def margins(self, states: Tensor, edges: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return margins of a over b, ``[E, M]``; ``prompts`` ``[N, d]`` are the states of each text's prompt alone."""
        v, (a, b) = self.embed(states), edges.unbind(dim=1)
        scales = self.scales(prompts if prompts is None else prompts[a])
        return (scales * areas(v[a], v[b])).sum(dim=-1)

    def evidence(self, states: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return what margins and scores are computed from later, ``[N, M, 2 * blocks + 1]``; see `native_margins`."""
        scales = self.scales(prompts)
        root = scales.sqrt().unsqueeze(-1) if isinstance(scales, Tensor) else scales**0.5
        v = (self.embed(states) * root).flatten(-2)
        return torch.cat([v, self.forward(states, prompts).unsqueeze(-1)], dim=-1)

    @torch.no_grad()
    def compare_with(self, states: Tensor) -> None:
        """Make these texts ``[N, d]`` the comparison set."""
        self.anchor.copy_(self.embed(states).mean(dim=0))


def areas(one: Tensor, other: Tensor) -> Tensor:
    r"""Return :math:`\langle R v, u \rangle = v_1 u_2 - v_2 u_1` of pairs of coordinates, ``[..., 2]`` to ``[...]``.

    Mind the sign: :math:`v^\top R u` is its negative.
    """
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def native_margins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return margins ``[E, M]`` from the evidence of both texts, ``[E, M, 2 * blocks + 1]`` each, float64."""
    one, other = (side[..., :-1].astype(np.float64).reshape(*side.shape[:-1], -1, 2) for side in (a, b))
    return np.asarray((one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]).sum(axis=-1))


def cyclic_share(margins: np.ndarray) -> float:
    """Return the share of triples of k responses that prefer each other in a circle; NaN below three.

    Parameters
    ----------
    margins
        ``[k, k]``: margin of row over column.
    """
    wins = (np.asarray(margins) > 0).astype(np.int64)
    k = len(wins)
    if k < 3:
        return float("nan")
    # of a triple without a circle one member beats both others
    beaten = wins.sum(axis=1)
    triples = k * (k - 1) * (k - 2) // 6
    return float(1 - (beaten * (beaten - 1) // 2).sum() / triples)
