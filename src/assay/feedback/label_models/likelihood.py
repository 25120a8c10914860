"""The likelihood of votes whose truth nobody told, and its top: where EM would end, reached in far fewer steps."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from assay.feedback.label_models.vote_table import VoteTable

_ROUNDS = 1000


def most_likely(table: VoteTable, *, prior: float | None, tied: bool) -> tuple[np.ndarray, np.ndarray, float, bool]:
    r"""Return the rates of right votes where the first is better and where the second is, P(first), and if it settled.

    The logarithm of the likelihood of votes independent given the truth, labels taken where there are some,

    .. math:: \sum_u \log \Big( \pi \prod_j P(v_{uj} \mid \text{first}) +
        (1 - \pi) \prod_j P(v_{uj} \mid \text{second}) \Big) + \sum_k \log \theta_k (1 - \theta_k)

    is climbed by L-BFGS in the log-odds of the rates. The last sum, over all free rates, adds one right and one wrong
    vote each. The climb starts from the share of votes, and so takes functions to be right on the whole.

    Parameters
    ----------
    table
        Votes, and labels if any.
    prior
        P(first); None: learned too.
    tied
        One rate a function for both cases.
    """
    rows = table.rows.astype(np.float64)
    for_first, for_second = (rows > 0).astype(np.float64), (rows < 0).astype(np.float64)
    free = table.count - table.labelled
    functions, total = rows.shape[1], table.count.sum()

    def unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        first = packed[:functions]
        second = first if tied else packed[functions : 2 * functions]
        return first, second, float(np.log(prior / (1.0 - prior)) if prior is not None else packed[-1])

    def slope_and_value(packed: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, odds = unpacked(packed)
        if_first = log_expit(odds) + for_first @ log_expit(a) + for_second @ log_expit(-a)
        if_second = log_expit(-odds) + for_second @ log_expit(b) + for_first @ log_expit(-b)
        posterior = expit(if_first - if_second)
        value = free @ np.logaddexp(if_first, if_second) + table.first @ if_first + table.second @ if_second
        first, second = free * posterior + table.first, free * (1.0 - posterior) + table.second
        slope_a = first @ for_first - (first @ (for_first + for_second)) * expit(a)
        slope_b = second @ for_second - (second @ (for_first + for_second)) * expit(b)
        slopes = [slope_a + slope_b] if tied else [slope_a, slope_b]
        if prior is None:
            slopes.append(np.array([first.sum() - (first.sum() + second.sum()) * expit(odds)]))
        value += (log_expit(packed) + log_expit(-packed)).sum()
        slope = np.concatenate(slopes) + 1.0 - 2.0 * expit(packed)
        return -float(value) / total, -slope / total

    start = _by_share_of_votes(table, for_first, for_second, free, tied)
    found = minimize(
        slope_and_value,
        start if prior is not None else np.append(start, 0.0),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ROUNDS, "ftol": 1e-13, "gtol": 1e-8},
    )
    a, b, odds = unpacked(found.x)
    return expit(a), expit(b), float(expit(odds)), bool(found.success)


def _by_share_of_votes(
    table: VoteTable, for_first: np.ndarray, for_second: np.ndarray, free: np.ndarray, tied: bool
) -> np.ndarray:
    """Return log-odds of the rates, the truth of a row taken to be the share of its votes, drawn to one half."""
    posterior = (for_first.sum(axis=1) + 0.5) / ((for_first + for_second).sum(axis=1) + 1.0)
    first, second = free * posterior + table.first, free * (1.0 - posterior) + table.second
    right = np.stack([first @ for_first, second @ for_second])
    wrong = np.stack([first @ for_second, second @ for_first])
    if tied:
        right, wrong = right.sum(axis=0, keepdims=True), wrong.sum(axis=0, keepdims=True)
    return np.asarray(np.log(right + 1.0) - np.log(wrong + 1.0)).ravel()
