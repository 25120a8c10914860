"""Texts as vectors, by the backbone alone: for what compares texts without judging them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from assay.scorers.creation import ModelOptions, create_reward_model
from assay.scorers.features import FeatureCache


def text_encoder(backbone: str, *, token_budget: int = 8192) -> Callable[[Sequence[str]], np.ndarray]:
    """Return a function from texts to vectors, float32 ``[n, d]``: the mean state of encoders, else the last one.

    Long texts are cut to what the backbone takes; vectors are kept on disk (see `FeatureCache`).

    Raises
    ------
    ModelError
        If the backbone cannot be loaded.
    """
    model = create_reward_model(ModelOptions(backbone=backbone, template="plain"))
    store = FeatureCache(model, token_budget=token_budget)
    counted = model.config.pooling in ("mean", "reply")  # its last column tells the length

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = store.features([each.ids for each in model.encoder.encode_text(list(texts))])
        return found[:, :-1] if counted else found

    return encode
