"""Whether rationales depend on the label that they were written for: a generator may ignore what it is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from assay.feedback.tasks.task import Example, Task, plain

#: Below it, a source of rationales is said to ignore the label.
LEAST = 0.6
_FOLDS, _FEWEST = 5, 20
#: An example, and of its better and its worse answer label and rationale.
Argued = tuple[Example, tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Following:
    """How well one tells, from two rationales of an example, which of two labels each was written for.

    Attributes
    ----------
    told
        Share of pairs that are told rightly, ties as one half; one half is chance.
    low, high
        Its 95 % interval (Clopper-Pearson).
    same
        Share of pairs whose rationales are equal.
    pairs
        How many were looked at.
    by
        What tells: a bag of words of the rationales of other examples, or whether a rationale names the label.
    """

    told: float
    low: float
    high: float
    same: float
    pairs: int
    by: str

    @property
    def ignored(self) -> bool:
        """Tell whether the label hardly matters to what is written."""
        return self.told < LEAST

    def line(self) -> str:
        """Return it in words."""
        shown = f"{100 * self.told:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f}, chance 50)"
        text = f"which label a rationale is for is told in {shown} by {self.by}; equal on both sides: "
        text += f"{100 * self.same:.0f} %"
        return f"{text}. The source ignores the label: both sides argue for the same" if self.ignored else text


def follows_labels(task: Task, pairs: Sequence[Argued]) -> Following | None:
    """Measure whether rationales follow their labels; None where there are none, or fewer than 20 pairs with any.

    Parameters
    ----------
    task
        Of the pairs. Where every example has its own choices, a rationale is for the label that it names.
    pairs
        Example, and of both sides label and rationale.
    """
    kept = [own for own in pairs if own[1][1] and own[2][1]]
    if len(kept) < _FEWEST:
        return None
    if task.kind == "choices":
        gaps, by = _named(kept), "the labels that it names"
    else:
        gaps, by = _by_words(kept), "a bag of words"
    told = float(np.mean(np.where(gaps == 0, 0.5, gaps > 0)))
    same = float(np.mean([better[1] == worse[1] for _, better, worse in kept]))
    # a tie is half a success; the interval is of whole ones
    found = binomtest(round(told * len(kept)), len(kept)).proportion_ci()
    return Following(told, float(found.low), float(found.high), same, len(kept), by)


def _named(kept: Sequence[Argued]) -> np.ndarray:
    """Return how much more often rationales name their own label than the other side's."""
    return np.array(
        [
            (_holds(better[1], better[0]) - _holds(better[1], worse[0]))
            + (_holds(worse[1], worse[0]) - _holds(worse[1], better[0]))
            for _, better, worse in kept
        ]
    )


def _holds(rationale: str, label: str) -> int:
    """Tell whether a label stands in a rationale as words of its own, with whatever marks beside them."""
    named = re.escape(plain(label))
    return int(re.search(rf"(?<!\w){named}(?!\w)", plain(rationale)) is not None)


def _by_words(kept: Sequence[Argued]) -> np.ndarray:
    """Return log-odds that both rationales are for their own labels and not for each other's, learned elsewhere."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    texts = [side[1] for _, better, worse in kept for side in (better, worse)]
    labels = np.array([side[0] for _, better, worse in kept for side in (better, worse)], object)
    groups = np.unique([one.group for one, _, _ in kept], return_inverse=True)[1].repeat(2)
    gaps = np.zeros(len(kept))
    if len(np.unique(groups)) < 2:
        return gaps
    try:
        counts = CountVectorizer(token_pattern=r"(?u)\w+", binary=True).fit_transform(texts)
    except ValueError:  # no rationale has a word
        return gaps
    for train, test in GroupKFold(min(_FOLDS, len(np.unique(groups)))).split(counts, groups=groups):
        if len(set(labels[train])) < 2:
            continue
        model = LogisticRegression(max_iter=500).fit(counts[train], labels[train].astype(str))
        said, place = model.predict_log_proba(counts[test]), {name: k for k, name in enumerate(model.classes_)}
        for row in range(0, len(test), 2):
            own, other = (place.get(labels[test[row + k]]) for k in (0, 1))
            if own is not None and other is not None:
                gaps[test[row] // 2] = said[row, own] + said[row + 1, other] - said[row, other] - said[row + 1, own]
    return gaps
