"""What the cells of a study share: judgements, who learns and is tested on which of them, and their features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from assay.console import say
from assay.errors import DataError
from assay.evaluation.metrics import decided
from assay.feedback import pairs, without_groups
from assay.feedback.splitting import fold_of_rows, nested_shares
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.encoding import encode_records
from assay.scorers.features import FeatureCache
from assay.workflows import hardware
from assay.workflows.data import content_key, hold_out_people, read_judgements, weak_only
from assay.workflows.fitting_frozen import Vectors
from assay.workflows.heads import with_head
from assay.workflows.options import model_options
from assay.workflows.settings import TrainSettings
from assay.workflows.study_settings import StudySettings


@dataclass
class Bench:
    """Judgements, and who learns and who is tested on which.

    Attributes
    ----------
    data
        All records.
    part
        int64 ``[R]``. Without folds: 1 for the test, 0 for what is learned from. With folds: the fold that each record
        is tested in.
    folds
        Number of folds; 0: one test for all seeds.
    seed
        Of the study.
    testable
        bool ``[R]``: records that may be tested on, with folds; None: all. The others, which only weak labels speak of,
        are not learned from either by the seeds that are tested on their fold.
    """

    data: Dataset
    part: np.ndarray
    folds: int
    seed: int
    testable: np.ndarray | None = None
    _models: dict[tuple[Any, ...], RewardModel] = field(default_factory=dict, repr=False)
    _vectors: dict[tuple[Any, ...], Vectors] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process finds in the cache on disk."""
        return {**self.__dict__, "_models": {}, "_vectors": {}}

    def tested(self, seed: int) -> np.ndarray:
        """Return the records that a seed is tested on, sorted."""
        there = self.part == (seed % self.folds if self.folds else 1)
        return np.flatnonzero(there if self.testable is None else there & self.testable)

    @property
    def ever_tested(self) -> np.ndarray:
        """Return the records that some seed may be tested on, sorted."""
        there = np.full(len(self.part), True) if self.folds else self.part == 1
        return np.flatnonzero(there if self.testable is None else there & self.testable)

    def learned(self, seed: int, fraction: float) -> np.ndarray:
        """Return the records that a seed learns from, sorted; a smaller fraction is part of a larger one."""
        rest = np.flatnonzero(self.part != (seed % self.folds if self.folds else 1))
        return rest[nested_shares(self.data.select(rest), [fraction], self.seed + seed)[0]]

    def model_for(self, settings: TrainSettings) -> RewardModel:
        """Return an untrained model; those of one backbone share it, and so must not train it."""
        options = model_options(settings, settings.seed)
        key = _backbone_of(options)
        if key not in self._models:
            self._models[key] = create_reward_model(options).to(hardware.best_device())
        return with_head(self._models[key], options)

    def vectors_for(self, settings: TrainSettings, model: RewardModel) -> Vectors:
        """Return all records with the features of a frozen backbone; computed once, and kept on disk."""
        half = settings.precision == "bf16"
        key = (*_backbone_of(model_options(settings, 0)), model.reads_prompts, half)
        if key not in self._vectors:
            records = encode_records(self.data, model.encoder, prompts=model.reads_prompts)
            dtype = torch.bfloat16 if half else None
            cache = FeatureCache(model, dtype=dtype, token_budget=settings.token_budget)
            self._vectors[key] = Vectors(self.data, records, cache.features_of(records))
        return self._vectors[key]

    def identity(self) -> str:
        """Return a key of the judgements and of who is tested on which."""
        return content_key([self.data.select(np.flatnonzero(self.part == part)) for part in np.unique(self.part)])


def _backbone_of(options: ModelOptions) -> tuple[Any, ...]:
    names = ("backbone", "layout", "pooling", "template", "end_token", "max_length_tokens", "truncation", "attention")
    return tuple(getattr(options, name) for name in names)


def open_bench(settings: StudySettings) -> Bench:
    """Read the judgements and split them.

    Raises
    ------
    DataError
        If nothing tells right from wrong in the test.
    """
    data, report = read_judgements(settings.data, settings, split=settings.split)
    say("\n".join(report.lines()))
    seed = settings.seed if settings.test_groups_seed is None else settings.test_groups_seed
    if settings.test is not None:
        test, report = read_judgements(settings.test, settings)
        say("\n".join(report.lines()))
        data, removed = without_groups(data, test)
        if removed:
            say(f"left out {removed.train_rows} records whose prompts are in the test too")
        part = np.repeat([0, 1], [len(data), len(test)])
        data = concatenate_datasets([data, test])
    elif settings.folds:
        part = fold_of_rows(data, settings.folds, seed)
    else:
        data, test = hold_out_people(data, settings.test_share, seed, "test")
        part = np.repeat([0, 1], [len(data), len(test)])
        data = concatenate_datasets([data, test])
    # agreement with a label model is no measure of a reward model
    weak = weak_only(data) if settings.folds else np.zeros(len(data), bool)
    bench = Bench(data, part, settings.folds, settings.seed, ~weak | weak.all())
    _refuse_ties(bench, settings)
    return bench


def _refuse_ties(bench: Bench, settings: StudySettings) -> None:
    tested = pairs(bench.data.select(bench.ever_tested))
    if not decided(tested.p).any():
        raise DataError(
            "the judgements to test on prefer no response, so nothing is right or wrong",
            where=settings.test or settings.data,
            expected="judgements that prefer a response",
            got=f"{len(tested)} judgements, all of them ties",
            remedy="check how the labels were read: assay check",
        )
