"""Shares of a task that have no group in common: what teaches to answer, makes pairs, asks a policy, and tests."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from assay.errors import ConfigError, DataError
from assay.feedback.tasks.task import Example, Task

#: Shares of what does not test, by purpose.
USUAL = {"teaching": 0.4, "pairs": 0.3, "pairs_test": 0.1, "asked": 0.2}


@dataclass(frozen=True)
class TaskShares:
    """Examples by purpose; no group is in two of them.

    Attributes
    ----------
    teaching
        Taught to answer (SFT).
    pairs
        Made into pairs for reward models.
    pairs_test
        Made into pairs that test reward models, of every kind: what one kind learned from tests no other.
    asked
        Prompts that a policy answers for reward; pairs of them would carry their labels into the reward.
    test
        Judged.
    removed
        Examples of the other shares that were taken out because a text of the test is theirs too.
    repeated
        Examples beside the test that were taken out because an earlier one has the same texts.
    contradicted
        Those of them that have another label than that one.
    """

    teaching: list[Example]
    pairs: list[Example]
    pairs_test: list[Example]
    asked: list[Example]
    test: list[Example]
    removed: int = 0
    repeated: int = 0
    contradicted: int = 0

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for part in fields(self):
            own = getattr(self, part.name)
            if not isinstance(own, list):
                continue
            for group in {example.group for example in own}:
                if seen.setdefault(group, part.name) != part.name:
                    raise DataError(
                        "a group is in two shares",
                        where=group[:80],
                        expected="texts of a group on one side",
                        got=f"{seen[group]} and {part.name}",
                    )


def share_out_task(
    task: Task,
    examples: Sequence[Example],
    *,
    test: Sequence[Example] | None = None,
    test_share: float = 0.2,
    shares: dict[str, float] | None = None,
    most: int | None = None,
    seed: int = 0,
) -> TaskShares:
    """Divide a task's examples by group; of a symmetric task, examples with a text in common are one group.

    Parameters
    ----------
    task, examples
        What is divided.
    test
        Examples that test; None: a share of the groups.
    test_share, shares
        Share of the groups that tests, and of the rest by purpose (`USUAL`).
    most
        Examples that are kept besides the test, drawn at random by group; None: all.
    seed
        Of the draws.

    Raises
    ------
    ConfigError
        If shares are none.
    DataError
        If there are too few groups, one class alone, or a label of the test that nothing teaches.
    """
    both = (by_shared_text if task.symmetric else _in_one_spelling)([*examples, *(test or [])])
    examples, test = both[: len(examples)], None if test is None else both[len(examples) :]
    parts = USUAL if shares is None else shares
    if set(parts) != set(USUAL) or any(share <= 0 for share in parts.values()) or not 0 < test_share < 1:
        raise ConfigError("shares are numbers above 0 for each purpose", where="shares", expected=", ".join(USUAL))
    if test is None:
        groups = _groups(examples, seed)
        tested = set(groups[: max(1, round(test_share * len(groups)))])
        others = [one for one in examples if one.group not in tested]
        test = [one for one in examples if one.group in tested]
    else:
        others = list(examples)
    # groups may be other than texts, so texts are looked at by themselves
    held, held_texts = {one.group for one in test}, {_texts(task, one) for one in test}
    rest = [one for one in others if one.group not in held and _texts(task, one) not in held_texts]
    removed = len(others) - len(rest)
    # the same text again would make two pairs of one prompt
    once = list({(_texts(task, one), one.choices): one for one in reversed(rest)}.values())[::-1]
    kept = {(_texts(task, one), one.choices): one.label for one in once}
    contradicted = sum(kept[_texts(task, one), one.choices] != one.label for one in rest)
    found = _divided(task, once, parts, most, seed + 1, removed)
    repeated = len(rest) - len(once)
    made = TaskShares(**found, test=list(test), removed=removed, repeated=repeated, contradicted=contradicted)
    _check(task, made)
    return made


def _in_one_spelling(examples: Sequence[Example]) -> list[Example]:
    """Return examples whose groups have one name where their names differ in case, blanks or forms of a letter alone.

    That is the first of these names, so that groups of one name keep it, and with it their place in a draw.
    """
    names: dict[str, str] = {}
    for name in sorted({one.group for one in examples}):
        names.setdefault(_compared(name), name)
    return [replace(one, group=names[_compared(one.group)]) for one in examples]


def by_shared_text(examples: Sequence[Example]) -> list[Example]:
    """Return examples whose groups are those of all examples that a chain of texts in common joins."""
    texts = [_texts(None, one) for one in examples]
    numbers = {text: k for k, text in enumerate(sorted({text for own in texts for text in own}))}
    ends = np.array([(numbers[own[0]], numbers[text]) for own in texts for text in own]).reshape(-1, 2)
    joins = csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(numbers), len(numbers)))
    part = connected_components(joins, directed=False)[1]
    names: dict[int, str] = {}
    for text, k in numbers.items():  # in order, so that a group is named after its first text
        names.setdefault(int(part[k]), text)
    return [replace(one, group=names[int(part[numbers[own[0]]])]) for one, own in zip(examples, texts, strict=True)]


def _divided(
    task: Task, examples: Sequence[Example], parts: dict[str, float], most: int | None, seed: int, removed: int
) -> dict[str, list[Example]]:
    """Give each purpose its share of the groups, of as many examples as are kept."""
    order = _groups(examples, seed)
    if most is not None:
        # a group that is larger than what is kept would be all of it
        sizes = Counter(one.group for one in examples)
        order = [group for group in order if sizes[group] <= most]
        counts = np.cumsum(_sizes(examples, order))
        order = order[: int(np.searchsorted(counts, most, side="right")) or 1]
    if len(order) < len(parts):
        raise DataError(
            "too few groups for every purpose",
            where=task.name,
            expected=f"{len(parts)} besides the test",
            got=f"{len(order)}; {removed:,} examples left with the test, which has their texts"
            if removed
            else str(len(order)),
        )
    ends = np.cumsum([parts[name] for name in USUAL]) / sum(parts.values())
    cuts, count = np.round(ends * len(order)).astype(int), len(USUAL)
    # of very few groups each purpose gets one
    cuts = np.maximum.accumulate(np.maximum(cuts, np.arange(1, count + 1)) - np.arange(count)) + np.arange(count)
    cuts = np.minimum(cuts, len(order) - np.arange(count)[::-1])
    place = {group: name for k, name in enumerate(USUAL) for group in order[(cuts[k - 1] if k else 0) : cuts[k]]}
    return {name: [one for one in examples if place.get(one.group) == name] for name in USUAL}


def _texts(task: Task | None, example: Example) -> tuple[str, ...]:
    """Return texts as they are compared: case, blanks and forms of one letter do not count, nor order if symmetric."""
    plain = tuple(map(_compared, example.texts.values()))
    return tuple(sorted(plain)) if task is not None and task.symmetric else plain


def _compared(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _groups(examples: Sequence[Example], seed: int) -> list[str]:
    """Return groups in an order that depends on their names and the seed, not on the order of examples."""
    names = sorted({one.group for one in examples})
    return [names[k] for k in np.random.default_rng(seed).permutation(len(names))]


def _sizes(examples: Sequence[Example], groups: Sequence[str]) -> list[int]:
    counts = Counter(one.group for one in examples)
    return [counts[group] for group in groups]


def _check(task: Task, shares: TaskShares) -> None:
    """Refuse what no classifier could be taught from."""
    empty = [name for name in (*USUAL, "test") if not getattr(shares, name)]
    if empty:
        raise DataError("a share has no example", where=task.name, got=", ".join(empty), remedy="bring more examples")
    if task.kind == "choices":
        return
    taught = {one.label for one in shares.teaching}
    if len(taught) < 2:
        raise DataError("one class alone teaches nothing", where=task.name, expected="2 labels", got=", ".join(taught))
    missing = sorted({one.label for one in shares.test} - taught)
    if missing:
        raise DataError(
            "the test has labels that nothing teaches",
            where=task.name,
            expected="every label of the test among what is taught",
            got=", ".join(missing),
            remedy="bring more examples of them, or leave them out of the test",
        )
