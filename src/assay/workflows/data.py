"""From a source to the shares that train, select, calibrate and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.feedback import Overlap, ReadReport, kind_of, pairs, read_with_report, split, without_groups
from assay.feedback.records import message
from assay.workflows.settings import ReadingSettings

# Fewer held-out judgements than this tell neither when to stop nor a temperature.
FEWEST_VALIDATION = 20


@dataclass(frozen=True)
class Shares:
    """Comparisons by purpose; no split group is in two of them.

    Attributes
    ----------
    fit
        Trains the weights.
    validation
        Decides when to stop, and calibrates; None: too few judgements, or not wanted.
    test
        Judges the result; None: not wanted.
    reads
        What reading each source did.
    removed
        What was taken out of the training data because the test data holds it too.
    """

    fit: Dataset
    validation: Dataset | None
    test: Dataset | None
    reads: list[ReadReport] = field(default_factory=list)
    removed: Overlap | None = None

    @property
    def training(self) -> Dataset:
        """Everything that may influence the model: fit and validation."""
        from datasets import concatenate_datasets

        return self.fit if self.validation is None else concatenate_datasets([self.fit, self.validation])


def read_judgements(source: str, reading: ReadingSettings) -> tuple[Dataset, ReadReport]:
    """Read comparisons that hold at least one judgement.

    Raises
    ------
    DataError
        If the source holds ratings or prompts, or nothing is judged.
    """
    data, report = read_with_report(source, **reading.reading())
    kind = kind_of(data)
    if kind != "comparisons":
        raise DataError(
            f"this data holds {kind}, not comparisons",
            where=source,
            expected="judgements between responses of one prompt",
            remedy="a reward model is trained on comparisons; map the columns with --mapping, see docs/data.md",
        )
    if not report.edges:
        raise DataError(
            "no pair of responses is judged here",
            where=source,
            expected="at least one judgement",
            remedy="label some first",
        )
    return data, report


def share_out(
    data: Dataset,
    *,
    test: Dataset | None,
    test_share: float,
    validation_share: float,
    seed: int,
    reads: list[ReadReport] | None = None,
) -> Shares:
    """Split judgements by group: test first, then validation out of the rest."""
    removed = None
    if test is not None:
        data, removed = without_groups(data, test)
        if len(data) == 0:
            raise DataError("every training prompt is also in the test data", expected="different prompts")
    elif test_share > 0:
        data, test = split(data, test=test_share, seed=seed)
    fit, validation = data, None
    if validation_share > 0:
        count = len(pairs(data))
        if validation_share * count >= FEWEST_VALIDATION:
            # another stream than the test split's, so that the two draws are independent
            fit, validation = split(data, test=validation_share, seed=seed + 1_000_003)
    if len(pairs(fit)) == 0:
        raise DataError("no judgement is left to train on", remedy="lower --test-share or --validation-share")
    return Shares(fit, validation, test, reads or [], removed)


def without_prompts(data: Dataset) -> Dataset:
    """Return the same judgements with every prompt replaced by one empty message, to train a model blind to it."""
    empty = [message("user", "")]
    return data.map(lambda _: {"prompt": empty}, features=data.features, desc="Hiding prompts")


def group_keys(data: Dataset) -> np.ndarray:
    """Return sorted uint64 keys of split groups and prompts, to recognise them later without their texts."""
    import hashlib

    def key(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")

    names = {*data["split_group"], *data["prompt_id"]}
    return np.sort(np.fromiter((key(name) for name in names), np.uint64, count=len(names)))


def unseen(data: Dataset, seen: np.ndarray) -> tuple[Dataset, int]:
    """Return the records whose group and prompt are not among ``seen``, and how many were left out."""
    keep = [
        row
        for row, record in enumerate(data.select_columns(["split_group", "prompt_id"]))
        if not np.isin(_keys_of(record), seen).any()
    ]
    return (data if len(keep) == len(data) else data.select(keep)), len(data) - len(keep)


def _keys_of(record: dict[str, Any]) -> np.ndarray:
    import hashlib

    digests = (
        hashlib.sha256(record[c].encode("utf-8", "surrogatepass")).digest() for c in ("split_group", "prompt_id")
    )
    return np.array([int.from_bytes(d[:8], "little") for d in digests], np.uint64)
