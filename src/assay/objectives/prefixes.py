"""Margins after every token of two replies, for losses that train scores of prefixes too."""

from __future__ import annotations

import torch
from torch import Tensor


def prefix_margins(values: Tensor, counts: Tensor, edges: Tensor, parted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the margin of a over b after each token from where they part, and which of them there are.

    Behind the end of the shorter reply its score stays that of its last token: no padding enters, and the last margin
    is that of the whole replies.

    Parameters
    ----------
    values
        ``[T]`` or ``[T, members]``: scores after each token of the replies, reply after reply.
    counts
        int64 ``[N]``: tokens of each reply, at least 1.
    edges
        int64 ``[E, 2]``.
    parted
        int64 ``[E]``: number of tokens that both replies begin with, less than that of the longer one.

    Returns
    -------
    tuple
        Margins ``[E, J]`` or ``[E, J, members]``, 0 where there is none, and bool ``[E, J]``.
    """
    first = counts.cumsum(0) - counts
    longest = counts[edges].amax(dim=1)
    place = torch.arange(int((longest - parted).max()) if len(edges) else 0, device=values.device)
    at = parted.unsqueeze(1) + place
    there = at < longest.unsqueeze(1)
    sides = []
    for side in edges.unbind(dim=1):
        token = torch.minimum(at, counts[side].unsqueeze(1) - 1)
        sides.append(values[first[side].unsqueeze(1) + token])
    margins = sides[0] - sides[1]
    mask = there if margins.dim() == 2 else there.unsqueeze(-1)
    return torch.where(mask, margins, torch.zeros((), dtype=margins.dtype, device=margins.device)), there
