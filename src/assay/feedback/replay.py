"""A buffer of pairs that were made on the way, from which those that were drawn least come most often (SAPO)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from assay.errors import ConfigError

Item = TypeVar("Item")


@dataclass
class _Kept(Generic[Item]):
    item: Item
    draws: int = 0


class ReplayBuffer(Generic[Item]):
    """First in, first out; drawn with probability in proportion to 1 / (draws + 1) (Yin et al. 2024).

    Draws are counted by key, so that an item that is put in anew is new.

    Parameters
    ----------
    capacity
        Items that are kept, at least 1.

    Raises
    ------
    ConfigError
        If it is below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ConfigError("a buffer needs room", expected="1 item or more", got=str(capacity))
        self.capacity = capacity
        self._kept: OrderedDict[str, _Kept[Item]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: str, item: Item) -> None:
        """Add an item, in place of one of the same key; the oldest leaves a full buffer."""
        self._kept.pop(key, None)
        self._kept[key] = _Kept(item)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def shares(self) -> np.ndarray:
        """Return the probability that each item is drawn next, oldest first."""
        weight = np.array([1.0 / (kept.draws + 1) for kept in self._kept.values()])
        return weight / weight.sum() if len(weight) else weight

    def draw(self, count: int, random: np.random.Generator) -> list[Item]:
        """Draw different items, at most as many as there are, and count them as drawn."""
        keys = list(self._kept)
        if not keys:
            return []
        chosen = random.choice(len(keys), min(count, len(keys)), replace=False, p=self.shares())
        drawn = [self._kept[keys[int(place)]] for place in chosen]
        for kept in drawn:
            kept.draws += 1
        return [kept.item for kept in drawn]
