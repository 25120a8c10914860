"""Terms added to the pairwise loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from assay.objectives.shapes import at_least_float32, fitted


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

    Raises
    ------
    ValueError
        If the two sides differ in shape, or ``weight`` does not fit them.
    """
    if values_a.shape != values_b.shape:
        raise ValueError(f"the two sides have shapes {tuple(values_a.shape)} and {tuple(values_b.shape)}")
    total = at_least_float32(values_a) + at_least_float32(values_b)
    return (fitted(weight, total, "weight") * total.square()).sum()


def contrastive_loss(first: Tensor, second: Tensor, temperature: float = 0.05) -> Tensor:
    r"""SimCSE: two views of one text are nearer to each other than to the other texts (Gao et al. 2021).

    .. math:: L = -\frac{1}{N} \sum_i \log \frac{e^{\cos(h_i, h_i') / \tau}}{\sum_j e^{\cos(h_i, h_j') / \tau}}

    The views are states of the same texts under two draws of dropout. A batch of one gives 0.

    Parameters
    ----------
    first, second
        States, ``[N, d]``.
    temperature
        tau > 0.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape or first.dim() != 2:
        raise ValueError(f"the two views have shapes {tuple(first.shape)} and {tuple(second.shape)}; expected [N, d]")
    one, other = (functional.normalize(at_least_float32(view), dim=-1) for view in (first, second))
    return functional.cross_entropy(one @ other.T / temperature, torch.arange(len(one), device=one.device))


def separation(scores: Tensor) -> Tensor:
    r"""How far apart scores of k responses to one prompt are: what MetaRM raises (Wang et al. 2024).

    .. math:: J = \frac{2}{k^2} \sum_{i < j} \sigma(|r_i - r_j|)

    Parameters
    ----------
    scores
        ``[..., k]``.

    Returns
    -------
    Tensor
        ``[...]``, from ``(k - 1) / (2 * k)`` for equal scores to ``(k - 1) / k``.
    """
    scores = at_least_float32(scores)
    count = scores.shape[-1]
    a, b = torch.triu_indices(count, count, offset=1, device=scores.device)
    return torch.sigmoid((scores[..., a] - scores[..., b]).abs()).sum(dim=-1) * 2.0 / count**2


def gap_correlation(margins: Tensor, gap: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    r"""Return the squared correlation of margins with a gap that they should not follow, such as that of lengths.

    .. math:: r^2 = \frac{(\sum_e w_e D_e g_e)^2}{\sum_e w_e D_e^2 \; \sum_e w_e g_e^2}

    About 0, not about the means: naming the two responses in the other order turns both signs, so the mean of either
    says nothing. Of n judgements that are independent of the gap, it is ``1 / n`` in expectation.

    Parameters
    ----------
    margins
        ``[E]`` or ``[E, members]``.
    gap
        ``[E]``, in the order of the pair; gets no gradient.
    weight
        Weight w >= 0, broadcast as in `pairwise_loss`.

    Returns
    -------
    Tensor
        In [0, 1]: a scalar, or ``[members]``; 0 where margins or gaps are all 0.
    """
    margins = at_least_float32(margins)
    g, w = fitted(gap.detach(), margins, "gap"), fitted(weight, margins, "weight")
    size = (w * margins.square()).sum(dim=0) * (w * g.square()).sum(dim=0)
    # nothing to correlate: 0/1 gives 0 and a gradient of 0, not NaN
    return (w * margins * g).sum(dim=0).square() / torch.where(size > 0, size, torch.ones_like(size))


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    r"""Return how far a positive is from being nearer than a negative by a margin (Aissi et al. 2025).

    .. math:: \max(0, \lVert z_a - z_p \rVert^2 - \lVert z_a - z_n \rVert^2 + m)

    Parameters
    ----------
    anchor, positive, negative
        States, ``[N, d]``: of a text, of the same asked otherwise, of another one asked alike.
    margin
        m, in squared units of the states.

    Returns
    -------
    Tensor
        ``[N]``, not summed: 0 where the margin is kept.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if not anchor.shape == positive.shape == negative.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (anchor, positive, negative))
        raise ValueError(f"the three states have shapes {shapes}; expected one")
    a, p, n = (at_least_float32(each) for each in (anchor, positive, negative))
    near, far = ((a - other).square().sum(dim=-1) for other in (p, n))
    return (near - far + margin).clamp_min(0.0)
