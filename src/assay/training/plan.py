"""All batches of all epochs, planned up front from the seed.

A plan makes step counts, resumption and the share of each rank exact. Records stay whole, so that the texts of one
prompt are encoded together; a step takes whole records until it has enough judgements; within a step texts of similar
length share micro-batches under a token budget. The rows of a micro-batch are called in blocks of similar length.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.scorers.batches import cost
from assay.scorers.layout import Layout


@dataclass(frozen=True)
class Sizes:
    """What the plan needs to know about each of R records.

    Attributes
    ----------
    lengths
        int64 ``[rows]``: tokens of the rows that the texts are laid out in, record after record.
    starts
        int64 ``[R + 1]``: record i has the rows ``starts[i]`` to ``starts[i + 1]``.
    items
        int64 ``[R]``: how many judgements, or other things that the objective counts.
    weight
        float64 ``[R]`` or ``[R, members]``: total weight of them.
    """

    lengths: np.ndarray
    starts: np.ndarray
    items: np.ndarray
    weight: np.ndarray

    @cached_property
    def tokens(self) -> np.ndarray:
        """Tokens of each record, int64 ``[R]``."""
        return self._sums(self.lengths)

    @cached_property
    def cost(self) -> np.ndarray:
        """Work of each record, in tokens, float64 ``[R]``."""
        return self._sums(cost(self.lengths))

    @cached_property
    def longest(self) -> np.ndarray:
        """Longest row of each record, int64 ``[R]``."""
        longest = np.zeros(len(self.items), np.int64)
        np.maximum.at(longest, np.repeat(np.arange(len(longest)), np.diff(self.starts)), self.lengths)
        return longest

    def rows(self, records: np.ndarray) -> np.ndarray:
        """Return the lengths of the rows of some records, in order."""
        return np.concatenate([self.lengths[self.starts[r] : self.starts[r + 1]] for r in records])

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.diff(np.concatenate([[0], np.cumsum(values)])[self.starts])


@dataclass(frozen=True)
class Plan:
    """Micro-batches by step and rank.

    Attributes
    ----------
    steps
        ``steps[s][rank]``: list of micro-batches, each an int64 array of record numbers.
    weights
        ``[S]`` or ``[S, members]``: total weight of each step over all ranks, which the loss is divided by.
    epoch_ends
        ``[epochs]``: number of steps when each epoch is complete.
    lightest
        The judged record with the fewest tokens: what a rank without work is given, at weight 0.
    """

    steps: list[list[list[np.ndarray]]]
    weights: np.ndarray
    epoch_ends: np.ndarray
    lightest: int = 0

    def __len__(self) -> int:
        return len(self.steps)

    def epoch(self, step: int) -> float:
        """Return how many epochs are complete after ``step`` steps, with a fraction."""
        ends = np.concatenate([[0], self.epoch_ends])
        return float(np.interp(step, ends, np.arange(len(ends))))

    def first(self, steps: int) -> Plan:
        """Return the plan cut off after ``steps`` steps; epochs keep their length."""
        return replace(self, steps=self.steps[:steps], weights=self.weights[:steps])

    def evaluation_steps(self, per_epoch: int) -> list[int]:
        """Return the steps after which to evaluate: ``per_epoch`` times an epoch, evenly, and after the last one."""
        starts = [0, *self.epoch_ends[:-1]]
        parts = np.arange(1, per_epoch + 1) / per_epoch
        due = {
            int(start + np.ceil((end - start) * part))
            for start, end in zip(starts, self.epoch_ends, strict=True)
            for part in parts
        }
        return sorted({step for step in due if step <= len(self)} | {len(self)})

    def digest(self) -> str:
        """Hash the plan, so that a resumed run can tell that it is the same one."""
        sha = hashlib.sha256()
        for step in self.steps:
            for rank in step:
                for micro in rank:
                    sha.update(micro.tobytes() + b"|")
                sha.update(b"/")
        return sha.hexdigest()[:16]


def plan_batches(
    sizes: Sizes,
    *,
    epochs: int,
    pairs_per_step: int,
    token_budget: int,
    seed: int,
    world_size: int = 1,
    layout: Layout | None = None,
) -> Plan:
    """Plan every micro-batch of a training run.

    Parameters
    ----------
    sizes
        Of the records; those without judgements are never visited.
    epochs
        Passes over the data, each in an order of its own.
    pairs_per_step
        Judgements per optimiser step, at least; a record with more makes a step of its own. The last step of an epoch
        is joined to the one before when it has less than half of that.
    token_budget
        Padded tokens per micro-batch; a single record over the budget is a micro-batch of its own.
    seed
        Decides every order.
    world_size
        Ranks; each gets records of a step so that the costs are nearly equal.
    layout
        How the rows of a micro-batch are put into blocks; None: padded, in as few as pad least.

    Raises
    ------
    ConfigError
        If there is no judgement to train on, or a number is not positive.
    """
    for name, value in (("epochs", epochs), ("pairs_per_step", pairs_per_step), ("token_budget", token_budget)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1", got=str(value))
    useful = np.flatnonzero(sizes.items > 0)
    if len(useful) == 0:
        raise ConfigError("there is no judgement to train on", remedy="label the pairs first, or check the data")
    steps, weights, ends = [], [], []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(useful)
        for records in _cut(order, sizes.items, pairs_per_step):
            shares = _share(records, sizes.cost, world_size)
            steps.append([_micro_batches(share, sizes, token_budget, layout or Layout()) for share in shares])
            weights.append(sizes.weight[records].sum(axis=0))
        ends.append(len(steps))
    lightest = int(useful[sizes.tokens[useful].argmin()])
    return Plan(steps, np.array(weights, np.float64), np.array(ends), lightest)


def _cut(order: np.ndarray, items: np.ndarray, pairs_per_step: int) -> list[np.ndarray]:
    """Cut an order of records into steps of at least ``pairs_per_step`` judgements."""
    cuts, count = [], 0
    for place, record in enumerate(order):
        count += int(items[record])
        if count >= pairs_per_step:
            cuts.append(place + 1)
            count = 0
    pieces = [piece for piece in np.split(order, cuts) if len(piece)]
    if len(pieces) > 1 and 2 * items[pieces[-1]].sum() < pairs_per_step:
        pieces[-2:] = [np.concatenate(pieces[-2:])]
    return pieces


def _share(records: np.ndarray, cost: np.ndarray, world_size: int) -> list[np.ndarray]:
    """Deal records to ranks, costliest first, each to the rank with the least work so far."""
    if world_size == 1:
        return [records]
    shares: list[list[int]] = [[] for _ in range(world_size)]
    load = np.zeros(world_size)
    for record in records[np.argsort(-cost[records], kind="stable")]:
        rank = int(load.argmin())
        shares[rank].append(int(record))
        load[rank] += cost[record]
    return [np.array(share, np.int64) for share in shares]


def _micro_batches(records: np.ndarray, sizes: Sizes, token_budget: int, layout: Layout) -> list[np.ndarray]:
    """Cut records, longest row first, into as many micro-batches as filling one after the other takes.

    They get nearly equal tokens where that fits the budget. A record over the budget is alone.
    """
    order = records[np.argsort(-sizes.longest[records], kind="stable")]
    tokens = sizes.tokens[order]
    ends = np.cumsum(tokens)
    filled: list[np.ndarray] = []
    start = 0
    while start < len(order):
        # padding comes on top of the tokens, so no more than these can fit
        end = int(np.searchsorted(ends, ends[start] - tokens[start] + token_budget, side="right"))
        while end > start + 1 and not _fits(order[start:end], sizes, token_budget, layout):
            end -= 1
        end = max(end, start + 1)
        filled.append(order[start:end])
        start = end
    parts = np.arange(1, len(filled)) / max(len(filled), 1)
    even = np.split(order, np.searchsorted(ends - tokens / 2, parts * tokens.sum()))
    fit = all(len(piece) and _fits(piece, sizes, token_budget, layout) for piece in even)
    return even if fit else filled


def _fits(records: np.ndarray, sizes: Sizes, token_budget: int, layout: Layout) -> bool:
    lengths = sizes.rows(records)
    return layout.tokens(lengths, layout.blocks(lengths, token_budget)) <= token_budget
