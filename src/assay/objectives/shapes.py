"""What every kernel asks of its inputs: enough precision, and shapes that cannot broadcast by accident."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]


def at_least_float32(values: Tensor) -> Tensor:
    """Return half precision as float32; float32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def fitted(value: Tensor | float, like: Tensor, name: str) -> Tensor:
    """Bring a setting to dtype, device and shape of ``like``.

    A number fits everything, ``[E]`` also fits ``[E, members]``. Whatever would broadcast ``like`` itself, such as
    ``[E, 1]`` against ``[E]``, is refused.

    Raises
    ------
    ValueError
        If the shapes do not fit; ``name`` is in the message.
    """
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    per_entry = tensor.dim() == 1 and like.dim() == 2 and tensor.shape[0] != 1
    # one number per judgement; a vector of another length is not taken for one number per member
    if per_entry and tensor.shape[0] == like.shape[0]:
        return tensor.unsqueeze(-1).expand_as(like)
    try:
        if per_entry:
            raise RuntimeError("one number per judgement was expected")
        return tensor.expand_as(like)
    except RuntimeError as error:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, which does not fit margins of shape {tuple(like.shape)}; "
            f"give a number, or one per judgement: ({like.shape[0] if like.dim() else 1},)"
        ) from error


def reduced(loss: Tensor, weight: Tensor, reduction: Reduction) -> Tensor:
    """Weigh and reduce losses: ``"mean"`` is ``sum(w*l) / sum(w)``, ``"sum"`` is ``sum(w*l)``, ``"none"`` is ``w*l``.

    Raises
    ------
    ValueError
        If ``reduction`` is unknown.
    """
    loss = weight * loss
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction != "mean":
        raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
    total = weight.sum()
    # all weights 0: 0/1 gives a loss of 0 and a gradient of 0, not NaN
    return loss.sum() / torch.where(total > 0, total, torch.ones_like(total))
