"""Planned steps as micro-batches of tensors, from token ids or from cached features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from assay.scorers.batches import pad
from assay.scorers.encoding import EncodedRecords
from assay.scorers.interface import Batch
from assay.training.plan import QUADRATIC_TOKENS, Plan, Sizes


@dataclass(frozen=True)
class TrainingRecords:
    """What the trainer learns from: encoded records, and optionally features and weights that replace parts of them.

    Attributes
    ----------
    records
        Token ids and judgements.
    pad_id
        Fills up shorter texts.
    features
        float32 ``[texts, d]`` of a frozen backbone; the token ids are then not used.
    weight
        ``[E]`` or ``[E, members]``, in place of the judgements' own weights (0 keeps a judgement from a member).
    """

    records: EncodedRecords
    pad_id: int = 0
    features: np.ndarray | None = None
    weight: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """Weights in force."""
        return self.records.pairs.w if self.weight is None else self.weight

    def sizes(self) -> Sizes:
        """Measure the records for the plan."""
        offsets, pairs = self.records.offsets, self.records.pairs
        count = len(offsets) - 1
        lengths = np.ones_like(self.records.lengths) if self.features is not None else self.records.lengths
        texts = np.diff(offsets)
        filled = np.flatnonzero(texts)
        longest = np.zeros(count, np.int64)
        cost = np.zeros(count)
        if len(filled):
            longest[filled] = np.maximum.reduceat(lengths, offsets[filled])
            cost[filled] = np.add.reduceat(lengths * (1.0 + lengths / QUADRATIC_TOKENS), offsets[filled])
        weight = np.zeros((count, *self.weights.shape[1:]))
        np.add.at(weight, pairs.row, self.weights)
        return Sizes(texts, longest, np.bincount(pairs.row, minlength=count), cost, weight)


class Source(Protocol):
    """What makes micro-batches from record numbers; another kind of batch is another source."""

    def batch(self, records: np.ndarray) -> Batch:
        """Return the tensors of some records."""
        ...


class PaddedSource:
    """Micro-batches with one padded row per text."""

    def __init__(self, data: TrainingRecords) -> None:
        self.data = data
        rows = data.records.pairs.row
        self._edges_of = np.argsort(rows, kind="stable")
        self._starts = np.searchsorted(rows[self._edges_of], np.arange(len(data.records.offsets)))

    def batch(self, records: np.ndarray) -> Batch:
        """Return texts and judgements of some records."""
        data, pairs = self.data, self.data.records.pairs
        offsets = data.records.offsets
        counts = offsets[records + 1] - offsets[records]
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        edges = [self._edges_of[self._starts[r] : self._starts[r + 1]] for r in records]
        chosen = np.concatenate(edges)
        shift = np.repeat(first, [len(e) for e in edges])
        batch: Batch = {
            "edges": torch.from_numpy(np.stack([pairs.a[chosen] + shift, pairs.b[chosen] + shift], axis=1)),
            "target": torch.from_numpy(pairs.p[chosen].astype(np.float32)),
            "margin": torch.from_numpy(pairs.m[chosen].astype(np.float32)),
            "weight": torch.from_numpy(data.weights[chosen].astype(np.float32)),
        }
        if data.features is not None:
            texts = np.concatenate([np.arange(offsets[r], offsets[r + 1]) for r in records])
            batch["features"] = torch.from_numpy(data.features[texts])
        else:
            ids = [ids for record in records for ids in data.records.ids(record)]
            batch["input_ids"], batch["attention_mask"] = pad(ids, data.pad_id)
        return batch


class PlannedSteps(torch.utils.data.Dataset):
    """One item per optimiser step: the micro-batches of this rank, and the weight of the step over all ranks.

    Every rank gets the same number of micro-batches, since ranks meet in each forward and backward pass; the ones that
    are filled up have weight 0, and so neither a loss nor a gradient.
    """

    def __init__(self, plan: Plan, source: Source, rank: int = 0) -> None:
        self.plan, self.source, self.rank = plan, source, rank

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Build the tensors of one step."""
        ranks = self.plan.steps[step]
        batches = [self.source.batch(records) for records in ranks[self.rank]]
        missing = max(map(len, ranks)) - len(batches)
        if missing:
            batches += [self._idle(ranks)] * missing
        return {
            "batches": batches,
            "weight": torch.as_tensor(self.plan.weights[step], dtype=torch.float32),
        }

    def _idle(self, ranks: list[list[np.ndarray]]) -> Batch:
        """Return the shortest record of a step (each micro-batch ends with its shortest) with weight 0."""
        smallest = min((rank[-1] for rank in ranks if rank), key=len)
        batch = self.source.batch(smallest[-1:])
        batch["weight"] = torch.zeros_like(batch["weight"])
        return batch
