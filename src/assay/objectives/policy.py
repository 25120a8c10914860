"""Losses of the DPO family beside the logistic kernel: other shapes of the same margins, for judgements with doubts.

The published forms know certain verdicts. With P(first better) = p each loss here is the expectation over which verdict
it is, so hard verdicts give the published form, and a swap of both responses changes nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.objectives.pairwise import pairwise_loss
from assay.objectives.shapes import Reduction, at_least_float32, fitted, reduced

Kernel = Literal["logistic", "squared", "hinge"]


def margin_loss(
    kernel: Kernel,
    delta: Tensor,
    target: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
    *,
    beta: float = 1.0,
) -> Tensor:
    r"""Return a loss of margins D that are scaled by beta; :math:`z = D - m`.

    * ``logistic``: `assay.objectives.pairwise_loss` (DPO, Rafailov et al. 2023, eq. 7);
    * ``squared``: :math:`p\,((z - 1/2)/\beta)^2 + (1-p)\,((z + 1/2)/\beta)^2` (IPO, Azar et al. 2024, eq. 17, whose
      log-ratio is :math:`D/\beta`); least at :math:`z = p - 1/2`;
    * ``hinge``: :math:`p\max(0, 1 - z) + (1-p)\max(0, 1 + z)` (SLiC, Zhao et al. 2023; on log-ratios Liu et al. 2024).

    Parameters
    ----------
    delta, target, margin, weight, reduction
        As in `assay.objectives.pairwise_loss`, whose errors these are too.
    beta
        Scale > 0 of the margins; ``squared`` takes it out again.

    Raises
    ------
    ValueError
        If the kernel is unknown, or beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; expected a number above 0")
    if kernel == "logistic":
        return pairwise_loss(delta, target, margin, weight, reduction)
    if kernel not in ("squared", "hinge"):
        raise ValueError(f"unknown kernel {kernel!r}; expected logistic, squared, hinge")
    delta = at_least_float32(delta)
    p, m, w = (fitted(v, delta, name) for v, name in ((target, "target"), (margin, "margin"), (weight, "weight")))
    z = delta - m
    if kernel == "squared":
        first, second = ((z - 0.5) / beta).square(), ((z + 0.5) / beta).square()
    else:
        first, second = (1.0 - z).clamp_min(0), (1.0 + z).clamp_min(0)
    return reduced(p * first + (1.0 - p) * second, w, reduction)


def kahneman_tversky_loss(
    scores: Tensor,
    target: Tensor | float,
    reference_point: Tensor | float = 0.0,
    weight: Tensor | float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Loss of single verdicts (KTO, Ethayarajh et al. 2024), with both :math:`\lambda` of the paper in the weight.

    .. math:: L = w\,[\,p\,(1 - \sigma(s - z_0)) + (1-p)\,(1 - \sigma(z_0 - s))\,]

    Parameters
    ----------
    scores
        ``[N]``: beta times the log-ratio of policy and reference of each response.
    target
        P(good), in [0, 1].
    reference_point
        z_0 >= 0: beta times an estimate of the divergence from the reference; no gradient goes through it.
    weight, reduction
        As in `assay.objectives.pairwise_loss`, whose errors these are too.
    """
    scores = at_least_float32(scores)
    p, zero, w = (
        fitted(v, scores, name)
        for v, name in ((target, "target"), (reference_point, "reference_point"), (weight, "weight"))
    )
    d = scores - zero.detach()
    return reduced(p * torch.sigmoid(-d) + (1.0 - p) * torch.sigmoid(d), w, reduction)


def log_odds(log_probability: Tensor) -> Tensor:
    r"""Return :math:`\log\frac{P}{1-P}` of log-probabilities below 0 (ORPO, Hong et al. 2024: of means over tokens).

    Exact where P is next to 0 or to 1; log-probabilities above -1e-6 are taken for that.
    """
    x = at_least_float32(log_probability).clamp_max(-1e-6)
    # log(1 - e^x): each form is exact where the other loses all digits
    rest = torch.where(x > -0.6931, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
    return x - rest


def harmonic_reference(log_probabilities: Tensor, weights: Tensor) -> Tensor:
    r"""Return the log-probability of a mixture of K references, :math:`\log\tilde\pi = -\log\sum_k a_k/\pi_k` (MRPO).

    The weighted harmonic mean (Le et al. 2025); it lies between the least and the greatest.

    Parameters
    ----------
    log_probabilities
        ``[K, N]``.
    weights
        a, ``[K]`` or ``[K, N]``, at least 0, with sum 1 over K.
    """
    a = weights.reshape(len(weights), -1)
    return -torch.logsumexp(torch.log(a) - at_least_float32(log_probabilities), dim=0)


def clipped_references(log_probabilities: Tensor, owners: Tensor, eta: float) -> Tensor:
    r"""Keep what further references say near what the first says (MRPO, Le et al. 2025).

    With :math:`L_0` the first one's log-probability of a reply, each other is clamped into
    :math:`[(1+\varepsilon)L_0, (1-\varepsilon)L_0]`, where :math:`\varepsilon` is eta times the share of the reply in
    the sizes of the prompt's replies, each size the absolute mean over references. The paper writes it for two replies.

    Parameters
    ----------
    log_probabilities
        ``[K, N]``, at most 0; the first row is that of the base.
    owners
        int64 ``[N]``: prompt of each reply.
    eta
        How far others may stray, at least 0; 0: all are the base.

    Raises
    ------
    ValueError
        If eta is below 0.
    """
    if eta < 0:
        raise ValueError(f"eta is {eta}; expected 0 or more")
    given = at_least_float32(log_probabilities)
    size = given.mean(dim=0).abs()
    total = torch.zeros(int(owners.max()) + 1, dtype=given.dtype, device=given.device).index_add(0, owners, size)
    wide = eta * size / total.clamp_min(1e-30)[owners]
    base = given[0]
    return torch.cat([given[:1], torch.clamp(given[1:], (1 + wide) * base, (1 - wide) * base)])


def edit_weights(log_probabilities: Tensor, edited: Tensor, delta: float) -> Tensor:
    r"""Return the weight of each token, :math:`1 + [t \in \text{edit}]\,\min(1/\pi(y_t), \delta)` (BMC).

    Parameters
    ----------
    log_probabilities
        ``[T]``: of the tokens, by the policy; no gradient goes through them (Jiang et al. 2025).
    edited
        bool ``[T]``: tokens that tell the response from the other one.
    delta
        The most that is added; 0: every weight is 1.

    Raises
    ------
    ValueError
        If delta is below 0.
    """
    if delta < 0:
        raise ValueError(f"delta is {delta}; expected 0 or more")
    more = torch.exp(-at_least_float32(log_probabilities.detach())).clamp_max(delta)
    return 1.0 + torch.where(edited, more, torch.zeros_like(more))
