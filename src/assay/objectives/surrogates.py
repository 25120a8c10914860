"""Losses of a policy on what it wrote itself: clipped surrogates, distances to a reference, and the critic's loss.

Log-probabilities are those of sampled tokens, ``[B, T]``, padded on the right; ``mask`` ``[B, T]`` tells tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.objectives.shapes import at_least_float32

#: How a divergence from the reference is estimated of samples: see `divergence`.
Divergence = Literal["k1", "k2", "k3"]
#: How the losses of tokens become one: see `over_tokens`.
Average = Literal["tokens", "sequences", "length"]
#: Log ratio beyond which a ratio grows no more.
_LARGEST = 20.0


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, low: float = 0.2, high: float = 0.2
) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\min(\rho A, \mathrm{clip}(\rho, 1-\epsilon_l, 1+\epsilon_h) A)`, and where it is clipped.

    To be maximised: PPO (Schulman et al. 2017, eq. 7) with one epsilon; decoupled with two (DAPO, Yu et al. 2025). The
    gradient is 0 only where the advantage is positive and the ratio above, or it is negative and the ratio below; and
    beyond a ratio of e^20, where it is held, since larger ones overflow.

    Parameters
    ----------
    log_ratio
        :math:`\log\rho`: log-probability by the policy minus that by the policy that sampled.
    advantages
        Of the same shape.
    low, high
        :math:`\epsilon_l` in [0, 1) and :math:`\epsilon_h`, at least 0.

    Returns
    -------
    tuple
        The objective, and bool: clipped.

    Raises
    ------
    ValueError
        If an epsilon is out of range.
    """
    if not (0 <= low < 1 and high >= 0):
        raise ValueError(f"clipping at 1-{low} and 1+{high}; expected 0 <= low < 1 and high >= 0")
    log_ratio = at_least_float32(log_ratio)
    ratio = log_ratio.clamp_max(_LARGEST).exp()
    free, bound = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return torch.minimum(free, bound), bound < free


def sequence_log_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    r"""Return for each token :math:`\frac1T\sum_t \log\rho_t` of its sequence, ``[B, T]`` (GSPO, Zheng et al. 2025).

    Its value is that of the sequence (eq. 7), its gradient that of the token alone (GSPO-token, eq. 13): under a mean
    over tokens both forms have the same gradient where all tokens have one advantage, and only this one carries
    advantages of tokens.
    """
    log_ratio = at_least_float32(log_ratio) * mask
    mean = log_ratio.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp_min(1)
    return (mean - log_ratio).detach() + log_ratio


def divergence(log_ratio: Tensor, kind: Divergence) -> Tensor:
    r"""Estimate KL(policy, reference) at each sampled token; with :math:`u = \pi_{ref}/\pi`.

    * ``k1``: :math:`-\log u`: unbiased; as a reward it has the right gradient, as a loss none;
    * ``k2``: :math:`\frac12\log^2 u`: as a loss it has the gradient of KL(policy, reference);
    * ``k3``: :math:`u - \log u - 1`: unbiased and never negative; as a loss on the policy's own samples its gradient is
      that of KL(reference, policy), so its optimum is another one (Schulman 2020; `tests/objectives/test_world.py`).

    Parameters
    ----------
    log_ratio
        :math:`\log\pi - \log\pi_{ref}` of sampled tokens, any shape.
    kind
        See above.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    log_ratio = at_least_float32(log_ratio)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return 0.5 * log_ratio.square()
    if kind == "k3":
        # larger ones overflow
        return torch.expm1(-log_ratio.clamp_min(-_LARGEST)) + log_ratio
    raise ValueError(f"unknown divergence {kind!r}; expected k1, k2 or k3")


def value_loss(values: Tensor, former: Tensor, returns: Tensor, clip: float | None = 0.2) -> Tensor:
    r"""Return :math:`\frac12\max((V-G)^2, (\mathrm{clip}(V, V_{old}\pm\epsilon)-G)^2)`, of each token.

    Parameters
    ----------
    values, former
        Value of the state before each token, now and when it was sampled.
    returns
        What they should have been.
    clip
        :math:`\epsilon` above 0; None: the squared error alone.
    """
    values = at_least_float32(values)
    error = (values - returns).square()
    if clip is not None:
        near = former + (values - former).clamp(-clip, clip)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def log_ratio_regression(log_ratio: Tensor, strength: Tensor, mask: Tensor, beta: float) -> Tensor:
    r"""Return :math:`(\log\frac{\pi(y)}{\pi_t(y)} - S/\beta)^2` of each response, ``[B]`` (GPO, Zhang et al. 2025).

    The log-normaliser is left out, as published: on finitely many samples the optimum of one round then misses
    :math:`\pi_t e^{S/\beta}/Z` unless S is centred so that Z is 1 (identity 21).

    Parameters
    ----------
    log_ratio
        ``[B, T]``: against the policy that sampled.
    strength
        ``[B]``: how far each response is preferred to the others of its prompt.
    mask
        ``[B, T]``.
    beta
        Above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; expected a number above 0")
    return ((at_least_float32(log_ratio) * mask).sum(dim=1) - strength / beta).square()


def over_tokens(losses: Tensor, mask: Tensor, average: Average, longest: int | None = None) -> Tensor:
    """Return for each sequence the part of the losses of its tokens in one step's loss, ``[B]``, not yet divided.

    * ``tokens``: their sum; the step divides by its tokens, so each token weighs the same (DAPO);
    * ``sequences``: their mean; the step divides by its sequences (GRPO);
    * ``length``: their sum over ``longest``, the most tokens that a response may have; the step divides by its
      sequences (Dr. GRPO).

    Raises
    ------
    ValueError
        If the average is unknown, or ``length`` came without ``longest``.
    """
    summed = (losses * mask).sum(dim=1)
    if average == "tokens":
        return summed
    if average == "sequences":
        return summed / mask.sum(dim=1).clamp_min(1)
    if average == "length" and longest:
        return summed / longest
    raise ValueError(f"cannot average over {average!r}; expected tokens, sequences, or length with the longest")
