"""Judging what policies write: win rates with and without length, divergence, best of n, and what was unlearned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import comb, expit
from scipy.stats import spearmanr

from assay.evaluation.intervals import RESAMPLES, SHARE, Bounds, Estimate, GroupBootstrap

#: Ridge on both coefficients of `length_controlled`, in judgements: where one side always wins, the rate stays below 1.
_RIDGE = 0.01
_STEPS = 25


@dataclass(frozen=True)
class WinRate:
    """How often one policy's responses are preferred to another's.

    Attributes
    ----------
    rate
        Mean of P(ours preferred); a tie is one half.
    controlled
        The same at equal length (`length_controlled`).
    longer
        Mean length of ours over that of theirs.
    wins, ties, losses
        Counts.
    """

    rate: Estimate
    controlled: Estimate
    longer: float
    wins: int
    ties: int
    losses: int

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        return {k: v.to_dict() if isinstance(v, Estimate) else v for k, v in vars(self).items()}


def win_rate(
    preferred: np.ndarray,
    own_length: np.ndarray,
    other_length: np.ndarray,
    groups: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> WinRate:
    """Compare two policies on the same prompts.

    Parameters
    ----------
    preferred
        ``[n]`` in [0, 1]: P(ours is preferred), 0.5 for a tie; hard verdicts are 0 and 1.
    own_length, other_length
        ``[n]``: of the responses, in any one unit.
    groups
        ``[n]``: what is resampled together, such as prompts.
    resamples, seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        If nothing is compared, or a preference is outside [0, 1].
    """
    preferred = np.asarray(preferred, np.float64)
    if not len(preferred) or not ((preferred >= 0) & (preferred <= 1)).all():
        raise ValueError("win rates need preferences from 0 to 1, at least one")
    ones = np.ones(len(preferred))
    bootstrap = GroupBootstrap(groups, resamples, seed)
    gap = _standard(np.asarray(own_length, np.float64) - np.asarray(other_length, np.float64))
    return WinRate(
        rate=bootstrap.ratio(preferred, ones, between=SHARE),
        controlled=bootstrap.resampled(lambda rows: length_controlled(preferred[rows], gap[rows]), resamples // 4),
        longer=float(np.mean(own_length) / max(float(np.mean(other_length)), 1e-9)),
        wins=int((preferred > 0.5).sum()),
        ties=int((preferred == 0.5).sum()),
        losses=int((preferred < 0.5).sum()),
    )


def length_controlled(preferred: np.ndarray, gap: np.ndarray) -> float:
    r"""Return the win rate at equal length, in [0, 1].

    A logistic regression :math:`\mathrm{logit}\,P = \theta + \phi\tanh(g)` of preferences on the standardised gap of
    lengths, read at g = 0: length-controlled AlpacaEval (Dubois et al. 2024) without its term for each instruction,
    which needs many policies on the same prompts.

    Parameters
    ----------
    preferred
        ``[n]`` in [0, 1].
    gap
        ``[n]``: length of ours minus theirs over the standard deviation of this.
    """
    design = np.stack([np.ones(len(gap)), np.tanh(gap)], axis=1)
    found = np.zeros(2)
    for _ in range(_STEPS):
        p = expit(design @ found)
        slope = design.T @ (preferred - p) - _RIDGE * found
        curve = (design * (p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(curve, slope)
        # a full Newton step may run away where almost all is won
        found = found + step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
    return float(expit(found[0]))


def _standard(gap: np.ndarray) -> np.ndarray:
    spread = gap.std()
    return gap / spread if spread > 0 else np.zeros_like(gap)


def divergence(
    own: np.ndarray, reference: np.ndarray, tokens: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    r"""Estimate KL(policy, reference) from the policy's own samples, in nats.

    Parameters
    ----------
    own, reference
        ``[n]``: log-probabilities of each sample by the policy and by the reference, whole responses with what ends
        them, sampled at temperature 1 without cutting off what is improbable.
    tokens
        ``[n]``: tokens of each.
    groups
        ``[n]``: prompts.
    resamples
        Of the bootstrap.

    Returns
    -------
    dict
        ``per_response``: the mean of log-ratios, which is unbiased (k1); ``per_token``: their sum over all tokens.
    """
    ratio = np.asarray(own, np.float64) - np.asarray(reference, np.float64)
    bootstrap, ones = GroupBootstrap(groups, resamples), np.ones(len(ratio))
    each = np.asarray(tokens, np.float64)
    return {"per_response": bootstrap.ratio(ratio, ones), "per_token": bootstrap.ratio(ratio / each, each)}


def agreement(proxy: np.ndarray, gold: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Say how far two scorers agree on pairs of responses, whatever their scales: a recovered reward and the true one.

    Parameters
    ----------
    proxy, gold
        ``[n, 2]``: scores of both responses of n pairs.
    groups
        ``[n]``: prompts.
    resamples
        Of the bootstrap.

    Returns
    -------
    dict
        ``same_order``: `Estimate` of the share of pairs that both order alike, of those that gold orders (an equal
        proxy is half right); ``rank``: Spearman's correlation over all responses.
    """
    margins = [np.asarray(each, np.float64)[:, 0] - np.asarray(each, np.float64)[:, 1] for each in (proxy, gold)]
    decided = margins[1] != 0
    alike = np.where(margins[0] == 0, 0.5, np.sign(margins[0]) == np.sign(margins[1]))[decided].astype(np.float64)
    same = (
        GroupBootstrap(groups[decided], resamples).ratio(alike, np.ones(len(alike)), between=SHARE)
        if decided.any()
        else None
    )
    rank = spearmanr(np.ravel(proxy), np.ravel(gold)).statistic if np.ptp(proxy) and np.ptp(gold) else 0.0
    return {"same_order": same, "rank": float(rank)}


