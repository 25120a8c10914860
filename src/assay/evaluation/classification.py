"""How well labels are told: accuracy, classes, confusion, and what could not be read, which counts as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from assay.evaluation.intervals import SHARE, Estimate, GroupBootstrap

#: Column of the confusion table for answers without a label; in brackets where a label is called so.
UNREAD = "none"


@dataclass(frozen=True)
class Classified:
    """Right labels and those that were told.

    Attributes
    ----------
    accuracy
        Share that is right, with its interval by group; without a label is wrong.
    unread
        Share without a label.
    by_class
        Label -> ``precision``, ``recall``, ``f1`` and ``count``; empty where every example has its own choices.
    macro_f1
        Mean F1 of the classes that the right labels have; NaN where there are none.
    confusion
        Right label -> told label (`unread_name` among them) -> count.
    error
        Mean distance of told labels from the right ones, of ordinal tasks; without a label counts as the farthest there
        is. None: no ordinal task.
    """

    accuracy: Estimate
    unread: float
    by_class: dict[str, dict[str, float]]
    macro_f1: float
    confusion: dict[str, dict[str, int]]
    error: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found = {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in vars(self).items()}
        return found | {"macro_f1": None if np.isnan(self.macro_f1) else self.macro_f1}


def classify(
    right: Sequence[str],
    told: Sequence[str | None],
    groups: Sequence[Any],
    labels: Sequence[str] = (),
    *,
    ordinal: bool = False,
    resamples: int = 2000,
) -> Classified:
    """Compare labels.

    Parameters
    ----------
    right, told
        ``[n]``; None: no label could be read.
    groups
        ``[n]``: resampled whole.
    labels
        Of the task, in order; empty: every example has its own choices, so there are no classes.
    ordinal
        Labels are numbers, and distances count.
    resamples
        Of the bootstrap.

    Raises
    ------
    ValueError
        If the numbers of labels differ, or there is none.
    """
    if len(right) != len(told) or not len(right):
        raise ValueError(f"{len(right)} right labels and {len(told)} told ones; expected as many, and one at least")
    bootstrap = GroupBootstrap(np.asarray(groups, object), resamples)
    ones = np.ones(len(right))
    hits = np.array([own == other for own, other in zip(right, told, strict=True)], np.float64)
    error = None
    if ordinal:
        values = np.array([float(label) for label in labels])
        farthest = [float(np.abs(values - float(own)).max()) for own in right]
        away = [
            far if other is None else abs(float(own) - float(other))
            for own, other, far in zip(right, told, farthest, strict=True)
        ]
        error = bootstrap.ratio(np.array(away), ones)
    by_class, macro, confusion = _classes(right, told, labels)
    unread = float(np.mean([other is None for other in told]))
    return Classified(bootstrap.ratio(hits, ones, between=SHARE), unread, by_class, macro, confusion, error)


def unread_name(labels: Sequence[str]) -> str:
    """Return the name of what has no label, which is none of the labels'."""
    name = UNREAD
    while name in labels:
        name = f"({name})"
    return name


def _classes(
    right: Sequence[str], told: Sequence[str | None], labels: Sequence[str]
) -> tuple[dict[str, dict[str, float]], float, dict[str, dict[str, int]]]:
    if not labels:
        return {}, float("nan"), {}
    unread = unread_name(labels)
    names = [*labels, unread]
    said = [unread if other is None else other for other in told]
    table = confusion_matrix(list(right), said, labels=names)
    precision, recall, f1, count = precision_recall_fscore_support(
        list(right), said, labels=list(labels), zero_division=0.0
    )
    found = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "count": int(n)}
        for label, p, r, f, n in zip(labels, precision, recall, f1, count, strict=True)
    }
    present = [own["f1"] for own in found.values() if own["count"]]
    shown = {
        own: {other: int(table[i, k]) for k, other in enumerate(names) if table[i, k]}
        for i, own in enumerate(labels)
        if table[i].any()
    }
    return found, float(np.mean(present)), shown
