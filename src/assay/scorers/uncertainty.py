"""Scores that know how sure they are: several members, or a posterior of the last layer, in one form.

Whatever the source, an uncertain scorer gives a score per text and a *spread* vector such that the deviation of a
margin is the length of the difference of two spread vectors. Members: the deviations of their scores from the mean,
over sqrt(M), which is the population standard deviation of the members' margins. A Gaussian posterior of the last layer
with covariance ``L L'``: the text's features times L. Offsets that a member adds to all scores, which Bradley-Terry
leaves free, cancel in margins, and in scores once they are seen against a reference (`centred`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Reduction = Literal["mean", "lcb", "min"]
_AT_ONCE = 65_536


def reduced(values: np.ndarray, how: Reduction = "mean", b: float = 1.0) -> np.ndarray:
    """Reduce members along the last axis, ``[..., M]`` to ``[...]``, float64 (Zhang et al. 2024; Coste et al. 2024).

    Parameters
    ----------
    values
        Margins of members, or scores that are centred: their offsets differ.
    how
        ``"mean"``; ``"lcb"``: mean minus ``b`` population standard deviations; ``"min"``.
    b
        Of the lower confidence bound, >= 0.

    Raises
    ------
    ValueError
        If ``how`` is unknown, or b below 0.
    """
    values = np.asarray(values, np.float64)
    if how == "mean":
        return np.asarray(values.mean(axis=-1))
    if how == "min":
        return np.asarray(values.min(axis=-1))
    if how != "lcb" or b < 0:
        raise ValueError(f"expected mean, lcb or min, and b of at least 0; got {how!r} and {b}")
    return np.asarray(values.mean(axis=-1) - b * values.std(axis=-1))


def spread_of_members(values: np.ndarray) -> np.ndarray:
    """Return spread vectors ``[n, M]`` of the scores of members ``[n, M]``."""
    values = np.asarray(values, np.float64)
    return np.asarray((values - values.mean(axis=-1, keepdims=True)) / np.sqrt(values.shape[-1]))


def margin_std(spread: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the standard deviation of margins ``[E]`` of texts a over b, which are rows of ``spread`` ``[n, D]``."""
    found = np.empty(len(a))
    for start in range(0, len(a), _AT_ONCE):  # a difference is as large as two rows
        part = slice(start, start + _AT_ONCE)
        found[part] = np.linalg.norm(spread[a[part]] - spread[b[part]], axis=-1)
    return found


def centred(spread: np.ndarray, prompt: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Return spread vectors ``[n, D]`` against those of other responses to the same prompt.

    Parameters
    ----------
    spread
        ``[n, D]``.
    prompt
        ``[n]``: which prompt each text answers. Where it has several answers their mean is taken off.
    reference
        ``[D]``: taken off where an answer is alone; None: 0.
    """
    _, index, counts = np.unique(prompt, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), spread.shape[1]))
    np.add.at(sums, index, spread)
    mean = (sums / counts[:, None])[index]
    alone = (counts == 1)[index]
    mean[alone] = 0.0 if reference is None else reference
    return np.asarray(spread - mean)
