"""Log-probabilities of replies by a model that stays as it is, computed once per text and kept on disk.

The key of the store covers weights, shape and compute dtype; that of a text its token ids and where its reply begins,
and so tokenizer, template and truncation. How texts share rows, and how attention is computed, are no part of it.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np
import torch

from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, text_key
from assay.scorers.encoding import EncodedRecords
from assay.scorers.policy import Policy
from assay.scorers.provenance import weights_fingerprint
from assay.scorers.vector_store import VectorStore, store_key


class LikelihoodCache:
    """Log-probabilities float32 ``[n]`` of replies by one model as it is now.

    Parameters
    ----------
    model
        Without its adapter, if it has one; its reference takes no part.
    folder, dtype, token_budget
        As for `assay.scorers.features.FeatureCache`.
    """

    def __init__(
        self,
        model: Policy,
        folder: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> None:
        self.model, self.dtype, self.token_budget = model, dtype, token_budget
        weights = weights_fingerprint(_without_adapter(model.language_model.state_dict()))
        key = store_key(weights, model.whole.config, dtype or model.dtype)
        self.store = VectorStore("likelihoods", key, folder)

    def of(self, records: EncodedRecords) -> np.ndarray:
        """Return those of every text of a data set, in order, float32 ``[texts]``."""
        ids = [records.text(index) for index in range(len(records.lengths))]
        starts = records.reply_starts
        keys = [text_key(x) + int(start).to_bytes(4, "little") for x, start in zip(ids, starts, strict=True)]

        def compute(chosen: list[int]) -> np.ndarray:
            model = self.model
            texts, begin = [ids[i] for i in chosen], starts[chosen]
            off = model.language_model.disable_adapter() if model.config.adapter else contextlib.nullcontext()
            with off:
                found = model.map_batches(texts, model.likelihoods, self.token_budget, self.dtype, begin)
            assert found is not None
            return found[:, None]

        found = self.store.rows_of(keys, compute)
        return np.zeros(0, np.float32) if found is None else found[:, 0]


def _without_adapter(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of the base under the names that they have without an adapter."""
    kept = {name: value for name, value in state.items() if "lora_" not in name}
    return {name.removeprefix("base_model.model.").replace(".base_layer.", "."): v for name, v in kept.items()}
