"""Functions that share what they know: a label model that does not count the same evidence twice."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import logit

from assay.errors import ConfigError
from assay.feedback.label_models.interface import LabelModel, labelled_accuracy
from assay.feedback.label_models.vote_table import VoteTable, distinct

_LEAST_RIDGE = 0.005
_FEW_TOGETHER = 20.0  # common votes at which a correlation counts half
_CHUNK = 8_000_000  # numbers of a stack of matrices that are solved together


class CorrelatedLabelModel(LabelModel):
    r"""Weights of votes that allow for what functions have in common beyond the truth.

    Let :math:`y = \pm 1` be the truth, :math:`\mu_j = 2 a_j - 1` the mean of :math:`v_j y` where function j votes,
    :math:`\sigma_j^2 = 1 - \mu_j^2` its variance, and

    .. math:: R_{ij} = \frac{E[v_i v_j] - \mu_i \mu_j}{\sigma_i \sigma_j}

    the correlation of two functions' errors. For the set S of functions that vote on a pair,

    .. math::
        \mathrm{logit} P(\text{first}) = \sum_{j \in S} w_j v_j, \qquad
        \sigma w = (R'_S + \lambda I)^{-1} \big(\sigma \,\mathrm{logit}(a)\big)_S , \qquad R' = (1 - \tau) R + \tau I.

    Where errors are independent these are the weights of `SymmetricLabelModel`; with :math:`\tau = 0` copies of a
    function share one weight between them. But functions also agree because two responses differ much, and then are
    right more often than R allows for, so by default R is drawn halfway to I. (Linear discriminant analysis has
    :math:`\mu / \sigma` in place of :math:`\sigma\,\mathrm{logit}(a)`, equal for weak functions, and is too sure of
    strong ones.) Agreement :math:`E[v_i v_j]`, which has most of the unknowns, is learned from all pairs, labelled or
    not; labels have to tell one number a function. With few labels these numbers are drawn to their common mean,
    halfway as far as chance explains their differences (DerSimonian and Laird 1986). Both halves were chosen,
    against none and all, on judgements that studies/label_models.py does not use. Swapping the responses turns P into
    1 - P exactly.

    Parameters
    ----------
    spread
        Deviation of the weights beforehand: :math:`\lambda = 1 / (n \cdot \mathrm{spread}^2)` with n labelled pairs,
        the ridge that belongs to noise of size :math:`R / n` on the right-hand side.
    independence
        :math:`\tau`, from 0 (what functions have in common counts once) to 1 (they are taken to err independently).

    Attributes
    ----------
    correlation
        float64 ``[m, m]``: R, made positive semi-definite.
    """

    name: ClassVar[str] = "correlated"

    def __init__(self, *, spread: float = 0.25, independence: float = 0.5) -> None:
        if not 0 <= independence <= 1:
            raise ConfigError("this is no share", where="independence", expected="0 to 1", got=str(independence))
        self.spread, self.independence = spread, independence
        self.correlation: np.ndarray | None = None
        self.ridge = 0.0

    @property
    def needs_labels(self) -> bool:
        """Always: votes alone do not tell agreement in truth from agreement in error."""
        return True

    def _functions(self) -> int | None:
        return None if self.accuracy is None else len(self.accuracy)

    def _learn(self, table: VoteTable) -> None:
        rows = table.rows.astype(np.float64)
        votes = np.abs(rows)
        self.accuracy = _towards_their_mean(labelled_accuracy(table), table.labelled @ votes)
        together = (votes * table.count[:, None]).T @ votes
        products = (rows * table.count[:, None]).T @ rows
        agreement = np.divide(products, together, out=np.zeros_like(products), where=together > 0)
        self.correlation = _of_errors(agreement, together, 2.0 * self.accuracy - 1.0)
        self.ridge = max(1.0 / (table.labelled.sum() * self.spread**2), _LEAST_RIDGE)

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        patterns, pattern = distinct((rows != 0).astype(np.int8))
        return np.asarray((rows * self._weights(patterns != 0)[pattern]).sum(axis=1))

    def _weights(self, patterns: np.ndarray) -> np.ndarray:
        """Return the weights ``[P, m]`` of the functions that vote, bool ``[P, m]``."""
        assert self.accuracy is not None and self.correlation is not None
        deviation = 2.0 * np.sqrt(self.accuracy * (1.0 - self.accuracy))
        wanted = deviation * logit(self.accuracy)
        diagonal = (1.0 + self.ridge) * np.eye(len(wanted))
        between = (1.0 - self.independence) * self.correlation * (diagonal == 0)
        found = np.empty(patterns.shape)
        step = max(1, _CHUNK // len(wanted) ** 2)
        for start in range(0, len(patterns), step):
            there = patterns[start : start + step]
            # functions that abstain are uncoupled, and stand with a weight of 0
            matrix = between * (there[:, :, None] & there[:, None, :]) + diagonal
            found[start : start + step] = np.linalg.solve(matrix, (wanted * there)[:, :, None])[:, :, 0]
        return found / deviation


def _towards_their_mean(accuracy: np.ndarray, voted: np.ndarray) -> np.ndarray:
    """Draw accuracies ``[m]`` to their mean, half as far as the noise of so many votes explains their differences."""
    number = voted + 2.0
    middle = (number * accuracy).sum() / number.sum()
    noise = middle * (1.0 - middle) / number
    precision = 1.0 / noise
    mean = (precision * accuracy).sum() / precision.sum()
    surplus = (precision * (accuracy - mean) ** 2).sum() - (len(accuracy) - 1)
    scale = precision.sum() - (precision**2).sum() / precision.sum()
    true_variance = max(0.0, surplus / scale) if scale > 0 else 0.0
    drawn = mean + true_variance / (true_variance + noise) * (accuracy - mean)
    return np.asarray(0.5 * (drawn + accuracy))


def _of_errors(agreement: np.ndarray, together: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the correlation matrix of the functions' errors, ``[m, m]``, without negative eigenvalues.

    Functions that seldom vote on one pair are drawn to independence, as nothing tells otherwise.
    """
    deviation = np.sqrt(1.0 - truth**2)
    found = (agreement - np.outer(truth, truth)) / np.outer(deviation, deviation)
    found = np.clip(found, -1.0, 1.0) * together / (together + _FEW_TOGETHER)
    np.fill_diagonal(found, 1.0)
    values, vectors = np.linalg.eigh(found)
    found = (vectors * np.maximum(values, 0.0)) @ vectors.T
    size = np.sqrt(np.diag(found))
    return np.asarray(found / np.outer(size, size))
