"""Terms added to the pairwise loss."""

from __future__ import annotations

from torch import Tensor

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
