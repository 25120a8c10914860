"""Which features of responses go with preference, and from which difference on: proposals for labeling functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from assay.evaluation.intervals import GroupBootstrap

FOLDS, LEVEL, RESAMPLES = 5, 0.95, 10_000
_FEWEST_GROUPS = 20  # with votes; draws of fewer hardly reach the corrected tails
_QUANTILES = np.linspace(0.0, 0.9, 10)


@dataclass(frozen=True)
class Proposal:
    """A labeling function that compares one feature.

    Attributes
    ----------
    name
        The feature.
    prefers, least
        "more" or "less" of it, and the least difference that votes: from all labels.
    coverage, accuracy
        How often such a function votes and is right where direction and least difference were chosen without the labels
        of the group that is judged.
    interval
        Of that accuracy, over split groups, with Bonferroni's correction for the number of features; None with fewer
        than 20 groups that vote.
    holds
        Whether the interval lies above one half.
    information
        Nats per pair that its votes tell about the verdict; proposals come in its order.
    """

    name: str
    prefers: str
    least: float
    coverage: float
    accuracy: float
    interval: tuple[float, float] | None
    holds: bool
    information: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {**vars(self), "interval": list(self.interval) if self.interval else None}


def explore(
    differences: Mapping[str, np.ndarray],
    truth: np.ndarray,
    group: np.ndarray,
    *,
    folds: int = FOLDS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Proposal]:
    """Rank features by what their differences tell of the verdicts, judged out of fold.

    Parameters
    ----------
    differences
        Feature -> its value of the first response less that of the second, float ``[n]``; NaN: not defined.
    truth
        ``[n]``: +1 the first is better, -1 the second.
    group
        ``[n]``: split groups; folds and intervals go by them.
    folds, resamples, seed
        Of cross-fitting and bootstrap.
    """
    names, of = np.unique(np.asarray(group).astype(str), return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(names)) % min(folds, max(len(names), 1)))[of.ravel()]
    bootstrap = GroupBootstrap(group, resamples, seed)
    corrected = 1.0 - (1.0 - LEVEL) / max(len(differences), 1)
    found = [_proposal(name, d, truth, of.ravel(), fold, bootstrap, corrected) for name, d in differences.items()]
    return sorted(found, key=lambda each: -each.information)


def _proposal(
    name: str,
    difference: np.ndarray,
    truth: np.ndarray,
    group: np.ndarray,
    fold: np.ndarray,
    bootstrap: GroupBootstrap,
    level: float,
) -> Proposal:
    agrees = np.nan_to_num(np.sign(difference)) * truth
    size = np.nan_to_num(np.abs(difference))
    right = np.zeros(len(truth))
    for each in np.unique(fold):
        apart = fold == each
        sign, least = _best(agrees[~apart], size[~apart])
        right[apart] = np.where(size[apart] >= least, sign * agrees[apart], 0.0)
    voted = right != 0
    sign, least = _best(agrees, size)
    accuracy = float((right[voted] > 0).mean()) if voted.any() else float("nan")
    interval = _interval(right > 0, voted, len(np.unique(group[voted])), bootstrap, level)
    return Proposal(
        name,
        prefers="more" if sign > 0 else "less",
        least=float(least),
        coverage=float(voted.mean()),
        accuracy=accuracy,
        interval=interval,
        holds=interval is not None and interval[0] > 0.5,
        information=_information(np.array((right > 0).sum()), np.array(voted.sum()), len(right)).item(),
    )


def _best(agrees: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Return the direction, and the least difference, at which votes tell most; a difference of 0 never votes."""
    moved = size[size > 0]
    if not len(moved):
        return 1.0, 0.0
    bounds = np.unique(np.quantile(moved, _QUANTILES, method="higher"))
    votes = (size[:, None] >= bounds) & (size[:, None] > 0)
    count = votes.sum(axis=0)
    right = ((agrees > 0)[:, None] & votes).sum(axis=0)
    sign = 1.0 if right[0] * 2 >= count[0] else -1.0
    told = _information(right if sign > 0 else count - right, count, len(size))
    return sign, float(bounds[int(np.argmax(told))])


def _information(right: np.ndarray, count: np.ndarray, pairs: int) -> np.ndarray:
    """Return coverage times what a vote of this accuracy tells of an even verdict, in nats; 0 where it is no better."""
    rate = (right + 1.0) / (count + 2.0)
    entropy = -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
    return np.asarray(np.where(rate > 0.5, count / max(pairs, 1) * (np.log(2.0) - entropy), 0.0))


def _interval(
    right: np.ndarray, voted: np.ndarray, groups: int, bootstrap: GroupBootstrap, level: float
) -> tuple[float, float] | None:
    if groups < _FEWEST_GROUPS:
        return None
    rate = right[voted].mean()
    if rate in (0.0, 1.0):  # no spread to draw from
        tail = (1.0 - level) / 2.0
        low, high = float(beta.ppf(tail, groups, 1)), float(beta.ppf(1.0 - tail, 1, groups))
        return (low, 1.0) if rate == 1.0 else (0.0, high)
    sums = bootstrap.sums(np.stack([right & voted, voted], axis=1).astype(np.float64))
    drawn = sums[sums[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
