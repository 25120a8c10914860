"""The one pairwise kernel: Bradley-Terry with a soft target, an additive margin and a weight."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from assay.objectives.shapes import Reduction, at_least_float32, fitted, reduced


def pairwise_loss(
    delta: Tensor,
    target: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Soft Bradley-Terry loss of score margins.

    .. math:: L = w\,[\,p\,\ell(D-m) + (1-p)\,\ell(-(D-m))\,], \qquad \ell(z) = -\log\sigma(z)

    Its gradient is ``dL/dD = w * (sigmoid(D - m) - p)``. For ``0 < p < 1`` the only optimum is ``D = m + logit(p)``,
    with value ``w`` times the binary entropy of ``p``; for ``p`` of 0 or 1 there is none. With ``m = 0`` and ``p = 1``
    this is the Bradley-Terry loss of Ouyang et al. (2022, eq. 1); ``p = 1 - eps`` is label smoothing; a constant
    ``m`` is the margin loss of Touvron et al. (2023, eq. 2).

    Parameters
    ----------
    delta
        Margins D of the first response over the second, any float dtype, shape ``[E]`` or ``[E, members]``. Half
        precision is computed in float32; float64 stays float64.
    target
        P(first better), in [0, 1]; broadcast against ``delta``, a ``[E]`` target against ``[E, members]`` too.
    margin
        Additive margin m, in score units, stated in the order of the pair.
    weight
        Weight w >= 0 of each judgement.
    reduction
        ``"mean"`` is ``sum(w*l) / sum(w)`` (0 with zero gradient where all weights are 0), ``"sum"`` is ``sum(w*l)``,
        ``"none"`` keeps ``w*l`` per entry. Over several micro-batches, sum them and divide by the weight of all of
        them: the mean of means is something else.

    Returns
    -------
    Tensor
        A scalar, or the shape of ``delta`` for ``"none"``; float32 or float64.

    Raises
    ------
    ValueError
        If ``reduction`` is unknown, or a shape does not broadcast to that of ``delta``.

    Examples
    --------
    >>> pairwise_loss(torch.tensor([1.0]), target=0.8, margin=0.5).item()  # doctest: +ELLIPSIS
    0.57407...
    """
    delta = at_least_float32(delta)
    p, m, w = (
        fitted(value, delta, name) for value, name in ((target, "target"), (margin, "margin"), (weight, "weight"))
    )
    z = delta - m
    # softplus(-z) = -log sigmoid(z), linear instead of infinite at large |z|
    return reduced(p * F.softplus(-z) + (1.0 - p) * F.softplus(z), w, reduction)
