"""Values of features on disk, by the content of the texts: other windows need no second look at them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from assay.feedback.labeling.features import Feature
from assay.feedback.labeling.texts import BATCH_RECORDS, batches
from assay.feedback.store import cache_folder, cache_name, output_errors


def feature_values(feature: Feature, data: Dataset, *, cache_dir: str | Path | None = None) -> np.ndarray:
    """Return a feature of every response of ``data``, in order, float64 ``[N]``; kept on disk as by `apply`."""
    folder = folder_of(data, [feature], cache_dir)
    found = kept_values(folder, feature)
    if found is None:
        parts = [feature.values(texts) for _, texts in batches(data)]
        found = np.concatenate(parts) if parts else np.zeros(0)
        keep_values(folder, feature, found)
    return found


def _worth_keeping(feature: Feature) -> bool:
    return feature.kept and feature.takes != "column"  # columns are computed as fast as they are read


def folder_of(data: Dataset, features: Sequence[Feature], cache_dir: str | Path | None) -> Path | None:
    """Return the folder of the features of these texts, by their content; None where nothing is worth keeping."""
    if not any(_worth_keeping(feature) for feature in features):
        return None
    return cache_folder(cache_dir) / "features" / _content(data)


def _content(data: Dataset) -> str:
    """Hash prompts and responses, where one ends and the next begins included."""
    digest = hashlib.blake2b(digest_size=16)
    columns = data.select_columns(["prompt", "responses"]).with_format("arrow")
    for start in range(0, len(data), BATCH_RECORDS):
        table = columns[start : min(start + BATCH_RECORDS, len(data))].combine_chunks()
        for name in ("prompt", "responses"):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, pa.schema([table.schema.field(name)])) as stream:
                stream.write_table(table.select([name]))
            digest.update(sink.getvalue())
    return digest.hexdigest()


def _path(folder: Path, feature: Feature) -> Path:
    return folder / f"{cache_name(feature.key)}.npy"


def kept_values(folder: Path | None, feature: Feature) -> np.ndarray | None:
    """Return the values kept in a folder, or None."""
    if folder is None or not _worth_keeping(feature):
        return None
    try:
        found: Any = np.load(_path(folder, feature), mmap_mode="r")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, np.ndarray) else None


def keep_values(folder: Path | None, feature: Feature, values: np.ndarray) -> None:
    """Keep the values of a feature of all responses, ``[N]``, where that is worth it."""
    if folder is None or not _worth_keeping(feature):
        return
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{cache_name(feature.key)}.partial.npy"
        np.save(beside, values)
        beside.replace(_path(folder, feature))
