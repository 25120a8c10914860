"""Prototypes in a space of states: who is near, what they mix to, how far apart they are (Proto-RM, IMP).

Shapes: states ``[N, d]``; a bank of prototypes ``[..., K, d]`` with a mask ``[..., K]`` of those in use, where leading
dimensions are members that are trained side by side; distances and weights ``[N, ..., K]``. All in float32 or float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from assay.objectives.shapes import at_least_float32


def squared_distances(states: Tensor, points: Tensor, *, scaled: bool = True) -> Tensor:
    r"""Return :math:`D_k = \lVert h - p_k \rVert^2 / d`, ``[N, ..., K]``, at least 0.

    ``scaled=False`` leaves out the division by d, as Proto-RM was released: in hundreds of dimensions nearly all
    weight then falls on the nearest prototype.
    """
    h, p = at_least_float32(states), at_least_float32(points)
    cross = torch.matmul(h, p.mT).movedim(-2, 0)
    own = h.square().sum(dim=-1).reshape(-1, *[1] * (cross.dim() - 1))
    squared = (own - 2.0 * cross + p.square().sum(dim=-1)).clamp_min(0.0)
    return squared / h.shape[-1] if scaled else squared


def mixture_weights(distances: Tensor, kappa: Tensor | float, usable: Tensor | None = None) -> Tensor:
    r"""Return :math:`q_k = \mathrm{softmax}_k(-\kappa D_k)` over the usable prototypes, 0 elsewhere.

    Parameters
    ----------
    distances
        ``[N, ..., K]``.
    kappa
        A number, or one per member ``[...]``.
    usable
        Mask that broadcasts against the distances; None: all. Where none is usable, all weights are 0.
    """
    logits = -_each(kappa, distances) * distances
    if usable is None:
        return logits.softmax(dim=-1)
    # an empty row has no softmax: finite numbers, and the mask, keep NaN out of weights and gradients
    least = torch.finfo(logits.dtype).min / 4
    weights = logits.masked_fill(~usable, least).softmax(dim=-1)
    return weights * usable


def class_term(distances: Tensor, kappa: Tensor | float, chosen: Tensor, rejected: Tensor) -> Tensor:
    r"""Return :math:`\mathrm{LSE}_{k \in P^+}(-\kappa D_k) - \mathrm{LSE}_{k \in P^-}(-\kappa D_k)`, ``[N, ...]``.

    How much nearer a response is to what was chosen than to what was rejected. It needs no label of the response; the
    numbers of prototypes cancel in margins; exchanging the classes negates it. 0 where a class is empty.

    Parameters
    ----------
    distances
        ``[N, ..., K]``.
    kappa
        A number, or one per member ``[...]``.
    chosen, rejected
        Masks of the prototypes of each class that may be used.
    """
    logits = -_each(kappa, distances) * distances
    least = torch.finfo(logits.dtype).min / 4
    near = [logits.masked_fill(~mask, least).logsumexp(dim=-1) for mask in (chosen, rejected)]
    both = (chosen.any(dim=-1) & rejected.any(dim=-1)).expand(near[0].shape)
    return torch.where(both, near[0] - near[1], torch.zeros_like(near[0]))


def effective_number(weights: Tensor) -> Tensor:
    r"""Return :math:`\exp(H(q))`, ``[N, ...]``: over how many prototypes weights are spread, from 1 to K; 0 if none."""
    entropy = -torch.special.xlogy(weights, weights).sum(dim=-1)
    return torch.where(weights.sum(dim=-1) > 0, entropy.exp(), torch.zeros_like(entropy))


def diversity_loss(points: Tensor, classes: Tensor, tau: float = 0.5, *, scaled: bool = True) -> Tensor:
    r"""Push prototypes of one class apart that are nearer than tau (Proto-RM); the sum over the classes.

    .. math:: L = \sum_C \frac{\sum_{i<j \in C} \max(0, \tau - \lVert p_i - p_j \rVert / \sqrt d)}{\max(1, n_C)}

    with n the number of positive terms, counted without a gradient.

    Parameters
    ----------
    points
        ``[..., K, d]``.
    classes
        ``[..., K]``: 1 and -1 for the prototypes of the two classes, 0 for slots that are not in use; or a mask of one
        class.
    tau
        Distance from which on two prototypes are far enough apart.
    scaled
        Whether distances are divided by the root of d.

    Returns
    -------
    Tensor
        ``[...]``; without a gradient where nothing is too near, which is the rule and saves most of the work.
    """
    p = at_least_float32(points)
    unit = math.sqrt(p.shape[-1]) if scaled else 1.0
    later = torch.ones(p.shape[-2], p.shape[-2], dtype=torch.bool, device=p.device).triu(1)
    same = (classes.unsqueeze(-1) == classes.unsqueeze(-2)) & (classes != 0).unsqueeze(-1) & later
    with torch.no_grad():
        near = same & (_squares_between(p) < (tau * unit) ** 2)
    if not near.any():
        return torch.zeros(p.shape[:-2], dtype=p.dtype, device=p.device)
    squared = _squares_between(p)
    # the root has no slope at 0: two equal points are pushed nowhere, and not to NaN
    apart = squared > 1e-12
    distance = torch.where(apart, squared, torch.ones_like(squared)).sqrt() * apart / unit
    terms = (tau - distance).clamp_min(0.0) * near
    # both points of a term are of one class
    of_class = [(terms * (classes == own).unsqueeze(-1)).flatten(-2) for own in (1, -1)]
    each = [own.sum(dim=-1) / (own > 0).sum(dim=-1).clamp_min(1) for own in of_class]
    return each[0] + each[1]


def least_distance(points: Tensor, classes: Tensor, *, scaled: bool = True) -> float:
    """Return the distance of the two nearest points of one class, infinite without two; see `diversity_loss`."""
    p = at_least_float32(points)
    same = (classes.unsqueeze(-1) == classes.unsqueeze(-2)) & (classes != 0).unsqueeze(-1)
    same &= torch.ones(p.shape[-2], p.shape[-2], dtype=torch.bool, device=p.device).triu(1)
    squared = float(_squares_between(p).masked_fill(~same, math.inf).amin().clamp_min(0.0))
    return math.sqrt(squared / p.shape[-1] if scaled else squared)


def _squares_between(points: Tensor) -> Tensor:
    gram = points @ points.mT
    own = gram.diagonal(dim1=-2, dim2=-1)
    return (own.unsqueeze(-1) + own.unsqueeze(-2)).sub(gram, alpha=2.0)


def spread_of(points: Tensor, active: Tensor) -> Tensor:
    """Return V of IMP's rule, ``[...]``: the sample variance of the active points, averaged over dimensions.

    0 below two points.
    """
    p, mask = at_least_float32(points), active.unsqueeze(-1)
    count = active.sum(dim=-1, keepdim=True).unsqueeze(-1)
    mean = (p * mask).sum(dim=-2, keepdim=True) / count.clamp_min(1)
    squares = ((p - mean) * mask).square().sum(dim=-2) / (count.squeeze(-1) - 1).clamp_min(1)
    return squares.mean(dim=-1)


def imp_threshold(spread: Tensor | float, width: int, alpha: float, variance: float) -> Tensor:
    r"""Return the squared distance beyond which IMP makes a new prototype (Infinite Mixture Prototypes, Allen 2019).

    .. math:: \lambda = -2 \sigma^2 \ln \alpha + d \sigma^2 \ln(1 + V / \sigma^2)

    It is a bound for :math:`\lVert h - p \rVert^2`; for scaled distances, divide it by d.

    Parameters
    ----------
    spread
        V, see `spread_of`.
    width
        d.
    alpha
        Concentration, in (0, 1).
    variance
        sigma^2 of a cluster.
    """
    v = torch.as_tensor(spread)
    return -2.0 * variance * math.log(alpha) + width * variance * torch.log1p(v / variance)


def _each(kappa: Tensor | float, like: Tensor) -> Tensor:
    """Bring one number per member to the shape of distances."""
    return torch.as_tensor(kappa, dtype=like.dtype, device=like.device).unsqueeze(-1)


def band(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest effective number that K prototypes should have: 3 and K/2."""
    return torch.full_like(counts, 3, dtype=torch.float32), counts / 2.0


def fitted_log_kappa(distances: Tensor, usable: Tensor, goal: float) -> float:
    """Return the logarithm of the kappa that gives responses this median effective number; by bisection.

    Parameters
    ----------
    distances, usable
        ``[N, K]``.
    goal
        Between 1 and K.
    """
    # the number falls from K at kappa 0 to 1; scaled by the distances, so that any unit is in reach
    typical = distances[usable].mean().clamp_min(1e-12).log().item() if usable.any() else 0.0
    low, high = -20.0 - typical, 20.0 - typical
    for _ in range(50):
        middle = (low + high) / 2
        found = effective_number(mixture_weights(distances, math.exp(middle), usable)).median().item()
        low, high = (middle, high) if found > goal else (low, middle)
    return (low + high) / 2
