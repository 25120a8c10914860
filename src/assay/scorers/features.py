"""Features of a frozen backbone, computed once per text and kept on disk.

The key of a text is its token ids, and so covers template, end token and truncation; the key of the store covers the
backbone's weights, the pooling rule and the compute dtype.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import config as datasets_config

from assay.errors import ModelError
from assay.scorers import pooling
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, TokenIds, text_key
from assay.scorers.encoding import EncodedRecords
from assay.scorers.provenance import weights_fingerprint
from assay.scorers.reward_model import RewardModel

_TEXTS_AT_ONCE = 4096
_NO_CONTENT = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


class FeatureCache:
    """Pooled states ``[n, d]`` float32 of texts, in numbered files under one folder.

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
        # what is not in the weights but changes what they compute: positions, windows, activations
        shape = {key: value for key, value in model.backbone.config.to_dict().items() if key not in _NO_CONTENT}
        state = {"weights": weights_fingerprint(model.backbone.state_dict()), "pooling": rule, "shape": shape}
        key = hashlib.sha256(f"{state}|{dtype or model.dtype}".encode()).hexdigest()[:24]
        root = Path(folder) if folder is not None else Path(datasets_config.HF_DATASETS_CACHE) / "assay" / "features"
        self.folder = root / key
        self.computed = 0
        self.reused = 0

    def features_of(self, records: EncodedRecords) -> np.ndarray:
        """Return the features of every text of a data set, in order: float32 ``[texts, d]``."""
        return self.features([records.text(index) for index in range(len(records.lengths))])

    def features(self, ids: Sequence[TokenIds]) -> np.ndarray:
        """Return the features of token ids; what the store lacks is computed and added, in pieces that each count."""
        keys = [text_key(x) for x in ids]
        known = self._read(set(keys))
        missing = {key: x for key, x in zip(keys, ids, strict=True) if key not in known}
        self.reused, self.computed = len(keys) - len(missing), len(missing)
        todo = list(missing.items())
        # long texts first within a piece; each finished piece is kept if a later one is interrupted
        for start in range(0, len(todo), _TEXTS_AT_ONCE):
            piece = todo[start : start + _TEXTS_AT_ONCE]
            made = self.model.features([x for _, x in piece], token_budget=self.token_budget, dtype=self.dtype)
            self._write([key for key, _ in piece], made)
            known.update((key, made[row]) for row, (key, _) in enumerate(piece))
        if not keys:
            return np.zeros((0, self.model.config.width), np.float32)
        return np.stack([known[key] for key in keys])

    def _read(self, wanted: set[bytes]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with open(path, "rb") as opened, np.load(opened) as file:
                    keys = [bytes(key) for key in file["keys"]]
                    rows = [row for row, key in enumerate(keys) if key in wanted]
                    values = file["features"] if rows else None
            except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
                raise ModelError("a file of cached features is damaged", where=str(path), remedy="delete it") from error
            if values is not None:
                found.update((keys[row], values[row]) for row in rows)
        return found

    def _write(self, keys: list[bytes], features: np.ndarray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, keys=np.array([np.frombuffer(key, np.uint8) for key in keys]), features=features)
            os.replace(name, Path(name).with_suffix(".npz"))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
