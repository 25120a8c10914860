"""Scores that know how sure they are: several members, or a posterior of the last layer, in one form.

Whatever the source, an uncertain scorer gives a score per text and a *spread* vector such that the deviation of a
margin is the length of the difference of two spread vectors. Members: the deviations of their scores from the mean,
over sqrt(M), which is the population standard deviation of the members' margins. A Gaussian posterior of the last layer
with covariance ``L L'``: the text's features times L. Offsets that a member adds to all scores, which Bradley-Terry
leaves free, cancel in margins, and in scores once they are seen against a reference (`centred`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

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


@dataclass(frozen=True)
class Spread:
    """How uncertain scores are, and how far together.

    Attributes
    ----------
    vectors
        ``[n, S]``, see above.
    apart
        Whether each text's deviation is its own, of shape ``[n, 1]``: nothing tells how two of them go together, so
        the deviation of a margin is the root of the sum of both squares.
    """

    vectors: np.ndarray
    apart: bool = False

    def of_margins(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the standard deviation of margins ``[E]`` of texts a over b, which are rows of the vectors."""
        found = np.empty(len(a))
        for start in range(0, len(a), _AT_ONCE):  # a difference is as large as two rows
            part = slice(start, start + _AT_ONCE)
            one, other = self.vectors[a[part]], self.vectors[b[part]]
            found[part] = np.hypot(one, other)[:, 0] if self.apart else np.linalg.norm(one - other, axis=-1)
        return found

    def against(self, prompt: np.ndarray, reference: np.ndarray | None = None) -> Spread:
        """Return the same against other responses to the same prompt: of scores, whose zero is free.

        Parameters
        ----------
        prompt
            ``[n]``: which prompt each text answers. Where it has several answers their mean is taken off.
        reference
            ``[S]``: taken off where an answer is alone; None: 0.
        """
        if self.apart:
            return self
        _, index, counts = np.unique(prompt, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), self.vectors.shape[1]))
        np.add.at(sums, index, self.vectors)
        mean = (sums / counts[:, None])[index]
        mean[(counts == 1)[index]] = 0.0 if reference is None else reference
        return Spread(self.vectors - mean)

    def deviations(self) -> np.ndarray:
        """Return the standard deviation of each score, ``[n]``."""
        return np.asarray(np.linalg.norm(self.vectors, axis=1))

    def joined(self, *others: Spread) -> Spread:
        """Return this and further texts."""
        return Spread(np.concatenate([self.vectors, *(other.vectors for other in others)]), self.apart)


def spread_of_members(values: np.ndarray) -> Spread:
    """Return the spread of the scores of members ``[n, M]``."""
    values = np.asarray(values, np.float64)
    return Spread(np.asarray((values - values.mean(axis=-1, keepdims=True)) / np.sqrt(values.shape[-1])))


def spread_of_quantiles(values: np.ndarray, levels: Sequence[float]) -> Spread:
    """Return the spread of predicted quantiles ``[n, Q]``: the deviation of the normal that fits them best, or 0."""
    z = norm.ppf(np.asarray(levels))
    z = z - z.mean()
    slope = (np.asarray(values, np.float64) @ z) / (z @ z)
    return Spread(np.maximum(slope, 0.0)[:, None], apart=True)
