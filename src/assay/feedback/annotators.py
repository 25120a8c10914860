"""Several annotators of one pair: how far they agree, how good each is, and what the pair's target is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import krippendorff
import numpy as np
from scipy.special import expit

from assay.errors import DataError
from assay.feedback.algebra import swap
from assay.feedback.pairs import Pairs

_ROUNDS = 500
_STILL = 1e-8


@dataclass(frozen=True)
class Votes:
    """The judgements of V votes on U pairs by A annotators, pairs brought into one order.

    Attributes
    ----------
    unit, annotator
        int64 ``[V]``.
    verdict
        ``[V]``: 1 first better, 0 second better, 0.5 tie or, from a soft judgement, its probability.
    first
        int64 ``[U]``: a judgement of each pair, whose order the verdicts are not in but whose row, a and b say which.
    names
        Annotators, in order of their number; judgements without one share the name of their source.
    named
        bool ``[V]``: whether an annotator's own name stands by a vote.
    """

    unit: np.ndarray
    annotator: np.ndarray
    verdict: np.ndarray
    first: np.ndarray
    names: list[str]
    named: np.ndarray


def votes(given: Pairs) -> Votes:
    """Gather the votes on each pair of responses, whichever was named first."""
    turned = given.a > given.b
    low, high = np.where(turned, given.b, given.a), np.where(turned, given.a, given.b)
    _, first, unit = np.unique(np.stack([given.row, low, high], axis=1), axis=0, return_index=True, return_inverse=True)
    told = [source if name is None else name for name, source in zip(given.annotator, given.source, strict=True)]
    names, annotator = np.unique(np.asarray(told, object).astype(str), return_inverse=True)
    named = np.array([name is not None for name in given.annotator], bool)
    return Votes(unit.ravel(), annotator, np.where(turned, 1.0 - given.p, given.p), first, list(names), named)


@dataclass(frozen=True)
class AnnotatorQuality:
    """Posterior of each pair and accuracy of each annotator.

    Attributes
    ----------
    posterior
        ``[U]``: P(first better), pairs in the order of `Votes`.
    accuracy
        ``[A]``: posterior mode of the probability that the annotator says what is true.
    count
        int64 ``[A]``: votes of each, ties left out.
    rounds
        EM rounds until nothing moved.
    """

    posterior: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    rounds: int


def dawid_skene(given: Votes, *, prior: tuple[float, float] = (4.0, 2.0)) -> AnnotatorQuality:
    r"""Estimate annotators' accuracies and the pairs' posteriors by EM (Dawid and Skene 1979).

    The one-coin form with even classes: which response is named first is arbitrary, so an annotator must have one
    accuracy whichever is better, and neither is likelier beforehand. Ties are no vote.

    .. math::
        \mathrm{logit}\, P(u) = \sum_{v \in u} \pm \mathrm{logit}\, \pi_{a(v)}, \qquad
        \pi_a = \frac{\alpha - 1 + \sum_{v \in a} P(\text{vote right})}{\alpha + \beta - 2 + n_a}

    Parameters
    ----------
    given
        Votes; soft ones count by their probability.
    prior
        Beta prior of an accuracy, its mode above one half: keeps annotators with few votes near it, and tells
        "all right" from "all wrong", which the votes alone cannot.

    Raises
    ------
    DataError
        If no pair has two decided votes: nothing then tells an annotator's quality.
    """
    alpha, beta = prior
    decided = given.verdict != 0.5
    units, who, says = given.unit[decided], given.annotator[decided], given.verdict[decided]
    count = np.bincount(who, minlength=len(given.names))
    per_unit = np.bincount(units, minlength=len(given.first))
    if not np.any(per_unit > 1):
        raise DataError(
            "no pair was judged twice, so nothing tells how good an annotator is",
            expected="pairs with two or more decided votes",
            got=f"{int((per_unit > 0).sum())} pairs with one each",
            remedy="use the votes as they are (target.kind votes), or collect a second opinion on some pairs",
        )
    # soft start: the share of votes, drawn towards one half
    right = np.bincount(units, weights=says, minlength=len(given.first))
    posterior = (right + 0.5) / (per_unit + 1.0)
    rounds, moved = 0, 1.0
    while moved > _STILL and rounds < _ROUNDS:
        rounds += 1
        truth = posterior[units]
        agrees = says * truth + (1.0 - says) * (1.0 - truth)
        accuracy = (alpha - 1.0 + np.bincount(who, weights=agrees, minlength=len(count))) / (alpha + beta - 2.0 + count)
        accuracy = np.clip(accuracy, 1e-6, 1.0 - 1e-6)
        strength = np.log(accuracy) - np.log1p(-accuracy)
        logit = np.bincount(units, weights=(2.0 * says - 1.0) * strength[who], minlength=len(posterior))
        found = expit(logit)
        moved = float(np.abs(found - posterior).max())
        posterior = found
    return AnnotatorQuality(posterior, accuracy, count, rounds)


def pooled(given: Pairs, method: Literal["share", "dawid_skene"] = "share") -> Pairs:
    """Return one judgement per pair of responses: p the share of votes, or the posterior of `dawid_skene`.

    Its weight is the mean weight of the votes on the pair; its annotator is gone.
    """
    found = votes(given)
    weight = np.bincount(found.unit, weights=given.w)
    number = np.bincount(found.unit)
    if method == "share":
        total = np.bincount(found.unit, weights=given.w * found.verdict)
        p = np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.5)
    else:
        p = dawid_skene(found).posterior
    one = given.take(found.first)
    told = np.full(len(one), f"votes: {method}", object)
    nobody = np.full(len(one), None, object)
    one = swap(one, one.a > one.b)
    return replace(one, p=p, m=np.zeros(len(one)), w=weight / number, p_from=told, annotator=nobody)


def once_each(given: Votes) -> Votes:
    """Return the first vote of each annotator on each pair; votes without a name are taken for different people's."""
    own = np.where(given.named, given.annotator, -1 - np.arange(len(given.unit)))
    _, kept = np.unique(np.stack([given.unit, own], axis=1), axis=0, return_index=True)
    kept = np.sort(kept)
    return replace(
        given,
        unit=given.unit[kept],
        annotator=given.annotator[kept],
        verdict=given.verdict[kept],
        named=given.named[kept],
    )


