"""Which weak labels to trust: a threshold of confidence, or as many as an error bound allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import DataError


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
        The bound: expected share of all pairs that get a wrong label.
    n
        Groups that it was chosen on.
    kept, wrong
        Share of the calibration pairs that it labels, and labels wrongly (the mean of groups' shares).
    """

    threshold: float
    error: float
    n: int
    kept: float
    wrong: float


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
    if not 0 < error < 1:
        raise DataError("an error bound is a share", expected="a number between 0 and 1", got=str(error))
    p, truth = np.asarray(p, np.float64), np.asarray(truth)
    if not np.isin(truth, (-1, 1)).all() or not len(truth):
        raise DataError("an error bound is chosen on labelled pairs", expected="labels of +1 and -1, at least one")
    group = np.arange(len(p)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    size = np.bincount(group)
    confidence = np.maximum(p, 1.0 - p)
    # a vote of one half is wrong half of the time, however it is turned
    wrong = np.where(p == 0.5, 0.5, (p > 0.5) != (truth > 0)) / size[group] / len(size)
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
