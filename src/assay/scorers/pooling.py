"""From the states of all tokens to one vector per text."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["last", "mean", "cls", "reply"]


def behind_separator(input_ids: Tensor, attention_mask: Tensor, separator_id: int) -> Tensor:
    """Mark the tokens behind the separator that stands before the reply; their mean is the ``"reply"`` pooling.

    Both texts of a pair share their prompt, so in a mean over all tokens a long prompt drowns what tells them apart.
    The place is read from the tokens themselves, so that a text scores the same however it was put together.

    Parameters
    ----------
    input_ids, attention_mask
        ``[N, L]``, real tokens on the left.
    separator_id
        The token that ends a prompt. One that ends the whole text does not count.

    Returns
    -------
    Tensor
        ``[N, L]``, the dtype of the mask; all real tokens of a text without a separator. Never empty.
    """
    place = torch.arange(input_ids.shape[1], device=input_ids.device)
    inside = place < attention_mask.sum(dim=1, keepdim=True) - 1
    last = torch.where((input_ids == separator_id) & inside, place, -1).amax(dim=1, keepdim=True)
    return attention_mask * (place > last)


#: A mean forgets how many states it is of, and judgements often depend on that, one way or the other. So the logarithm
#: of their number, in units of `COUNT_UNIT`, stands beside it: scaled, because an optimiser moves this one weight no
#: faster than each of the hundreds of others. Stored models rely on both numbers.
COUNT_SCALE, COUNT_UNIT = 12.0, 64.0


def pooled_width(width: int, how: Pooling) -> int:
    """Return the size of a pooled vector of states of size ``width``."""
    return width + 1 if how in ("mean", "reply") else width


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
        first (``"cls"``). For ``"reply"``, a mean too, the mask is that of `behind_separator`.

    Returns
    -------
    Tensor
        ``[N, d]``, float32 (float64 stays); of means ``[N, d + 1]``: the last column tells the number of tokens.
    """
    if how == "last":
        index = attention_mask.sum(dim=1) - 1
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), index]
    elif how == "cls":
        pooled = hidden[:, 0]
    else:
        states = hidden if hidden.dtype == torch.float64 else hidden.float()
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        count = mask.sum(dim=1)
        return torch.cat([(states * mask).sum(dim=1) / count, COUNT_SCALE * (count / COUNT_UNIT).log()], dim=1)
    return pooled if pooled.dtype == torch.float64 else pooled.float()
