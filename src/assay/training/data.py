"""Planned steps as micro-batches of tensors, from token ids or from cached features."""

from __future__ import annotations

import warnings
from typing import Any, Protocol, cast

import numpy as np
import torch

from assay.errors import ConfigError
from assay.scorers.interface import Batch
from assay.scorers.layout import Layout
from assay.scorers.trees import Tree
from assay.training.plan import Plan, Sizes
from assay.training.records import TrainingRecords


class Source(Protocol):
    """What makes micro-batches from record numbers; another kind of batch is another source."""

    def sizes(self) -> Sizes:
        """Measure the records for the plan."""
        ...

    def batch(self, records: np.ndarray) -> Batch:
        """Return the tensors of some records."""
        ...


Items = tuple[np.ndarray, np.ndarray]


class Verdicts:
    """What is said of the texts of some records as tensors: judgements, and grades where there are any."""

    def __init__(self, data: TrainingRecords) -> None:
        self.data = data
        self._weights = data.weights
        self._record_weights = None if data.grades is None else data.record_weights()
        rows = data.records.pairs.row
        self._edges_of = np.argsort(rows, kind="stable")
        self._starts = np.searchsorted(rows[self._edges_of], np.arange(len(data.records.offsets)))

    def batch(self, records: np.ndarray) -> Batch:
        """Return judgements, and grades as lists; the texts of the records are counted through."""
        pairs = self.data.records.pairs
        edges = [self._edges_of[self._starts[r] : self._starts[r + 1]] for r in records]
        chosen = np.concatenate(edges)
        shift = np.repeat(first_texts(self.data, records), [len(e) for e in edges])
        batch: Batch = {
            "edges": torch.from_numpy(np.stack([pairs.a[chosen] + shift, pairs.b[chosen] + shift], axis=1)),
            "target": torch.from_numpy(pairs.p[chosen].astype(np.float32)),
            "margin": torch.from_numpy(pairs.m[chosen].astype(np.float32)),
            "weight": torch.from_numpy(self._weights[chosen].astype(np.float32)),
            "length_gap": torch.from_numpy(np.log1p(pairs.length_a[chosen]) - np.log1p(pairs.length_b[chosen])).float(),
        }
        if self.data.parted is not None:
            batch["parted"] = torch.from_numpy(self.data.parted[chosen])
        batch = {**batch, **self._of_texts(records)}
        return batch if self._record_weights is None else {**batch, **self._lists(records, self._record_weights)}

    def _of_texts(self, records: np.ndarray) -> Batch:
        """Return what is told of texts: prompts alone, grades by dimension, owners, what was chosen, a reference."""
        sizes = self.data.texts[records]
        found: Batch = {}
        if self.data.records.prompts:
            found["prompts"] = torch.from_numpy(np.repeat(np.cumsum(sizes) - 1, sizes))
        if self.data.attributes is not None:
            texts, weights = texts_of(self.data, records), self.data.record_weights()[records]
            found["attributes"] = torch.from_numpy(self.data.attributes[texts].astype(np.float32))
            found["text_weight"] = torch.from_numpy(np.repeat(weights, sizes, axis=0).astype(np.float32))
        told = self.data.told if self.data.reference is None else {"reference": self.data.reference, **self.data.told}
        if told:
            texts = texts_of(self.data, records)
            found = cast(Batch, {**found, **{name: torch.from_numpy(each[texts]) for name, each in told.items()}})
        if self.data.with_classes:
            found["owners"] = torch.from_numpy(np.repeat(np.asarray(records, np.int64), sizes))
            found["classes"] = torch.from_numpy(self.data.classes[texts_of(self.data, records)])
        return found

    def _lists(self, records: np.ndarray, weights: np.ndarray) -> Batch:
        grades = self.data.grades
        assert grades is not None
        sizes = self.data.texts[records]
        place = np.arange(sizes.max())
        lists = np.where(place < sizes[:, None], first_texts(self.data, records)[:, None] + place, -1)
        texts = texts_of(self.data, records)
        return {
            "lists": torch.from_numpy(lists),
            "grades": torch.from_numpy(grades[texts].astype(np.float32)),
            "record_weight": torch.from_numpy(weights[records].astype(np.float32)),
        }


def first_texts(data: TrainingRecords, records: np.ndarray) -> np.ndarray:
    """Return the number of the first text of each of some records, counted through."""
    return np.cumsum(data.texts[records]) - data.texts[records]


def texts_of(data: TrainingRecords, records: np.ndarray) -> np.ndarray:
    """Return the numbers of all texts of some records."""
    offsets = data.records.offsets
    return np.concatenate([np.arange(offsets[r], offsets[r + 1]) for r in records])


class FeatureSource:
    """Micro-batches of features computed before; ``items`` are the number and weight of what each record counts for."""

    def __init__(self, data: TrainingRecords, items: Items | None = None) -> None:
        self.data, self.verdicts, self.items = data, Verdicts(data), items or data.judgements()

    def sizes(self) -> Sizes:
        """Count each text as one token."""
        return Sizes(np.ones(self.data.texts.sum(), np.int64), self.data.records.offsets, *self.items)

    def batch(self, records: np.ndarray) -> Batch:
        """Return features and judgements of some records."""
        features = self.data.features
        assert features is not None
        return {"features": torch.from_numpy(features[texts_of(self.data, records)]), **self.verdicts.batch(records)}


class TextSource:
    """Micro-batches of token ids, laid out in blocks of rows; ``items`` as for `FeatureSource`.

    Raises
    ------
    ConfigError
        If a single text of a record that counts has more tokens than the budget.
    """

    def __init__(
        self,
        data: TrainingRecords,
        layout: Layout | None = None,
        token_budget: int = 2**40,
        items: Items | None = None,
    ) -> None:
        self.data, self.layout, self.token_budget = data, layout or Layout(), token_budget
        self.verdicts, self.items = Verdicts(data), items or data.judgements()
        lengths = data.records.lengths[np.repeat(self.items[0] > 0, data.texts)]
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
        sizes = Sizes(lengths, np.cumsum([0, *map(len, rows)]), *self.items)
        over = (sizes.tokens > self.token_budget) & (sizes.items > 0)
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
        starts = edited = None
        if data.with_replies:
            chosen = texts_of(data, records)
            starts = data.records.reply_starts[chosen]
            edited = None if data.edited is None else [data.edited[text] for text in chosen]
        rows, order = self.layout.lay(texts, trees, self.token_budget, data.pad_id, starts, edited)
        return {"rows": rows, "order": order, **self.verdicts.batch(records)}


def source_of(data: TrainingRecords, layout: Layout, token_budget: int, items: Items | None = None) -> Source:
    """Return what makes the micro-batches of some records."""
    return TextSource(data, layout, token_budget, items) if data.features is None else FeatureSource(data, items)


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
        for name in ("weight", "record_weight", "text_weight", "own", "learned"):
            if name in batch:
                batch[name] = torch.zeros_like(batch[name])
        return batch
