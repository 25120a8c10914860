"""Bradley-Terry on a kernel: a score is a weighed sum of how near a response is to fixed landmarks."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.objectives.prototypes import squared_distances
from assay.scorers.heads import Head, layer_normed


class KernelHead(Head):
    r"""Score by Gaussian kernels around landmarks, ``sum_k a_k exp(-gamma * ||h - p_k||^2 / d)``.

    The control of `assay.scorers.prototypes.PrototypeHead`: the same landmarks and distances, but a weight for each
    landmark in place of a mixture of their vectors. Landmarks do not move; the width of the kernels begins where the
    median distance gives exp(-1), and is learned.

    Parameters
    ----------
    width
        d.
    members
        M.
    cap
        Landmarks that there is room for.
    per_class
        Landmarks of each class, at most.
    builders
        Responses that a landmark is the mean of.
    seed
        Of the responses that they are.
    plain
        See `assay.scorers.heads.layer_normed`.
    """

    undecayed: ClassVar[frozenset[str]] = frozenset({"log_gamma"})

    def __init__(
        self,
        width: int,
        members: int = 1,
        *,
        cap: int = 286,
        per_class: int = 18,
        builders: int = 2,
        seed: int = 0,
        plain: int = 0,
    ) -> None:
        super().__init__()
        self.cap, self.per_class, self.builders, self.seed, self.plain = cap, per_class, builders, seed, plain
        self.weight = nn.Parameter(torch.zeros(members, cap))
        self.log_gamma = nn.Parameter(torch.zeros(members))
        self.points: Tensor
        self.active: Tensor
        self.register_buffer("points", torch.zeros(members, cap, width))
        self.register_buffer("active", torch.zeros(members, cap, dtype=torch.bool))

    @property
    def counts(self) -> Tensor:
        """Number of landmarks, ``[M]``."""
        return self.active.sum(dim=-1)

    def normed(self, states: Tensor) -> Tensor:
        """Return vectors in the space of the landmarks, ``[N, d]``."""
        return layer_normed(states, self.plain)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of vectors ``[N, d]``."""
        near = self.basis(states)
        return (near * self.weight[:, : near.shape[-1]].float()).sum(dim=-1)

    def basis(self, states: Tensor) -> Tensor:
        """Return the kernels of the landmarks in use."""
        used = int(self.counts.max())
        distances = squared_distances(self.normed(states), self.points[:, :used])
        return torch.exp(-self.log_gamma.float().exp().unsqueeze(-1) * distances) * self.active[:, :used]

    def last_weights(self) -> Tensor:
        """Return the weights of the landmarks in use."""
        return self.weight[:, : int(self.counts.max())].float()

    @torch.no_grad()
    def begin(self, member: int, points: Tensor, probes: Tensor) -> None:
        """Put landmarks ``[K, d]`` in place, and set the width by the distances of other vectors ``[P, d]``."""
        self.points[member, : len(points)] = points
        self.active[member, : len(points)] = True
        if len(probes):
            median = squared_distances(probes, points).median().clamp_min(1e-12)
            self.log_gamma[member] = -math.log(median.item())