def agreement(given: Votes, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Return Krippendorff's alpha of the verdicts with a 95 % interval over pairs, and the share of agreeing votes.

    Every pair enters in both orders, because which response is named first is arbitrary. Level: interval, on second
    better (0), tie (0.5), first better (1), a soft verdict being one of them too. One annotator's votes on one pair
    count once: to agree with oneself is no agreement.

    Returns
    -------
    dict
        ``alpha`` and ``ci95`` (None without resamples); ``agreeing``: of two decided votes on one pair, how often they
        agree, each pair counting once; ``units`` with two or more votes; ``annotators``. None where no pair has two
        votes.
    """
    given = once_each(given)
    level = 1 + np.sign(given.verdict - 0.5).astype(int)
    counts = np.zeros((len(given.first), 3))
    np.add.at(counts, (given.unit, level), 1)
    counts = counts[counts.sum(axis=1) > 1]
    result: dict[str, Any] = {"alpha": None, "ci95": None, "agreeing": None}
    result |= {"units": len(counts), "annotators": len(given.names)}
    decided = counts[:, [0, 2]]
    sizes = decided.sum(axis=1)
    if (sizes > 1).any():
        agreeing = (decided * (decided - 1)).sum(axis=1)[sizes > 1] / (sizes * (sizes - 1))[sizes > 1]
        result["agreeing"] = float(agreeing.mean())
    if len(counts):
        random = np.random.default_rng(seed)
        drawn = [_alpha(counts[random.integers(len(counts), size=len(counts))]) for _ in range(resamples)]
        known = [alpha for alpha in drawn if not np.isnan(alpha)] or [float("nan")]
        low, high = np.quantile(known, [0.025, 0.975])
        result |= {"alpha": _alpha(counts), "ci95": [float(low), float(high)] if resamples else None}
    return result


def agreement_of_each(given: Votes) -> dict[str, tuple[float | None, int]]:
    """Return for each annotator how often the others' decided votes on the same pairs agree with his, and of how many.

    Each pair counts once, as does each annotator on it; None where nobody else judged what he judged.
    """
    given = once_each(given)
    sums = np.zeros((len(given.first), 2))
    decided = given.verdict != 0.5
    side = (given.verdict > 0.5).astype(int)
    np.add.at(sums, (given.unit[decided], side[decided]), 1)
    found: dict[str, tuple[float | None, int]] = {}
    for number, name in enumerate(given.names):
        own = np.flatnonzero(decided & (given.annotator == number))
        others = sums[given.unit[own]].sum(axis=1) - 1
        agreeing = sums[given.unit[own], side[own]] - 1
        shared = others > 0
        share = float((agreeing[shared] / others[shared]).mean()) if shared.any() else None
        found[name] = (share, int(shared.sum()))
    return found


def _alpha(counts: np.ndarray) -> float:
    """Return alpha of votes counted by level, NaN where all of them are ties."""
    if not counts[:, [0, 2]].any():
        return float("nan")
    both, values = np.concatenate([counts, counts[:, ::-1]]), np.array([0.0, 0.5, 1.0])
    return float(krippendorff.alpha(value_counts=both, value_domain=values, level_of_measurement="interval"))


def noise_ceiling(agreeing: float) -> tuple[float, float]:
    """Return bounds of the best accuracy that any model can have against single verdicts like these.

    Where a verdict on item i is right with probability ``(1 + d_i) / 2``, two of them agree with probability
    ``(1 + E[d^2]) / 2`` and the best model is right with ``(1 + E[d]) / 2``; since ``d`` lies in [0, 1],
    ``E[d^2] <= E[d] <= sqrt(E[d^2])``. The upper bound is reached where all items are equally hard.

    Parameters
    ----------
    agreeing
        Share of pairs of decided verdicts on one item that agree.
    """
    squared = max(0.0, 2.0 * agreeing - 1.0)
    return (1.0 + squared) / 2.0, (1.0 + float(np.sqrt(squared))) / 2.0
