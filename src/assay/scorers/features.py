"""Features of a frozen backbone, computed once per text and kept on disk.

The key of a text is its token ids, and so covers template, end token and truncation; the key of the store covers the
backbone's weights, the pooling rule and the compute dtype.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from assay.scorers import pooling
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, TokenIds, text_key
from assay.scorers.encoding import EncodedRecords
from assay.scorers.provenance import weights_fingerprint
from assay.scorers.reward_model import RewardModel
from assay.scorers.vector_store import VectorStore, store_key


class FeatureCache:
    """Pooled states ``[n, d]`` float32 of texts.

    Parameters
    ----------
    model
        Its backbone and pooling rule make the features.
    folder
        Where stores of all backbones live; None: beside the datasets cache.
    dtype
        Compute in this dtype by autocast; None: in that of the weights.
    token_budget
        Padded tokens per forward pass.
    """

    def __init__(
        self,
        model: RewardModel,
        folder: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> None:
        self.model, self.dtype, self.token_budget = model, dtype, token_budget
        rule = (model.config.pooling, model.config.separator_id, pooling.COUNT_SCALE, pooling.COUNT_UNIT)
        weights = weights_fingerprint(model.backbone.state_dict())
        key = store_key(weights, model.backbone.config, dtype or model.dtype, pooling=rule)
        self.store = VectorStore("features", key, folder)

    @property
    def computed(self) -> int:
        """How many texts the last call computed."""
        return self.store.computed

    @property
    def reused(self) -> int:
        """How many texts the last call found."""
        return self.store.reused

    def features_of(self, records: EncodedRecords) -> np.ndarray:
        """Return the features of every text of a data set, in order: float32 ``[texts, d]``."""
        return self.features([records.text(index) for index in range(len(records.lengths))])

    def features(self, ids: Sequence[TokenIds]) -> np.ndarray:
        """Return the features of token ids; what the store lacks is computed and added."""

        def compute(chosen: list[int]) -> np.ndarray:
            return self.model.features([ids[i] for i in chosen], token_budget=self.token_budget, dtype=self.dtype)

        found = self.store.rows_of([text_key(x) for x in ids], compute)
        return np.zeros((0, self.model.config.width), np.float32) if found is None else found
