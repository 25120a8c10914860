"""Which weak labels to trust: a threshold of confidence, or as many as a bound on errors allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import binom

from assay.errors import DataError

_TESTS = 20  # thresholds, at most
_EACH_TEST = 4.0  # times the labels without a mistake that would pass


def confident(p: np.ndarray, threshold: float) -> np.ndarray:
    """Mark the pairs whose likelier side has at least this probability; bool, same shape.

    Kept sets are nested: a higher threshold keeps a part of what a lower one keeps. One half or less keeps all.
    """
    p = np.asarray(p, np.float64)
    return np.asarray(np.maximum(p, 1.0 - p) >= threshold)


@dataclass(frozen=True)
class RiskControl:
    """A threshold of confidence that bounds the share of wrong labels.

    Attributes
    ----------
    threshold
        Confidence from which labels are taken; infinite: none can be.
    error
        The bound.
    n
        Groups that it was chosen on.
    kept, wrong
        Share of the calibration pairs that it labels, and labels wrongly.
    of
        What the bound is a share of: "all" pairs, in expectation (`control_risk`), or the "labelled" ones, with
        ``certainty`` (`control_error_of_labels`).
    certainty
        P(the bound holds) over draws of the calibration pairs; None: it holds in expectation.
    """

    threshold: float
    error: float
    n: int
    kept: float
    wrong: float
    of: Literal["all", "labelled"] = "all"
    certainty: float | None = None


def control_risk(p: np.ndarray, truth: np.ndarray, error: float, groups: np.ndarray | None = None) -> RiskControl:
    r"""Choose how sure a label must be, by conformal risk control (Angelopoulos et al. 2024).

    Label automatically what reaches the threshold and give the rest to people: then the expected number of wrong labels
    is at most ``error`` times the expected number of pairs, whatever the probabilities are worth, where new groups are
    like these. The loss of a group of :math:`s_g` pairs, of which :math:`k_g(\lambda)` are labelled wrongly, is

    .. math:: L_g(\lambda) = k_g(\lambda) - \text{error} \cdot s_g \le (1 - \text{error}) \max_g s_g = B,

    and the threshold is the lowest at which
    :math:`\frac{n}{n + 1} \bar L(\lambda) + \frac{B}{n + 1} \le 0`; new groups are taken to be no larger than the
    largest here. With groups of one size that is the paper's rule for the share; with fewer than ``1 / error - 1``
    groups nothing can be promised, and nothing is labelled.

    Parameters
    ----------
    p, truth
        P(first better) by models that did not see these labels, and +1 or -1 for what is true, ``[n]``.
    error
        Between 0 and 1.
    groups
        ``[n]``: pairs of one group come together; None: each by itself.

    Raises
    ------
    DataError
        If ``error`` is no share, or a truth is not known.
    """
    confidence, wrong, group = _checked(p, truth, error, groups)
    size = np.bincount(group)
    order = np.argsort(-confidence, kind="stable")
    mistakes = np.cumsum(wrong[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences come and go together
    worst = (1.0 - error) * size.max()
    allowed = last & (mistakes - error * len(group) + worst <= 1e-9 * len(group))
    at = np.flatnonzero(allowed)
    if not len(at):
        return RiskControl(float("inf"), error, len(size), 0.0, 0.0)
    threshold = float(confidence[order][at[-1]])
    kept = confidence >= threshold
    return RiskControl(threshold, error, len(size), float(kept.mean()), float((kept * wrong).mean()))


def control_error_of_labels(
    p: np.ndarray,
    truth: np.ndarray,
    error: float,
    groups: np.ndarray | None = None,
    *,
    certainty: float = 0.9,
    seed: int = 0,
) -> RiskControl:
    r"""Choose how sure a label must be, so that of the labels that are *given* at most a share is wrong.

    That share is no monotone function of the threshold, so `control_risk` does not apply. This is learn-then-test by a
    fixed sequence (Angelopoulos et al. 2021): from high thresholds to low ones, the hypothesis "more than ``error`` of
    the labels are wrong" is tested at level 1 - ``certainty`` by the binomial distribution, until it is not rejected.
    The first threshold is one at which ``4 ln(1 / (1 - certainty)) / error`` labels are tested, enough for a test that
    can reject; with fewer, none is given. Labels of one prompt are wrong together, so one of each group at most is
    tested: one drawn at random, from a group of k labels with probability k over the largest k, which makes each label
    equally likely.
    Thresholds go by the confidences alone, and so do not look at what is tested.

    Parameters
    ----------
    p, truth, error, groups
        As for `control_risk`.
    certainty
        P(at most ``error`` of the labels given to new prompts like these is wrong), over draws of these.
    seed
        Of the labels drawn.

    Raises
    ------
    DataError
        As `control_risk`, or if ``certainty`` is no probability.
    """
    if not 0 < certainty < 1:
        raise DataError("certainty is a probability", expected="a number between 0 and 1", got=str(certainty))
    confidence, wrong, group = _checked(p, truth, error, groups)
    random = np.random.default_rng(seed)
    order = random.permutation(len(group))  # the first label of a group in this order is tested
    chance = random.random(int(group.max()) + 1)
    passed = RiskControl(float("inf"), error, len(chance), 0.0, 0.0, "labelled", certainty)
    descending = np.sort(confidence)[::-1]
    first = int(np.ceil(_EACH_TEST * np.log(1.0 / (1.0 - certainty)) / error))
    for last in np.unique(np.linspace(first, len(confidence), _TESTS).astype(int)) if first <= len(confidence) else ():
        kept = confidence >= descending[last - 1]
        in_order = order[kept[order]]
        there, at, labels = np.unique(group[in_order], return_index=True, return_counts=True)
        tested = in_order[at][chance[there] < labels / labels.max()]
        if len(tested) < first:
            continue
        # an even label is wrong half of the time: which half is drawn
        mistakes = int((wrong[tested] > random.random(len(tested))).sum())
        if binom.cdf(mistakes, len(tested), error) > 1.0 - certainty:
            break
        passed = replace(
            passed,
            threshold=float(descending[last - 1]),
            kept=float(kept.mean()),
            wrong=float((kept * wrong).mean()),
        )
    return passed


def _checked(
    p: np.ndarray, truth: np.ndarray, error: float, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return confidence and wrongness of each pair, and its group's number."""
    if not 0 < error < 1:
        raise DataError("an error bound is a share", expected="a number between 0 and 1", got=str(error))
    p, truth = np.asarray(p, np.float64), np.asarray(truth)
    if not np.isin(truth, (-1, 1)).all() or not len(truth):
        raise DataError("an error bound is chosen on labelled pairs", expected="labels of +1 and -1, at least one")
    group = np.arange(len(p)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    # a vote of one half is wrong half of the time, however it is turned
    wrong = np.where(p == 0.5, 0.5, (p > 0.5) != (truth > 0))
    return np.maximum(p, 1.0 - p), wrong, group
