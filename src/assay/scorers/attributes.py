"""A head for several attributes, and a gate that weighs them for each prompt into one score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.scorers.heads import Head


class AttributeHead(Head):
    r"""Score a response by its attributes, weighed by what its prompt asks for (after ArmoRM, Wang et al. 2024).

    .. math:: s(x, y) = \sum_a \mathrm{softmax}(G\,h(x) + b)_a \; (W_a\,h(y) + c_a)

    with h(y) the vector of the response in its conversation, and h(x) that of the prompt alone, so that all responses
    to one prompt are weighed alike. Zero at the start: all attributes count the same, and the first loss is log 2.
    ArmoRM trains attributes first and the gate afterwards, with a frozen backbone; here both learn at once.

    Parameters
    ----------
    width
        d, the size of a text's vector.
    count
        A, how many attributes.
    members
        M, how many heads are trained side by side.
    """

    reads = frozenset({"prompts"})

    def __init__(self, width: int, count: int, members: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, count, width))
        self.offset = nn.Parameter(torch.zeros(members, count))
        self.gate = nn.Parameter(torch.zeros(members, count, width))
        self.gate_offset = nn.Parameter(torch.zeros(members, count))

    def attributes(self, states: Tensor) -> Tensor:
        """Return the attributes of texts ``[N, d]``, ``[N, M, A]`` float32."""
        return torch.einsum("nd,mad->nma", states.float(), self.weight.float()) + self.offset.float()

    def weights(self, prompts: Tensor) -> Tensor:
        """Return what each attribute counts for prompts ``[N, d]``, ``[N, M, A]``; they add up to 1."""
        return (torch.einsum("nd,mad->nma", prompts.float(), self.gate.float()) + self.gate_offset.float()).softmax(-1)

    def forward(self, states: Tensor, prompts: Tensor) -> Tensor:
        """Return scores ``[N, M]`` of texts and their prompts, ``[N, d]`` each."""
        return (self.weights(prompts) * self.attributes(states)).sum(dim=-1)
