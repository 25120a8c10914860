"""A batch of prompts and responses as columns: what features and labeling functions look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from assay.feedback.records import prompt_text

BATCH_RECORDS = 4096


@dataclass(frozen=True)
class Texts:
    """P prompts and their N responses.

    Attributes
    ----------
    responses
        Arrow strings ``[N]``.
    prompt_of
        int64 ``[N]``: the prompt of each response.
    messages
        The prompts' messages, ``[P]``.
    """

    responses: pa.Array
    prompt_of: np.ndarray
    messages: list[list[dict[str, str]]]

    def __len__(self) -> int:
        return len(self.responses)

    @cached_property
    def lines(self) -> list[str]:
        """The responses as Python strings, ``[N]``."""
        return list(self.responses.to_pylist())

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts as Python strings, ``[P]``; several turns are joined by their roles."""
        return [prompt_text(turns) for turns in self.messages]  # type: ignore[arg-type]

    @classmethod
    def of(cls, prompts: list[str], responses: list[list[str]]) -> Texts:
        """Build a batch from strings: a prompt and the list of its responses each."""
        flat = pa.array([text for own in responses for text in own], pa.string())
        prompt_of = np.repeat(np.arange(len(prompts)), [len(own) for own in responses])
        return cls(flat, prompt_of, [[{"role": "user", "content": prompt}] for prompt in prompts])


def batches(data: Dataset, *, records: int = BATCH_RECORDS) -> Iterator[tuple[int, Texts]]:
    """Go through comparisons in batches: the number of the first response of each, and its texts."""
    columns = data.select_columns(["prompt", "responses"]).with_format("arrow")
    begun = 0
    for start in range(0, len(data), records):
        table = columns[start : min(start + records, len(data))].combine_chunks()
        nested = table["responses"].combine_chunks()
        counts = pc.list_value_length(nested).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = nested.flatten()
        yield begun, Texts(flat, np.repeat(np.arange(len(counts)), counts), table["prompt"].to_pylist())
        begun += len(flat)


def list_lengths(data: Dataset, column: str) -> np.ndarray:
    """Return the number of entries of each record's list, int64 ``[records]``; texts are not held."""
    columns = data.select_columns([column]).with_format("arrow")
    parts = [
        pc.list_value_length(columns[start : min(start + BATCH_RECORDS, len(data))][column]).fill_null(0).to_numpy()
        for start in range(0, len(data), BATCH_RECORDS)
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def first_responses(data: Dataset) -> np.ndarray:
    """Return the number of the first response of each record, when all are counted in order; ``[records + 1]``."""
    return np.concatenate([[0], np.cumsum(list_lengths(data, "responses"))])
