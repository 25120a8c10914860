"""Which wrong labels stand against the right ones, and how much each pair weighs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from assay.errors import ConfigError
from assay.feedback.tasks.task import Example, Task

#: Which wrong label the worse side gets: any alike, as often as it is confused with the right one, or the nearest.
WrongRule = Literal["uniform", "confusion", "nearest"]


def wrong_labels(
    task: Task,
    examples: Sequence[Example],
    rule: WrongRule = "uniform",
    *,
    confused: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
) -> list[str]:
    """Return a wrong label for each example.

    Parameters
    ----------
    task, examples
        Of whose choices one that is not right is taken. ``uniform``: of the same right label, every wrong one as often
        as the others.
    rule
        See `WrongRule`; ``nearest`` is for ordinal tasks, and at random where two are as near.
    confused
        Right label -> wrong label -> how often it is taken for it; for ``confusion``. What is never confused is as
        likely as what was confused half a time.
    seed
        Of the draws.

    Raises
    ------
    ConfigError
        If rule and task do not fit.
    """
    if rule == "nearest" and task.kind != "ordinal":
        raise ConfigError("nearest labels belong to ordinal tasks", where=task.name, expected="uniform or confusion")
    if rule == "confusion" and (confused is None or task.kind == "choices"):
        raise ConfigError("confusion needs counts of which label is taken for which", where=task.name)
    random, decks = np.random.default_rng(seed), defaultdict[tuple[str, tuple[str, ...]], list[str]](list)
    found = []
    for one in examples:
        wrong = [label for label in one.choices if label != one.label]
        if rule == "nearest":
            least = min(task.distance(one.label, label) for label in wrong)
            wrong = [label for label in wrong if task.distance(one.label, label) == least]
        if rule == "confusion":
            assert confused is not None
            counts = np.array([confused.get(one.label, {}).get(label, 0.0) + 0.5 for label in wrong])
            found.append(wrong[int(random.choice(len(wrong), p=counts / counts.sum()))])
            continue
        deck = decks[one.label, tuple(wrong)]
        if not deck:
            deck += [wrong[k] for k in random.permutation(len(wrong))]
        found.append(deck.pop())
    return found


def balanced(labels: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return weights of better and worse labels, float64 ``[n]``, of mean 1 where any is above 0.

    Better labels are weighed alike, and then what is between any two labels is shared evenly, so that each is as often
    better than the other; where wrong labels are any alike, all right labels still count alike. Without the second step
    wrong labels that are the nearest of an ordinal task, or the most confused, would tell by themselves which side is
    right. 0: no pair has these labels the other way round.
    """
    right = Counter(better for better, _ in labels)
    first = np.array([1.0 / right[better] for better, _ in labels])
    total = Counter[tuple[str, str]]()
    for own, weight in zip(labels, first, strict=True):
        total[own] += weight
    shared = [
        weight * (total[own] + total[own[::-1]]) / (2 * total[own]) if total[own[::-1]] else 0.0
        for own, weight in zip(labels, first, strict=True)
    ]
    found = np.array(shared, np.float64)
    return found * np.count_nonzero(found) / found.sum() if found.any() else found
