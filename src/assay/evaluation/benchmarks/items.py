"""What every benchmark is made of: prompts with responses that are known to be better and worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.feedback.problems import RowError


@dataclass(frozen=True)
class Item:
    """A prompt with good and bad responses.

    Attributes
    ----------
    prompt
        A text, or messages.
    chosen, rejected
        Texts.
    subset
        Part of the benchmark.
    name
        As the file calls it.
    """

    prompt: str | list[dict[str, Any]]
    chosen: list[str]
    rejected: list[str]
    subset: str
    name: str


@dataclass(frozen=True)
class Scored:
    """What a scorer says of an item.

    Attributes
    ----------
    item
        Which one.
    chosen, rejected
        Scores, float64.
    margins
        ``[chosen, rejected]``: of the one over the other; above 0 where the chosen one is preferred.
    """

    item: Item
    chosen: np.ndarray
    rejected: np.ndarray
    margins: np.ndarray


@dataclass(frozen=True)
class Line:
    """A line of a published table.

    Attributes
    ----------
    name
        As published.
    value
        Mostly a share of right choices; None where the file holds nothing of it.
    count
        Items behind it.
    level
        0: the whole benchmark, 1: a section, 2: a subset.
    """

    name: str
    value: float | None
    count: int
    level: int = 2


def text_of(row: Mapping[str, Any], column: str) -> str:
    """Return a cell that holds text; of a list of messages, that of the last one.

    Raises
    ------
    RowError
        If it holds none.
    """
    value = row.get(column)
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise RowError("no text", column=column, expected="text", got=repr(value)[:60])
    return value


def texts_of(row: Mapping[str, Any], column: str) -> list[str]:
    """Return a cell that holds one text or more."""
    value = row.get(column)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Sequence) or not value or not all(isinstance(one, str) for one in value):
        raise RowError("no list of texts", column=column, expected="a list of one text or more", got=repr(value)[:60])
    return list(value)


def prompt_of(row: Mapping[str, Any], column: str) -> str | list[dict[str, Any]]:
    """Return a cell that holds a prompt: a text, or messages."""
    value = row.get(column)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "role" in turn for turn in value):
        return value
    raise RowError("no prompt", column=column, expected="text or messages", got=repr(value)[:60])


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is there, None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def by_subset(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Return items by their subset, in the order in which subsets appear."""
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(one.item.subset, []).append(one)
    return found
