"""All batches of all epochs, planned up front from the seed.

A plan makes step counts, resumption and the share of each rank exact. Records stay whole, so that the texts of one
prompt are encoded together; a step takes whole records until it has enough judgements; within a step texts of similar
length share micro-batches under a token budget.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from assay.errors import ConfigError

# Attention grows with the square of length; at this many tokens it costs as much as the rest (d = 384 .. 1024).
QUADRATIC_TOKENS = 4096


@dataclass(frozen=True)
class Sizes:
    """What the plan needs to know about each of R records.

    Attributes
    ----------
    texts, longest, edges
        int64 ``[R]``: number of texts, tokens of the longest, number of judgements.
    cost
        float64 ``[R]``: work of one pass, in any unit (tokens, plus a part quadratic in length).
    weight
        float64 ``[R]`` or ``[R, members]``: total weight of the judgements.
    """

    texts: np.ndarray
    longest: np.ndarray
    edges: np.ndarray
    cost: np.ndarray
    weight: np.ndarray


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
    """

    steps: list[list[list[np.ndarray]]]
    weights: np.ndarray
    epoch_ends: np.ndarray

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
    batch_overhead_tokens: int = 0,
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
    batch_overhead_tokens
        Fixed cost of a micro-batch, as the number of tokens that take as long. A step is cut where that, with the
        padding left, costs least; it changes speed, never a gradient.

    Raises
    ------
    ConfigError
        If there is no judgement to train on, or a number is not positive.
    """
    for name, value in (("epochs", epochs), ("pairs_per_step", pairs_per_step), ("token_budget", token_budget)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1", got=str(value))
    useful = np.flatnonzero(sizes.edges > 0)
    if len(useful) == 0:
        raise ConfigError("there is no judgement to train on", remedy="label the pairs first, or check the data")
    steps, weights, ends = [], [], []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(useful)
        for records in _cut(order, sizes.edges, pairs_per_step):
            shares = _share(records, sizes.cost, world_size)
            steps.append([_micro_batches(share, sizes, token_budget, batch_overhead_tokens) for share in shares])
            weights.append(sizes.weight[records].sum(axis=0))
        ends.append(len(steps))
    return Plan(steps, np.array(weights, np.float64), np.array(ends))


def _cut(order: np.ndarray, edges: np.ndarray, pairs_per_step: int) -> list[np.ndarray]:
    """Cut an order of records into steps of at least ``pairs_per_step`` judgements."""
    cuts, count = [], 0
    for place, record in enumerate(order):
        count += int(edges[record])
        if count >= pairs_per_step:
            cuts.append(place + 1)
            count = 0
    pieces = [piece for piece in np.split(order, cuts) if len(piece)]
    if len(pieces) > 1 and 2 * edges[pieces[-1]].sum() < pairs_per_step:
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


def _micro_batches(records: np.ndarray, sizes: Sizes, token_budget: int, overhead: int) -> list[np.ndarray]:
    """Cut records, sorted by their longest text, at the least total cost with texts x longest within the budget.

    The cost of a micro-batch is its padded tokens, a part quadratic in their length, and the overhead. The best cuts
    of the first j records follow from those of fewer.
    """
    order = records[np.argsort(-sizes.longest[records], kind="stable")]
    longest = sizes.longest[order].tolist()
    texts = np.concatenate([[0], np.cumsum(sizes.texts[order])]).tolist()
    cost, start_of = [0.0], [0]
    for end in range(1, len(order) + 1):
        best, best_start = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            tokens = (texts[end] - texts[start]) * longest[start]
            if tokens > token_budget and start < end - 1:
                break  # longer still with every record before
            total = cost[start] + tokens * (1.0 + longest[start] / QUADRATIC_TOKENS) + overhead
            if total <= best:
                best, best_start = total, start
        cost.append(best)
        start_of.append(best_start)
    batches: list[np.ndarray] = []
    end = len(order)
    while end:
        batches.insert(0, order[start_of[end] : end])
        end = start_of[end]
    return batches