def best_of(
    proxy: np.ndarray,
    gold: np.ndarray,
    counts: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    groups: np.ndarray | None = None,
    between: Bounds | None = None,
) -> list[dict[str, Any]]:
    r"""Return what choosing the best of n samples by a proxy is worth, for several n.

    The mean over all subsets of n of the N samples of a prompt (no subset is drawn): sample i of rank r by the proxy
    is the best of :math:`\binom{r-1}{n-1}` of the :math:`\binom{N}{n}`. The divergence from the sampling policy is at
    most :math:`\log n - (n-1)/n` nats (Beirami et al. 2024).

    Parameters
    ----------
    proxy, gold
        ``[prompts, N]``: scores of the samples by who chooses, and by who judges. Equal proxies are put in order by
        place.
    counts
        Values of n, from 1 to N.
    resamples
        Of the bootstrap over prompts.
    groups
        ``[prompts]``: prompts of one group are drawn together; None: each is one.
    between
        Bounds of ``gold`` (`GroupBootstrap.ratios`).

    Returns
    -------
    list
        For each n: ``n``, ``divergence``, and `Estimate` of ``proxy`` and ``gold``.

    Raises
    ------
    ValueError
        If an n is out of range.
    """
    prompts, samples = proxy.shape
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked = [np.take_along_axis(each.astype(np.float64), order, axis=1) for each in (proxy, gold)]
    drawn = np.arange(prompts) if groups is None else groups
    bootstrap, ones, found = GroupBootstrap(drawn, resamples), np.ones(prompts), []
    for n in counts:
        if not 1 <= n <= samples:
            raise ValueError(f"best of {n} of {samples} samples; expected 1 to {samples}")
        weights = best_of_weights(samples, n)
        means = [
            bootstrap.ratio(each @ weights, ones, between=own)
            for each, own in zip(ranked, (None, between), strict=True)
        ]
        found.append({"n": n, "divergence": float(np.log(n) - (n - 1) / n), "proxy": means[0], "gold": means[1]})
    return found


def best_of_weights(samples: int, n: int) -> np.ndarray:
    """Return how often each of N samples, worst first, is the best of n over all subsets of n: float64 ``[N]``."""
    return np.asarray(comb(np.arange(samples), n - 1) / comb(samples, n), np.float64)


def perplexity(
    log_probability: np.ndarray, tokens: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES
) -> Estimate:
    """Return exp of minus the mean log-probability of a token, over texts; a rise shows what training unlearned.

    Parameters
    ----------
    log_probability, tokens
        ``[n]``: of each text, and how many tokens it has.
    groups
        ``[n]``: texts that belong together.
    resamples
        Of the bootstrap.
    """
    each = np.asarray(tokens, np.float64)
    mean = GroupBootstrap(groups, resamples).ratio(-np.asarray(log_probability, np.float64) / each, each)
    interval = (float(np.exp(mean.ci95[0])), float(np.exp(mean.ci95[1]))) if mean.ci95 else None
    return Estimate(float(np.exp(mean.value)), interval, mean.n)
