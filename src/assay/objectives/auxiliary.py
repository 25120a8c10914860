"""Terms added to the pairwise loss."""

from __future__ import annotations

import torch
from torch import Tensor


def centring_loss(values_a: Tensor, values_b: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    r"""Penalise scores that drift from zero: the sum of ``w * (s_a + s_b)^2`` (Eisenstein et al. 2023, section 3).

    Bradley-Terry fixes differences only, so the mean of the scores is free; this term ties it to 0.

    Parameters
    ----------
    values_a, values_b
        Scores of the two responses, shape ``[E]`` or ``[E, members]``.
    weight
        Weight w >= 0 of each judgement, broadcast as in `pairwise_loss`.

    Returns
    -------
    Tensor
        The *sum* over entries; divide by the weight of the step, as for the pairwise loss.
    """
    total = values_a.float() + values_b.float()
    w = torch.as_tensor(weight, dtype=total.dtype, device=total.device)
    if w.dim() == 1 and total.dim() == 2:
        w = w.unsqueeze(-1)
    return (w * total.square()).sum()
