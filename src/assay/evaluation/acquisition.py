"""Which unlabelled pairs tell most when they are judged: numbers per pair, and a choice that does not repeat itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, xlogy

#: Points of the Gauss-Hermite rule: margins of one pair are nearly normal, so few are enough.
_POINTS = 32


def binary_entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy of a yes or no of probability p, in nats."""
    p = np.asarray(p, np.float64)
    return np.asarray(-xlogy(p, p) - xlogy(1 - p, 1 - p))


def information_gain(
    margin: np.ndarray, std: np.ndarray, probability: Callable[[np.ndarray], np.ndarray] = expit
) -> np.ndarray:
    r"""Return what a judgement would tell of the model, in nats (BALD; Houlsby et al. 2011).

    .. math:: I = H(\mathbb E\,P(z)) - \mathbb E\,H(P(z)), \qquad z \sim N(m, s^2)

    High where the model is unsure because it knows little, low where it knows that the pair is a toss-up.

    Parameters
    ----------
    margin, std
        Margins and their standard deviations, ``[E]``.
    probability
        Of margins, calibrated if these are not; the logistic function of calibrated ones.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    weights = weights / weights.sum()
    p = probability(np.asarray(margin, np.float64)[:, None] + np.asarray(std, np.float64)[:, None] * nodes)
    return np.asarray(np.maximum(binary_entropy(p @ weights) - binary_entropy(p) @ weights, 0.0))


def spread_out(vectors: np.ndarray, value: np.ndarray, count: int, pool: int) -> np.ndarray:
    """Choose ``count`` of the ``pool`` pairs of highest value so that no two are much alike: farthest first.

    Parameters
    ----------
    vectors
        ``[E, d]``: what tells the two responses of each pair apart. A pair and itself the other way round are the same,
        so the sign does not count.
    value
        ``[E]``; the first choice is the highest.
    count, pool
        How many are chosen, from how many.

    Returns
    -------
    ndarray
        int64 ``[count]`` indices in the order of choice; fewer where there are fewer pairs.
    """
    best = np.argsort(-value, kind="stable")[: max(pool, count)]
    size = np.linalg.norm(vectors[best], axis=1, keepdims=True)
    unit = vectors[best] / np.where(size > 0, size, 1.0)
    chosen = [0] if len(best) else []
    near = np.abs(unit @ unit[0]) if len(best) else np.zeros(0)
    while len(chosen) < min(count, len(best)):
        near[chosen[-1]] = np.inf
        following = int(near.argmin())
        chosen.append(following)
        near = np.maximum(near, np.abs(unit @ unit[following]))
    return best[np.array(chosen, np.int64)]
