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
        Share of the calibration pairs that it labels, and labels wrongly (the mean of groups' shares).
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

    Label automatically what reaches the threshold and give the rest to people: then the expected share of pairs with a
    wrong label is at most ``error``, whatever the probabilities are worth, where new groups are like these. The
    threshold is the lowest at which

    .. math:: \frac{n}{n + 1} \hat R(\lambda) + \frac{1}{n + 1} \le \text{error},

    with :math:`\hat R` the mean over n groups of the share of the group's pairs that are labelled and wrong. With fewer
    than ``1 / error - 1`` groups nothing can be promised, and nothing is labelled.

    Parameters
    ----------
    p, truth
        P(first better) by models that did not see these labels, and +1 or -1 for what is true, ``[n]``.
    error
        Between 0 and 1.
    groups
        ``[n]``: pairs of one group count as one; None: each by itself.

    Raises
    ------
    DataError
        If ``error`` is no share, or a truth is not known.
    """
    confidence, wrong, group, size = _checked(p, truth, error, groups)
    wrong = wrong / size[group] / len(size)
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(wrong[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences come and go together
    count = len(size)
    allowed = last & (count / (count + 1) * risk + 1 / (count + 1) <= error)
    at = np.flatnonzero(allowed)
    if not len(at):
        return RiskControl(float("inf"), error, count, 0.0, 0.0)
    threshold = float(confidence[order][at[-1]])
    kept = confidence >= threshold
    return RiskControl(threshold, error, count, float((kept / size[group]).sum() / count), float(risk[at[-1]]))


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
    The first threshold gives ``4 ln(1 / (1 - certainty)) / error`` labels, enough for a test that can reject; with
    fewer, none is given. Of each group one label is tested, drawn at random, since those of one prompt are wrong
    together. Thresholds go by the confidences alone, and so do not look at what is tested.

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
    confidence, wrong, group, size = _checked(p, truth, error, groups)
    random = np.random.default_rng(seed)
    order = random.permutation(len(group))  # the first label of a group in this order is tested
    passed = RiskControl(float("inf"), error, len(size), 0.0, 0.0, "labelled", certainty)
    descending = np.sort(confidence)[::-1]
    first = int(np.ceil(_EACH_TEST * np.log(1.0 / (1.0 - certainty)) / error))
    for last in np.unique(np.linspace(first, len(confidence), _TESTS).astype(int)) if first <= len(confidence) else ():
        kept = confidence >= descending[last - 1]
        in_order = order[kept[order]]
        tested = in_order[np.unique(group[in_order], return_index=True)[1]]
        # an even label is wrong half of the time: which half is drawn
        mistakes = int((wrong[tested] > random.random(len(tested))).sum())
        if binom.cdf(mistakes, len(tested), error) > 1.0 - certainty:
            break
        share, missed = (float((each / size[group]).sum() / len(size)) for each in (kept, kept * wrong))
        passed = replace(passed, threshold=float(descending[last - 1]), kept=share, wrong=missed)
    return passed


def _checked(
    p: np.ndarray, truth: np.ndarray, error: float, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return confidence and wrongness of each pair, its group's number, and the groups' sizes."""
    if not 0 < error < 1:
        raise DataError("an error bound is a share", expected="a number between 0 and 1", got=str(error))
    p, truth = np.asarray(p, np.float64), np.asarray(truth)
    if not np.isin(truth, (-1, 1)).all() or not len(truth):
        raise DataError("an error bound is chosen on labelled pairs", expected="labels of +1 and -1, at least one")
    group = np.arange(len(p)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    # a vote of one half is wrong half of the time, however it is turned
    wrong = np.where(p == 0.5, 0.5, (p > 0.5) != (truth > 0))
    return np.maximum(p, 1.0 - p), wrong, group, np.bincount(group)
