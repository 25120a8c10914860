"""Losses of single responses: good or bad, and regression to a grade."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.objectives.pairwise import pairwise_loss
from assay.objectives.shapes import Reduction, at_least_float32, fitted, reduced


def pointwise_loss(
    scores: Tensor,
    target: Tensor | float,
    threshold: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy of single verdicts: the pairwise kernel against an opponent of known score.

    .. math:: L = w\,[\,p\,\ell(s - t) + (1-p)\,\ell(t - s)\,]

    A response that is called good (``p = 1``) should score above the threshold t, a bad one below it: KTO-style
    records, verdicts on the steps of a solution, shares of raters who approve. Unlike comparisons this fixes the
    scores themselves, not only their differences.

    Parameters
    ----------
    scores
        ``[N]`` or ``[N, members]``.
    target
        P(good) in [0, 1], a number or ``[N]``.
    threshold
        Score at which good and bad are even, a number or ``[N]``.
    weight, reduction
        As in `assay.objectives.pairwise_loss`, whose errors these are too.
    """
    return pairwise_loss(scores, target, threshold, weight, reduction)


def regression_loss(
    scores: Tensor, grades: Tensor, weight: Tensor | float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    r"""Squared error of scores against grades, ``w * (s - y)^2``; a grade that is NaN is missing and weighs nothing.

    Parameters
    ----------
    scores
        ``[N]`` or ``[N, dimensions]``, any float dtype; half precision is computed in float32.
    grades
        The same shape, in the unit that scores shall have: standardise them first.
    weight
        A number, or one per response: ``[N]``.
    reduction
        ``"mean"`` divides by the weight of the grades that are there.

    Raises
    ------
    ValueError
        If the shapes differ, or ``reduction`` is unknown.
    """
    scores, missed, there = _missed(scores, grades)
    return reduced(missed.square(), fitted(weight, scores, "weight") * there, reduction)


def quantile_loss(
    scores: Tensor,
    grades: Tensor,
    level: Tensor | float,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pinball loss: least where a share ``level`` of the grades lies below the score (Koenker and Bassett 1978).

    .. math:: L = w\,\max(\tau (y - s),\ (\tau - 1)(y - s))

    Parameters
    ----------
    scores, grades
        Of one shape, any float dtype; half precision is computed in float32. A grade that is NaN weighs nothing.
    level
        tau in (0, 1), broadcast against the scores: members may learn one quantile each.
    weight, reduction
        As in `regression_loss`.

    Raises
    ------
    ValueError
        If the shapes differ, or ``reduction`` is unknown.
    """
    scores, missed, there = _missed(scores, grades)
    tau = torch.as_tensor(level, dtype=scores.dtype, device=scores.device)
    loss = torch.maximum(tau * missed, (tau - 1.0) * missed)
    return reduced(loss, fitted(weight, scores, "weight") * there, reduction)


def _missed(scores: Tensor, grades: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scores, by how much each misses its grade (0: there is none), and which grades there are."""
    if scores.shape != grades.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, grades {tuple(grades.shape)}; expected the same")
    scores = at_least_float32(scores)
    there = ~torch.isnan(grades)
    return scores, torch.where(there, grades.to(scores.dtype), scores.detach()) - scores, there


def clipped_margins(values_a: Tensor, values_b: Tensor, limit: float) -> Tensor:
    """Return the margin of two scores that are each cut to ``[-limit, limit]`` (the safe reading of TSO's dual clip).

    Beyond its limit a side has no gradient. Where both sides of a misordered pair are beyond it nothing is learned
    from that pair, so count such pairs. An infinite limit gives plain margins.

    Raises
    ------
    ValueError
        If ``limit`` is not above 0.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}; expected a number above 0")
    return values_a.clamp(-limit, limit) - values_b.clamp(-limit, limit)
