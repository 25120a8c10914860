"""Accuracies from the agreement of functions, in closed form."""

from __future__ import annotations

import numpy as np

from assay.errors import DataError
from assay.feedback.label_models.vote_table import VoteTable

_FEWEST = 3
_SMALLEST = 1e-6


def triplet_accuracies(table: VoteTable) -> np.ndarray:
    """Return the accuracy of each function, ``[m]``, from mean products of votes.

    Where votes are independent given the truth, ``E[v_i v_j] = (2 a_i - 1) (2 a_j - 1)`` over the pairs on which both
    vote, so three functions tell ``(2 a_1 - 1)^2 = E12 E13 / E23``; of all threes, the median is taken. Signs follow
    the leading eigenvector of the products, functions being right more often than wrong on the whole.

    Raises
    ------
    DataError
        If no three functions vote on pairs in common.
    """
    rows = table.rows.astype(np.float64)
    votes = np.abs(rows)
    together = (votes * table.count[:, None]).T @ votes
    mean = np.divide((rows * table.count[:, None]).T @ rows, together, out=np.zeros_like(together), where=together > 0)
    np.fill_diagonal(mean, 0.0)
    size = by_triplets(mean)
    if np.isnan(size).all():
        raise DataError(
            "no three functions vote on the same pairs, so their agreement tells no accuracy",
            expected=f"{_FEWEST} functions or more, with votes in common",
            got=f"{rows.shape[1]} functions",
            remedy="label some pairs by hand (estimator 'labels'), or add functions",
        )
    size = np.where(np.isnan(size), 0.0, size)
    leading = np.linalg.eigh(mean)[1][:, -1]
    sign = np.where(leading < 0, -1.0, 1.0)
    sign *= 1.0 if (sign * size).sum() >= 0 else -1.0
    voted = np.diag(together)
    most = voted / (voted + 2.0)  # as of a function that was never wrong
    return np.asarray(0.5 + 0.5 * np.clip(sign * size, -most, most))


def by_triplets(mean: np.ndarray) -> np.ndarray:
    """Return ``|2 a_j - 1|`` of each function, ``[m]``, from mean products ``[m, m]``; NaN where no three tell it.

    Examples
    --------
    >>> import numpy as np
    >>> by_triplets(np.array([[0, 0.24, 0.12], [0.24, 0, 0.08], [0.12, 0.08, 0]])).round(6)
    array([0.6, 0.4, 0.2])
    """
    functions = len(mean)
    found = np.full(functions, np.nan)
    upper = np.triu(np.ones((functions, functions), bool), 1) & (np.abs(mean) > _SMALLEST)
    for j in range(functions):
        usable = upper.copy()
        usable[j, :] = usable[:, j] = False
        one, other = np.nonzero(usable)
        if len(one):
            found[j] = np.median(np.sqrt(np.abs(mean[j, one] * mean[j, other] / mean[one, other])))
    return found
