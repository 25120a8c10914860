"""What the trainer learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from assay.errors import ConfigError
from assay.scorers.encoding import EncodedRecords


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
    share
        ``[R]`` or ``[R, members]``: what part of a record is learned from, by each member; None: all.
    grades
        float64 ``[texts]``: what objectives of graded responses learn, in the unit that scores shall have; NaN where a
        response has no grade. None: judgements only.
    attributes
        float64 ``[texts, A]``: grades by dimension, standardised, for heads that learn them; NaN where there is none.
    with_classes
        Whether heads are told which responses were chosen, and what prompt each belongs to.
    with_replies
        Whether losses look at log-probabilities of replies.
    reference
        float32 ``[texts]``: those of a reference, for losses that look at ratios to it.
    told
        What else losses are told of each text, float32 ``[texts]``, by the name that batches have it under (`Batch`).
    edited
        For each text bool ``[tokens]``: what tells it from those that it is compared with; None: losses do not look.
    parted
        int64 ``[E]``: how many tokens both replies of a judgement begin with, for losses of prefixes; None: of others.
    """

    records: EncodedRecords
    pad_id: int = 0
    features: np.ndarray | None = None
    weight: np.ndarray | None = None
    share: np.ndarray | None = None
    grades: np.ndarray | None = None
    attributes: np.ndarray | None = None
    with_classes: bool = False
    with_replies: bool = False
    reference: np.ndarray | None = None
    told: Mapping[str, np.ndarray] = field(default_factory=dict)
    edited: Sequence[np.ndarray] | None = None
    parted: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """Weights in force, ``[E]`` or ``[E, members]``."""
        own = self.records.pairs.w if self.weight is None else self.weight
        if self.share is None:
            return own
        share = self.share[self.records.pairs.row]
        return np.asarray((own[:, None] if own.ndim < share.ndim else own) * share)

    def with_prefixes(self) -> TrainingRecords:
        """Return the same for losses that look at the scores of prefixes."""
        records, view = self.records, self.records.pairs
        first = records.offsets[view.row]
        parted = np.zeros(len(view), np.int64)
        for number, both in enumerate(zip((first + view.a).tolist(), (first + view.b).tolist(), strict=True)):
            one, other = (np.asarray(records.text(text)[records.reply_starts[text] :]) for text in both)
            shorter = min(len(one), len(other))
            apart = np.flatnonzero(one[:shorter] != other[:shorter])
            parted[number] = apart[0] if len(apart) else min(shorter, max(len(one), len(other)) - 1)
        return replace(self, with_replies=True, parted=parted)

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

    @cached_property
    def classes(self) -> np.ndarray:
        """Whether each text was chosen (1), rejected (-1) or neither (0), int8 ``[texts]`` or ``[texts, members]``.

        The sign of the sum of ``w * (2p - 1)`` over its judgements, p read from its own side.
        """
        given, weights = self.records.pairs, self.weights
        votes = weights * (2 * given.p - 1).reshape(-1, *[1] * (weights.ndim - 1))
        total = np.zeros((int(self.records.offsets[-1]), *weights.shape[1:]))
        np.add.at(total, self.records.offsets[given.row] + given.a, votes)
        np.add.at(total, self.records.offsets[given.row] + given.b, -votes)
        return np.sign(total).astype(np.int8)

    def classes_of(self, member: int) -> np.ndarray:
        """Return the classes that one member learns from, ``[texts]``."""
        return self.classes if self.classes.ndim == 1 else self.classes[:, member]

    def record_weights(self) -> np.ndarray:
        """Return the weight of each record as a whole, ``[R]`` or ``[R, members]``: 1, times what members get of it.

        Judgements weigh by themselves; a list or a grade has no weight of its own.
        """
        return np.ones(len(self.texts)) if self.share is None else self.share

    def graded_texts(self) -> np.ndarray:
        """Return how many responses of each record have a grade, int64 ``[R]``.

        Raises
        ------
        ConfigError
            If no grades were given.
        """
        if self.grades is None:
            raise ConfigError(
                "this objective learns from grades, and there are none",
                expected="a grade of some responses",
                remedy="use the pairwise objective, or name the cells of the grades: --mapping.grades (docs/data.md)",
            )
        ends = np.cumsum(np.concatenate([[0], ~np.isnan(self.grades)]))
        return np.diff(ends[self.records.offsets])
