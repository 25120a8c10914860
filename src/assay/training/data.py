"""Planned steps as micro-batches of tensors, from token ids or from cached features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from assay.errors import ConfigError
from assay.scorers.encoding import EncodedRecords
from assay.scorers.interface import Batch
from assay.scorers.layout import Layout
from assay.scorers.trees import Tree
from assay.training.plan import Plan, Sizes


@dataclass(frozen=True)
class TrainingRecords:
    """What the trainer learns from: encoded records, and optionally features and weights that replace parts of them.

    Attributes
    ----------
    records
        Token ids and judgements.
    pad_id
        Fills up shorter rows.
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

    @property
    def texts(self) -> np.ndarray:
        """Number of texts of each record, int64 ``[R]``."""
        return np.diff(self.records.offsets)

    def judgements(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many judgements each record has, ``[R]``, and their weight, ``[R]`` or ``[R, members]``."""
        rows, count = self.records.pairs.row, len(self.texts)
        weight = np.zeros((count, *self.weights.shape[1:]))
        np.add.at(weight, rows, self.weights)
        return np.bincount(rows, minlength=count), weight


class Source(Protocol):
    """What makes micro-batches from record numbers; another kind of batch is another source."""

    def sizes(self) -> Sizes:
        """Measure the records for the plan."""
        ...

    def batch(self, records: np.ndarray) -> Batch:
        """Return the tensors of some records."""
        ...


class Judgements:
    """The judgements of some records as tensors."""

    def __init__(self, data: TrainingRecords) -> None:
        self.data = data
        rows = data.records.pairs.row
        self._edges_of = np.argsort(rows, kind="stable")
        self._starts = np.searchsorted(rows[self._edges_of], np.arange(len(data.records.offsets)))

    def batch(self, records: np.ndarray) -> Batch:
        """Return edges, targets, margins and weights; the texts of the records are counted through."""
        pairs = self.data.records.pairs
        edges = [self._edges_of[self._starts[r] : self._starts[r + 1]] for r in records]
        chosen = np.concatenate(edges)
        shift = np.repeat(first_texts(self.data, records), [len(e) for e in edges])
        return {
            "edges": torch.from_numpy(np.stack([pairs.a[chosen] + shift, pairs.b[chosen] + shift], axis=1)),
            "target": torch.from_numpy(pairs.p[chosen].astype(np.float32)),
            "margin": torch.from_numpy(pairs.m[chosen].astype(np.float32)),
            "weight": torch.from_numpy(self.data.weights[chosen].astype(np.float32)),
        }


def first_texts(data: TrainingRecords, records: np.ndarray) -> np.ndarray:
    """Return the number of the first text of each of some records, counted through."""
    return np.cumsum(data.texts[records]) - data.texts[records]


class FeatureSource:
    """Micro-batches of features computed before."""

    def __init__(self, data: TrainingRecords) -> None:
        self.data, self.judgements = data, Judgements(data)

    def sizes(self) -> Sizes:
        """Count each text as one token."""
        return Sizes(np.ones(self.data.texts.sum(), np.int64), self.data.records.offsets, *self.data.judgements())

    def batch(self, records: np.ndarray) -> Batch:
        """Return features and judgements of some records."""
        offsets, features = self.data.records.offsets, self.data.features
        assert features is not None
        texts = np.concatenate([np.arange(offsets[r], offsets[r + 1]) for r in records])
        return {"features": torch.from_numpy(features[texts]), **self.judgements.batch(records)}


class TextSource:
    """Micro-batches of token ids, laid out in blocks of rows.

    Raises
    ------
    ConfigError
        If a single text of a judged record has more tokens than the budget.
    """

    def __init__(self, data: TrainingRecords, layout: Layout | None = None, token_budget: int = 2**40) -> None:
        self.data, self.layout, self.token_budget = data, layout or Layout(), token_budget
        self.judgements = Judgements(data)
        judged = np.repeat(data.judgements()[0] > 0, data.texts)
        lengths = data.records.lengths[judged]
        if len(lengths) and lengths.max() > token_budget:
            raise ConfigError(
                "the token budget is smaller than the longest text",
                expected=f"token_budget of at least {lengths.max()}",
                got=f"{token_budget}; {(lengths > token_budget).sum()} of {len(lengths)} texts are longer",
                remedy="raise token_budget, or lower max_length_tokens",
            )

    def trees(self, record: int) -> list[Tree]:
        """Return the rows of one record; texts are numbered within it. Made anew each time: cheaper than to keep."""
        return self.layout.trees(self.data.records.ids(record), self.token_budget)

    def sizes(self) -> Sizes:
        """Measure the rows of every record."""
        rows = [[tree.length for tree in self.trees(record)] for record in range(len(self.data.texts))]
        lengths = np.array([length for row in rows for length in row], np.int64)
        sizes = Sizes(lengths, np.cumsum([0, *map(len, rows)]), *self.data.judgements())
        over = (sizes.tokens > self.token_budget) & (sizes.edges > 0)
        if over.any():
            warnings.warn(
                f"{over.sum()} of {len(over)} records have more tokens than the budget of {self.token_budget} (up to "
                f"{sizes.tokens.max()}); each is a micro-batch of its own, since its judgements need all its texts",
                stacklevel=2,
            )
        return sizes

    def batch(self, records: np.ndarray) -> Batch:
        """Return texts and judgements of some records."""
        data = self.data
        texts = [ids for record in records for ids in data.records.ids(record)]
        trees = [
            Tree(tree.members + start, tree.trunk, tree.length)
            for record, start in zip(records, first_texts(data, records), strict=True)
            for tree in self.trees(int(record))
        ]
        rows, order = self.layout.lay(texts, trees, self.token_budget, data.pad_id)
        return {"rows": rows, "order": order, **self.judgements.batch(records)}


def source_of(data: TrainingRecords, layout: Layout, token_budget: int) -> Source:
    """Return what makes the micro-batches of some records."""
    return TextSource(data, layout, token_budget) if data.features is None else FeatureSource(data)


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
            batches += [self._idle()] * missing
        return {
            "batches": batches,
            "weight": torch.as_tensor(self.plan.weights[step], dtype=torch.float32),
        }

    def _idle(self) -> Batch:
        """Return the lightest record with weight 0."""
        batch = self.source.batch(np.array([self.plan.lightest]))
        batch["weight"] = torch.zeros_like(batch["weight"])
        return batch
