"""Losses of log-probabilities of replies: what a language model is still to say, beside a reward (GRM)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from assay.objectives.pairwise import pairwise_loss
from assay.objectives.shapes import at_least_float32, fitted

TextLoss = Literal["sigmoid", "sft", "dpo"]


def text_loss(
    kind: TextLoss, first: Tensor, second: Tensor, target: Tensor | float = 1.0, *, beta: float = 0.1
) -> Tensor:
    r"""Text regularisers of GRM (Yang et al. 2024, section 3.2), for judgements that may be uncertain.

    With :math:`\ell(z) = -\log\sigma(z)` and the log-probability of the better reply, :math:`\log\pi(y_w)`:

    * ``sigmoid``: :math:`\ell(\beta \log\pi(y_w))`, the paper's default;
    * ``sft``: :math:`-\log\pi(y_w)`;
    * ``dpo``: :math:`\ell(\beta(\log\pi(y_w) - \log\pi(y_l)))`; with a reference, give ratios to it.

    The paper knows certain verdicts only. Here either reply is the better one with its probability: ``sigmoid`` and
    ``sft`` are the expectation over which it is, ``dpo`` is the pairwise kernel with that target.

    Parameters
    ----------
    kind
        Which of them.
    first, second
        Log-probabilities of whole replies (sums over tokens), or their log-ratios to a reference, ``[E]``.
    target
        P(first better), in [0, 1].
    beta
        Scale > 0; unused by ``sft``.

    Returns
    -------
    Tensor
        ``[E]``, float32 or float64.

    Raises
    ------
    ValueError
        If the sides differ in shape, or the kind is unknown.
    """
    if first.shape != second.shape:
        raise ValueError(f"the two sides have shapes {tuple(first.shape)} and {tuple(second.shape)}")
    a, b = at_least_float32(first), at_least_float32(second)
    p = fitted(target, a, "target")
    if kind == "dpo":
        return pairwise_loss(beta * (a - b), p, reduction="none")
    if kind not in ("sigmoid", "sft"):
        raise ValueError(f"unknown text loss {kind!r}; expected sigmoid, sft, dpo")
    each = [-side if kind == "sft" else functional.softplus(-beta * side) for side in (a, b)]
    # nothing is learned of a reply that is certainly the worse one, be its log-probability as low as it may
    return torch.where(p > 0, p * each[0], 0.0) + torch.where(p < 1, (1.0 - p) * each[1], 0.0)
