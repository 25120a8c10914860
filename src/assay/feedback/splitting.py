"""Train and test, or folds, so that no split group is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from assay.errors import ConfigError, DataError

_BATCH_ROWS = 1000
_SHOWN_GROUPS = 5


def split(data: Dataset, test: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split records into train and test by ``split_group``.

    Groups are drawn in an order that depends on their names and the seed only, not on the order of rows; a group
    goes to the test side when that brings the test side's share of judgements closer to ``test``.

    Parameters
    ----------
    test
        Share of judgements (edges; a row without any counts as one) on the test side, in (0, 1).

    Raises
    ------
    ConfigError
        If ``test`` is not in (0, 1).
    DataError
        If there are fewer than two groups.
    """
    if not 0 < test < 1:
        raise ConfigError("not a share", where="test", expected="a number between 0 and 1", got=str(test))
    group, weight = _weigh(data, needed=2, purpose="a split")
    order = np.random.default_rng(seed).permutation(len(weight))
    target, total, chosen = test * weight.sum(), 0.0, np.zeros(len(weight), dtype=bool)
    for g in order:
        if abs(total + weight[g] - target) < abs(total - target):
            chosen[g] = True
            total += weight[g]
    if not chosen.any():  # every group alone is too large
        chosen[np.argmin(weight)] = True
    if chosen.all():
        chosen[np.argmax(weight)] = False
    on_test = chosen[group]
    return data.select(np.flatnonzero(~on_test)), data.select(np.flatnonzero(on_test))


def folds(data: Dataset, k: int, seed: int = 0) -> list[tuple[Dataset, Dataset]]:
    """Return ``k`` pairs (train, test): every group is on the test side exactly once, folds have near equal weight.

    Raises
    ------
    ConfigError
        If ``k`` is below two.
    DataError
        If there are fewer groups than folds.
    """
    of_row = fold_of_rows(data, k, seed)
    return [(data.select(np.flatnonzero(of_row != i)), data.select(np.flatnonzero(of_row == i))) for i in range(k)]


def fold_of_rows(data: Dataset, k: int, seed: int = 0) -> np.ndarray:
    """Return the fold of every row, int64 ``[rows]``, as `folds` cuts them."""
    if k < 2:
        raise ConfigError("too few folds", where="k", expected="2 or more", got=str(k))
    group, weight = _weigh(data, needed=k, purpose=f"{k} folds")
    order = np.random.default_rng(seed).permutation(len(weight))
    order = order[np.argsort(-weight[order], kind="stable")]
    fold, load, members = np.zeros(len(weight), dtype=np.int64), np.zeros(k), np.zeros(k)
    for g in order:
        lightest = np.lexsort((members, load))[0]
        fold[g] = lightest
        load[lightest] += weight[g]
        members[lightest] += 1
    return fold[group]


def nested_shares(data: Dataset, shares: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """Return the rows of growing shares of the judgements, each sorted, and each within every larger one.

    Groups stand in an order that depends on their names and the seed only; a share is as many of the first as come
    nearest to it.

    Parameters
    ----------
    shares
        Of the judgements (a row without any counts as one), in (0, 1], in any order.

    Raises
    ------
    ConfigError
        If one is not a share.
    """
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise ConfigError("not a share", where="fractions", expected="above 0, at most 1", got=str(wrong[0]))
    group, weight = _weigh(data, needed=1, purpose="a study")
    order = np.random.default_rng(seed).permutation(len(weight))
    place = np.empty(len(weight), np.int64)
    place[order] = np.arange(len(weight))
    total = np.cumsum(weight[order])
    counts = [int(np.abs(total - share * total[-1]).argmin()) + 1 for share in shares]
    return [np.flatnonzero(place[group] < count) for count in counts]


def _weigh(data: Dataset, needed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's group number (by sorted name) and each group's number of judgements, at least one a row."""
    names, judgements = group_columns(data)
    unique, group = np.unique(names, return_inverse=True)
    if len(unique) < needed:
        raise DataError(
            f"too few split groups for {purpose}",
            expected=f"{needed} or more",
            got=str(len(unique)),
            remedy="add data, choose another group column, or hold nothing out",
        )
    # a row without a judgement counts as one: its responses may be graded
    return group, np.bincount(group, weights=np.maximum(judgements, 1.0), minlength=len(unique))


def group_columns(data: Dataset, name: str = "split_group") -> tuple[np.ndarray, np.ndarray]:
    """Return the group (text) and the number of judgements of each row."""
    judged = "edges" in data.column_names
    columns = data.with_format("arrow").select_columns([name, "edges"] if judged else [name])
    names, counts = [np.zeros(0, dtype=object)], [np.zeros(0)]
    for start in range(0, len(data), _BATCH_ROWS):
        table = columns[start : min(start + _BATCH_ROWS, len(data))]
        names.append(table[name].to_numpy())
        lengths = pc.fill_null(pc.list_value_length(table["edges"]), 0).to_numpy() if judged else np.ones(len(table))
        counts.append(lengths.astype(float))
    return np.concatenate(names), np.concatenate(counts)


@dataclass(frozen=True)
class Overlap:
    """Split groups (or whole prompts) that occur in both of two data sets."""

    groups: int
    train_rows: int
    test_rows: int
    train_judgements: int
    test_judgements: int
    examples: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.groups > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values (JSON)."""
        return asdict(self)


def overlap(train: Dataset, test: Dataset) -> Overlap:
    """Count what is on both sides: rows whose split group, or whose whole prompt, also occurs on the other side."""
    return _overlap(train, test)[0]


def without_groups(train: Dataset, test: Dataset) -> tuple[Dataset, Overlap]:
    """Return ``train`` without the rows that share a split group or a prompt with ``test``, and what was removed."""
    found, leaking = _overlap(train, test)
    return (train.select(np.flatnonzero(~leaking)) if found else train), found


def _overlap(train: Dataset, test: Dataset) -> tuple[Overlap, np.ndarray]:
    mine, my_judgements = group_columns(train)
    theirs, their_judgements = group_columns(test)
    shared = np.intersect1d(mine, theirs)
    left, right = np.isin(mine, shared), np.isin(theirs, shared)
    my_prompts, _ = group_columns(train, "prompt_id")
    their_prompts, _ = group_columns(test, "prompt_id")
    prompts = np.intersect1d(my_prompts, their_prompts)
    same_left, same_right = np.isin(my_prompts, prompts) & ~left, np.isin(their_prompts, prompts) & ~right
    left, right = left | same_left, right | same_right
    found = Overlap(
        groups=len(shared) + len(np.unique(mine[same_left])),
        train_rows=int(left.sum()),
        test_rows=int(right.sum()),
        train_judgements=int(my_judgements[left].sum()),
        test_judgements=int(their_judgements[right].sum()),
        examples=tuple(_opening(train, int(row)) for row in np.flatnonzero(left)[:_SHOWN_GROUPS]),
    )
    return found, left


def _opening(data: Dataset, row: int) -> str:
    turns = data[row]["prompt"]
    text = turns[0]["content"].strip() if turns else ""
    return text if len(text) <= 80 else text[:79] + "…"
