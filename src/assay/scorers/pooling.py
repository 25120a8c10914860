"""From the states of all tokens to one vector per text."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["last", "mean", "cls"]


def pool(hidden: Tensor, attention_mask: Tensor, how: Pooling) -> Tensor:
    """Pool token states; padded positions never count.

    Parameters
    ----------
    hidden
        ``[N, L, d]``, any float dtype.
    attention_mask
        ``[N, L]``, 1 for real tokens, which stand on the left.
    how
        ``"last"`` real token (causal backbones: only it has seen everything), ``"mean"`` over real tokens, or the
        first (``"cls"``).

    Returns
    -------
    Tensor
        ``[N, d]``, float32 (float64 stays).
    """
    if how == "last":
        index = attention_mask.sum(dim=1) - 1
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), index]
    elif how == "cls":
        pooled = hidden[:, 0]
    else:
        states = hidden if hidden.dtype == torch.float64 else hidden.float()
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(dim=1) / mask.sum(dim=1)
    return pooled if pooled.dtype == torch.float64 else pooled.float()
