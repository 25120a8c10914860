"""A Gaussian posterior of the last layer, at the weights that were trained (Laplace; MacKay 1992)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from assay.errors import ModelError

_ROUNDS, _ENOUGH = 100, 1e-6
_AT_ONCE = 8192


@dataclass(frozen=True)
class Laplace:
    """What the judgements leave open of the weights that a score is linear in.

    Attributes
    ----------
    factor
        L ``[D, D]`` float32: the covariance of the weights is ``L L'``.
    mean
        ``[D]`` float32: mean features of the texts that it was fitted on, against which a single score is uncertain.
    precision
        Of the prior.
    """

    factor: np.ndarray
    mean: np.ndarray
    precision: float

    def spread(self, basis: np.ndarray) -> np.ndarray:
        """Return spread vectors ``[n, D]`` of texts by their features; see `assay.scorers.uncertainty`."""
        return np.asarray(basis @ self.factor)

    def reference(self) -> np.ndarray:
        """Return the spread vector of a typical text, ``[D]``."""
        return np.asarray(self.mean @ self.factor)


def fit_laplace(
    basis: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    weight: np.ndarray,
    judged: np.ndarray,
    precision: float | None = None,
) -> Laplace:
    r"""Fit the posterior of the weights of a Bradley-Terry model.

    .. math:: \Sigma^{-1} = \lambda I + \sum_e w_e\, \sigma(D_e)(1 - \sigma(D_e))\, x_e x_e^\top, \qquad x_e = f_a - f_b

    Parameters
    ----------
    basis
        f ``[n, D]``: what the score is linear in.
    a, b
        ``[E]``: the texts of each judgement.
    weight
        ``[D]``: the trained weights.
    judged
        ``[E]``: weights w of the judgements.
    precision
        lambda > 0; None: by the evidence, whose fixed point is ``gamma / |w|^2`` with gamma the number of directions
        that the judgements decide.

    Raises
    ------
    ModelError
        If the weights are all 0, so that nothing was learned, and no precision is given.
    """
    weight = np.asarray(weight, np.float64)
    size = float(weight @ weight)
    if precision is None and size == 0:
        raise ModelError("the last layer has learned nothing, so nothing tells how far its weights may lie from 0")
    curvature = np.zeros((len(weight), len(weight)))
    for start in range(0, len(a), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        x = basis[a[part]].astype(np.float64) - basis[b[part]]
        p = expit(x @ weight)
        curvature += (x * (judged[part] * p * (1 - p))[:, None]).T @ x
    values, vectors = np.linalg.eigh(curvature)
    values = values.clip(0)
    found = precision or _by_evidence(values, size)
    factor = vectors / np.sqrt(values + found)
    return Laplace(factor.astype(np.float32), basis.mean(axis=0).astype(np.float32), found)


def _by_evidence(values: np.ndarray, size: float) -> float:
    found = max(len(values) / size, 1e-8)
    for _ in range(_ROUNDS):
        decided = float((values / (values + found)).sum())
        after = max(decided / size, 1e-8)
        if abs(after - found) <= _ENOUGH * found:
            break
        found = after
    return found
