"""From rewards to advantages: discounted sums, generalised advantage estimates, and baselines of a group.

Sequences are padded on the right; ``mask`` ``[B, T]`` says which places are tokens of a response, and each sequence's
come without a gap. Everything is computed in float32 at least.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.objectives.shapes import at_least_float32

#: What the rewards of a group are compared with: see `group_baseline`.
Baseline = Literal["normalised", "centred", "leave_one_out", "batch", "none"]
#: Standard deviations up to this share of the largest reward are rounding, and count as none.
_ROUNDING = 1e-6


def returns_to_go(rewards: Tensor, mask: Tensor, discount: float = 1.0) -> Tensor:
    r"""Return :math:`G_t = \sum_{k \ge t} \gamma^{k-t} r_k`, ``[B, T]``; 0 where there is no token.

    Parameters
    ----------
    rewards
        ``[B, T]``, one per token.
    mask
        ``[B, T]`` bool.
    discount
        :math:`\gamma` in [0, 1].
    """
    return _from_behind(at_least_float32(rewards) * mask, discount) * mask


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float = 1.0, trace: float = 0.95
) -> tuple[Tensor, Tensor]:
    r"""Return advantages and what the critic learns, both ``[B, T]`` (Schulman et al. 2016, eq. 16).

    :math:`\hat A_t = \sum_k (\gamma\lambda)^k \delta_{t+k}` with :math:`\delta_t = r_t + \gamma V_{t+1} - V_t`; behind
    the last token the value is 0. The critic learns :math:`\hat A_t + V_t`.

    Parameters
    ----------
    rewards, mask
        As in `returns_to_go`.
    values
        ``[B, T]``: value of the state before each token.
    discount, trace
        :math:`\gamma` and :math:`\lambda` in [0, 1].
    """
    rewards, values = at_least_float32(rewards) * mask, at_least_float32(values) * mask
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    surprise = (rewards + discount * following - values) * mask
    advantages = _from_behind(surprise, discount * trace) * mask
    return advantages, (advantages + values) * mask


def _from_behind(values: Tensor, factor: float) -> Tensor:
    """Return sums from each place to the end, each place further on weighing ``factor`` times as much."""
    found, running = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for place in range(values.shape[1] - 1, -1, -1):
        running = values[:, place] + factor * running
        found[:, place] = running
    return found


def group_baseline(totals: Tensor, groups: Tensor, kind: Baseline) -> tuple[Tensor, Tensor]:
    r"""Return what to take from each response's reward, and what to divide the rest by, both ``[B]``.

    * ``normalised``: the group's mean, and its standard deviation over the group (divided by K, not K - 1; GRPO, Shao
      et al. 2024); the division changes the optimum, see `assay.objectives.surrogates`;
    * ``centred``: the mean alone (Dr. GRPO, Liu et al. 2025);
    * ``leave_one_out``: the mean of the others (RLOO, Ahmadian et al. 2024); of a group of one it is 0;
    * ``batch``: the group's mean, and the standard deviation of what is left over all responses (REINFORCE++ with
      baseline, Hu 2025);
    * ``none``: nothing.

    Where all rewards of a group are equal the advantages are 0.

    Parameters
    ----------
    totals
        ``[B]``: reward of each response.
    groups
        ``[B]`` int64: responses to one prompt have one number, from 0.
    kind
        See above.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    totals = at_least_float32(totals)
    ones = torch.ones_like(totals)
    if kind == "none":
        return torch.zeros_like(totals), ones
    size = _summed(ones, groups)
    mean = _summed(totals, groups) / size
    if kind == "leave_one_out":
        return torch.where(size > 1, (mean * size - totals) / (size - 1).clamp_min(1), 0.0), ones
    if kind == "centred":
        return mean, ones
    if kind == "normalised":
        spread = (_summed((totals - mean).square(), groups) / size).sqrt()
    elif kind == "batch":
        spread = (totals - mean).square().mean().sqrt().expand_as(totals)
    else:
        raise ValueError(f"unknown baseline {kind!r}; expected normalised, centred, leave_one_out, batch or none")
    largest = _largest(totals.abs(), groups * 0 if kind == "batch" else groups)
    counts = spread > _ROUNDING * largest.clamp_min(1e-30)
    # rounding is not blown up: the numerator is as good as 0 there
    return torch.where(counts, mean, totals), torch.where(counts, spread, ones)


def _summed(values: Tensor, groups: Tensor) -> Tensor:
    """Return for each entry the sum over its group."""
    sums = torch.zeros(int(groups.max()) + 1 if len(groups) else 0, dtype=values.dtype, device=values.device)
    return sums.index_add(0, groups, values)[groups]


def _largest(values: Tensor, groups: Tensor) -> Tensor:
    """Return for each entry the largest of its group."""
    found = torch.zeros(int(groups.max()) + 1 if len(groups) else 0, dtype=values.dtype, device=values.device)
    return found.scatter_reduce(0, groups, values, "amax", include_self=False)[groups]


def group_advantages(rewards: Tensor, mask: Tensor, groups: Tensor, kind: Baseline, discount: float = 1.0) -> Tensor:
    r"""Return advantages of tokens without a critic, ``[B, T]``: :math:`(G_t - b) / s`, b as `group_baseline` of G_1.

    One rule for sparse and redistributed rewards. With one reward at the end G_t is the response's reward at every
    token, which gives GRPO, Dr. GRPO and RLOO as published. With redistributed ones (`assay.credit.redistribute`)
    :math:`G_t = R - R_{t-1}`: what the prefix has earned already is a baseline of its own, which depends on nothing
    that token t decides, so the expected gradient of an undivided advantage stays the same. What is divided by, s, is
    the root of the mean over responses of the mean over their tokens of :math:`(G_t - b)^2`: with one reward at the end
    the published deviation, and with redistributed ones never small where the differences are not.

    Parameters
    ----------
    rewards, mask, discount
        As in `returns_to_go`.
    groups, kind
        As in `group_baseline`.
    """
    found = returns_to_go(rewards, mask, discount)
    first = found[torch.arange(len(found), device=found.device), mask.to(torch.int64).argmax(dim=1)]
    if kind not in ("normalised", "batch"):
        baseline, _ = group_baseline(first, groups, kind)
        return (found - baseline.unsqueeze(1)) * mask
    baseline, _ = group_baseline(first, groups, "centred")
    left = (found - baseline.unsqueeze(1)) * mask
    each = left.square().sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    if kind == "batch":
        spread = each.mean().sqrt().expand_as(each)
    else:
        spread = (_summed(each, groups) / _summed(torch.ones_like(each), groups)).sqrt()
    largest = _largest(found.abs().amax(dim=1), groups * 0 if kind == "batch" else groups)
    counts = spread > _ROUNDING * largest.clamp_min(1e-30)
    return left / torch.where(counts, spread, torch.ones_like(spread)).unsqueeze(1) * counts.unsqueeze(1)


def whitened(advantages: Tensor, mask: Tensor, shift: bool = True) -> Tensor:
    """Return advantages divided by their standard deviation over all tokens, and with ``shift`` minus their mean."""
    count = mask.sum().clamp_min(1)
    mean = (advantages * mask).sum() / count
    spread = (((advantages - mean) * mask).square().sum() / count).sqrt()
    found = (advantages - mean if shift else advantages) / spread.clamp_min(1e-8)
    return found * mask
