"""List losses: all responses of a prompt at once, against their grades."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.objectives.shapes import Reduction, at_least_float32, reduced


def listnet_loss(
    scores: Tensor,
    grades: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""ListNet with the top-one probabilities (Cao et al. 2007), the list loss of Offline-RaM.

    .. math:: L = -\sum_j \mathrm{softmax}(y)_j \, \log \mathrm{softmax}(s)_j

    With two responses it is the soft Bradley-Terry loss with ``p = sigmoid(y_1 - y_2)``. A constant added to all
    scores or to all grades of a list changes nothing. The least value is the entropy of ``softmax(y)``, at scores that
    equal the grades up to a constant: so the unit of the grades matters: divide them by a temperature.

    Parameters
    ----------
    scores, grades
        ``[..., k]``: scores and grades of the k responses of each list, any float dtype. Half precision is computed in
        float32. Entries outside the mask may hold anything, NaN included.
    mask
        ``[..., k]`` bool, True where there is a graded response; None: wherever the grade is not NaN.
    weight
        Weight w >= 0 of each list, a number or ``[...]``. A list of fewer than two responses has weight 0.
    reduction
        As in `pairwise_loss`, over lists.

    Returns
    -------
    Tensor
        A scalar, or ``[...]`` for ``"none"``.

    Raises
    ------
    ValueError
        If the shapes do not fit, or ``reduction`` is unknown.

    Examples
    --------
    >>> listnet_loss(torch.tensor([0.5, 0.0, -1.0]), torch.tensor([2.0, 1.0, 0.0])).item()  # doctest: +ELLIPSIS
    0.86154...
    """
    scores, grades, mask, w = _lists(scores, grades, mask, weight)
    # -inf would make 0 * inf of the entries left out
    log_share = torch.where(mask, F.log_softmax(scores.masked_fill(~mask, _lowest(scores)), dim=-1), 0.0)
    share = torch.where(mask, F.softmax(grades.masked_fill(~mask, _lowest(grades)), dim=-1), 0.0)
    return reduced(-(share * log_share).sum(dim=-1), w, reduction)


def listmle_loss(
    scores: Tensor,
    grades: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""ListMLE: the likelihood of the order of the grades under Plackett-Luce (Xia et al. 2008).

    .. math:: L = \sum_i \big( \log \sum_{j \ge i} e^{s_{\pi(j)}} - s_{\pi(i)} \big)

    with pi the order of falling grades. Grades count as an order only. Of equal grades each is drawn from all that are
    no better (Breslow's form), so that their order in the columns is no matter. Parameters, result and errors are those
    of `listnet_loss`.
    """
    scores, grades, mask, w = _lists(scores, grades, mask, weight)
    order = grades.masked_fill(~mask, _lowest(grades)).argsort(dim=-1, descending=True, stable=True)
    ordered, kept = scores.gather(-1, order), mask.gather(-1, order)
    ordered = ordered.masked_fill(~kept, _lowest(scores))
    rest = torch.logcumsumexp(ordered.flip(-1), dim=-1).flip(-1)
    falling = grades.gather(-1, order)
    place = torch.arange(falling.shape[-1], device=falling.device).expand_as(order)
    begins = torch.cat([torch.ones_like(kept[..., :1]), falling[..., 1:] != falling[..., :-1]], dim=-1)
    rest = rest.gather(-1, torch.where(begins, place, 0).cummax(dim=-1).values)
    return reduced(torch.where(kept, rest - ordered, 0.0).sum(dim=-1), w, reduction)


def _lists(
    scores: Tensor, grades: Tensor, mask: Tensor | None, weight: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check shapes; return scores, grades, mask, and the weight of each list."""
    if scores.shape != grades.shape or scores.dim() == 0 or (mask is not None and mask.shape != scores.shape):
        shapes = {"scores": scores.shape, "grades": grades.shape} | ({} if mask is None else {"mask": mask.shape})
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(f"scores, grades and mask must have one shape, [..., k]; came {found}")
    scores, grades = at_least_float32(scores), at_least_float32(grades)
    mask = ~torch.isnan(grades) if mask is None else mask & ~torch.isnan(grades)
    w = torch.as_tensor(weight, dtype=scores.dtype, device=scores.device)
    if w.dim() and w.shape != scores.shape[:-1]:
        raise ValueError(f"weight has shape {tuple(w.shape)}; expected a number or {tuple(scores.shape[:-1])}")
    w = w.expand(scores.shape[:-1]) * (mask.sum(dim=-1) > 1)
    # what is masked must not reach the gradient, whatever it is
    scores = torch.where(mask, scores, torch.zeros_like(scores))
    return scores, torch.where(mask, grades, torch.zeros_like(grades)), mask, w


def _lowest(like: Tensor) -> float:
    return torch.finfo(like.dtype).min / 4
