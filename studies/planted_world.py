"""Real texts with planted scores: what a head on MiniLM's features can learn is known, and so is what it cannot."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.decomposition import PCA

from assay.feedback import Pairs
from assay.scorers import ModelOptions, create_reward_model
from assay.scorers.encoding import encode_records
from assay.scorers.features import FeatureCache
from assay.training.objective import PairwiseObjective
from assay.training.records import TrainingRecords
from assay.workflows.heads import head_arguments, train_heads
from assay.workflows.options import EPOCHS_OF_HEADS, arguments
from assay.workflows.settings import TrainSettings

SEEN, SPREAD = 32, 1.5


class World:
    """Texts with planted scores, one half to train on and one to test on.

    Parameters
    ----------
    records
        Whose texts they are.
    seed
        Of the texts that are taken, their scores, and the halves.
    reach
        Share of the variance of gaps that the first `SEEN` principal components of the features explain, linearly;
        the rest is a number per text that no feature knows.
    at_most
        How many records are taken.
    bent
        Half of what features explain is a sum of squares, which no linear head can learn.
    """

    def __init__(
        self, records: Dataset, seed: int, reach: float, at_most: int | None = None, bent: bool = False
    ) -> None:
        random = np.random.default_rng(seed)
        self.data = records.select(random.permutation(len(records))[:at_most])
        self.model = create_reward_model(ModelOptions(backbone="minilm", max_length_tokens=256, freeze_backbone=True))
        self.records = encode_records(self.data, self.model.encoder)
        whole = FeatureCache(self.model).features_of(self.records)
        self.features = PCA(SEEN, whiten=True, random_state=0).fit_transform(whole).astype(np.float32)
        seen = self.features @ random.normal(size=SEEN)
        if bent:
            squares = self.features**2 @ random.normal(size=SEEN)
            seen = seen / seen.std() + squares / squares.std()
        unseen = random.normal(size=len(seen))
        view = self.records.pairs
        parts = [one / self.records.margins(one).std() for one in (seen, unseen)]
        scores = np.sqrt(reach) * parts[0] + np.sqrt(1.0 - reach) * parts[1]
        self.scores = SPREAD * (scores - scores.mean()) / self.records.margins(scores).std()
        self.gap = self.records.margins(self.scores)
        self.random = random
        names = np.unique(view.group)
        half = set(random.permutation(names)[: len(names) // 2])
        self.training = np.array([group in half for group in view.group])

    def learned(self, taught: Pairs) -> TrainingRecords:
        """Return some judgements, to be learned from features."""
        return TrainingRecords(replace(self.records, pairs=taught), features=self.features)

    def margins(self, taught: Pairs, head: str = "linear", epochs: int = EPOCHS_OF_HEADS) -> np.ndarray:
        """Train a head on some judgements; return its margins of all."""
        data = replace(self.learned(taught), share=np.ones((len(self.data), 1)))
        self.model.config.head = head
        with tempfile.TemporaryDirectory() as folder:
            # a hidden layer takes the smaller steps of its kind
            args = self.arguments(folder, epochs, 1e-3 if head == "mlp" else 1e-2)
            heads, _ = train_heads(self.model, args, data, PairwiseObjective())
        return self.records.margins(heads.score_features(self.features).reshape(-1))

    def arguments(self, folder: str, epochs: int = EPOCHS_OF_HEADS, learning_rate: float = 1e-2) -> Any:
        """Return arguments for heads."""
        settings = TrainSettings(
            data="-", out="-", freeze_backbone=True, epochs=epochs, head_learning_rate=learning_rate
        )
        return head_arguments(arguments(settings, Path(folder), 0), learning_rate)
