"""Rows of numbers for texts, kept on disk under the texts' content in numbered files of one folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import config as datasets_config

from assay.errors import ModelError

_TEXTS_AT_ONCE = 4096
#: What is not content in a configuration of transformers.
_NO_CONTENT = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


def store_key(weights: str, config: Any, precision: Any, **rule: Any) -> str:
    """Return the key of a store: weights, what computes with them, and how precisely.

    Parameters
    ----------
    weights
        Their fingerprint.
    config
        Of transformers. What is not in the weights but changes what they compute: positions, windows, activations.
    precision
        In which rows are computed.
    rule
        What else decides the rows.
    """
    shape = {key: value for key, value in config.to_dict().items() if key not in _NO_CONTENT}
    state = {"weights": weights, **rule, "shape": shape}
    return hashlib.sha256(f"{state}|{precision}".encode()).hexdigest()[:24]


class VectorStore:
    """A store of float32 rows, one for each key.

    Parameters
    ----------
    kind
        Name of the folder that stores of this kind share, beside the datasets cache.
    key
        Of what computes the rows: another model has another store.
    folder
        In place of that folder.
    """

    def __init__(self, kind: str, key: str, folder: str | os.PathLike[str] | None = None) -> None:
        root = Path(folder) if folder is not None else Path(datasets_config.HF_DATASETS_CACHE) / "assay" / kind
        self.folder = root / key
        self.computed = 0
        self.reused = 0

    def rows_of(self, keys: Sequence[bytes], compute: Callable[[list[int]], np.ndarray]) -> np.ndarray | None:
        """Return the row of every key; what the store lacks is computed and added, in pieces that each count.

        Parameters
        ----------
        keys
            All of one length.
        compute
            Gives the rows of the texts with these numbers, as many as there are.

        Returns
        -------
        ndarray or None
            float32 ``[n, d]``; None without keys.

        Raises
        ------
        ModelError
            If a file is damaged.
        """
        known = self._read(set(keys))
        first: dict[bytes, int] = {}
        for number, key in enumerate(keys):
            if key not in known:
                first.setdefault(key, number)
        self.reused, self.computed = len(keys) - len(first), len(first)
        todo = list(first.items())
        # each finished piece is kept if a later one is interrupted
        for start in range(0, len(todo), _TEXTS_AT_ONCE):
            piece = todo[start : start + _TEXTS_AT_ONCE]
            made = compute([number for _, number in piece])
            self._write([key for key, _ in piece], made)
            known.update((key, made[row]) for row, (key, _) in enumerate(piece))
        return np.stack([known[key] for key in keys]) if keys else None

    def _read(self, wanted: set[bytes]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with open(path, "rb") as opened, np.load(opened) as file:
                    keys = [bytes(key) for key in file["keys"]]
                    rows = [row for row, key in enumerate(keys) if key in wanted]
                    values = file["features"] if rows else None
            except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
                raise ModelError(
                    f"a file of cached {self.folder.parent.name} is damaged", where=str(path), remedy="delete it"
                ) from error
            if values is not None:
                found.update((keys[row], values[row]) for row in rows)
        return found

    def _write(self, keys: list[bytes], rows: np.ndarray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, keys=np.array([np.frombuffer(key, np.uint8) for key in keys]), features=rows)
            os.replace(name, Path(name).with_suffix(".npz"))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
