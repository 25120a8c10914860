"""What the benchmarks work on: models of a given shape and real judgements, as token ids that all sides share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from assay.feedback import read
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.backbones import load_tokenizer, locate
from assay.scorers.encoding import EncodedRecords, encode_records

#: The longest text of the causal models; no text of the data sets is longer.
LONGEST = 2048


@dataclass(frozen=True)
class Work:
    """What all sides learn from, or score.

    Attributes
    ----------
    name
        Of the work.
    folder
        A backbone and its tokenizer.
    model
        The reward model around it.
    data, records
        Judgements, and the same as token ids.
    layers, width, inner
        Shape of the backbone; ``inner`` is the width of the feed-forward layer.
    gated
        Whether the feed-forward layer has three matrices instead of two.
    """

    name: str
    folder: str
    model: RewardModel
    data: Dataset
    records: EncodedRecords
    layers: int
    width: int
    inner: int
    gated: bool

    def portion(self, chosen: np.ndarray) -> Work:
        """Return the same work on some of its records."""
        return self.on(self.data.select(chosen))

    def on(self, data: Dataset) -> Work:
        """Return the same model with other judgements."""
        return replace(self, data=data, records=encode_records(data, self.model.encoder))

    def lengths(self) -> dict[str, float]:
        """Return how long the texts are, in tokens."""
        marks = (0, 10, 25, 50, 75, 90, 100)
        found = {f"p{mark}": float(np.percentile(self.records.lengths, mark)) for mark in marks}
        return {"texts": len(self.records.lengths), "mean": float(self.records.lengths.mean()), **found}

    @property
    def folder_of_weights(self) -> str:
        """Where a plain transformers class finds the backbone."""
        return locate(self.folder)

    @property
    def pad_id(self) -> int:
        """Fills up rows."""
        return self.model.encoder.pad_id

    @property
    def block_parameters(self) -> int:
        """Numbers in the matrices that every token is multiplied with."""
        return self.layers * (4 * self.width**2 + (3 if self.gated else 2) * self.width * self.inner)

    def flops(self, tokens: int, squares: int, *, training: bool) -> float:
        """Return the work of useful tokens; ``squares`` is the sum, over tokens, of how many tokens each sees.

        Six operations for each parameter and token in training, two in scoring; attention beside them.
        """
        passes = 6 if training else 2
        return passes * (self.block_parameters * tokens + 2 * self.layers * self.width * squares)

    def shapes(self, tokens: int) -> list[tuple[int, int, int, int]]:
        """Return the matrix products of a forward pass: rows, inner size, columns, how often."""
        up = 2 if self.gated else 1
        return [
            (tokens, self.width, self.width, 4),
            (tokens, self.width, self.inner, up),
            (tokens, self.inner, self.width, 1),
        ]


def causal_39m(folder: Path, words: int | None = None) -> tuple[ModelOptions, dict[str, Any]]:
    """Save a random Llama of 39 million parameters with a real vocabulary of 30,522 pieces.

    ``words``: vectors for so many pieces instead, of which the tokenizer uses the first.
    """
    source = load_tokenizer("minilm")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=source.backend_tokenizer, pad_token="[PAD]", eos_token="[SEP]", unk_token="[UNK]"
    )
    shape = {"layers": 8, "width": 512, "inner": 1280, "gated": True}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words or len(tokenizer),
        hidden_size=512,
        intermediate_size=1280,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelOptions(backbone=str(folder), dropout="none", max_length_tokens=LONGEST), shape


def causal_150k(folder: Path) -> tuple[ModelOptions, dict[str, Any]]:
    """Save the same with a vocabulary as large as that of today's models."""
    return causal_39m(folder, 151_936)


def minilm(folder: Path) -> tuple[ModelOptions, dict[str, Any]]:
    """Take the packaged MiniLM in the class that transformers trains and loads, so that both sides are one model."""
    del folder
    shape = {"layers": 6, "width": 384, "inner": 1536, "gated": False}
    return ModelOptions(backbone="minilm", layout="native", dropout="none", max_length_tokens=512), shape


def harmless(data: Path) -> Dataset:
    """Pairs of dialogues."""
    return read(str(data / "hh_rlhf/harmless-base/test.jsonl.gz"), format="hh")


def long_questions(data: Path) -> Dataset:
    """Four answers to a question that stands behind its passages, and six verdicts."""
    path = data / "fine_grained_rlhf/dev_feedback.jsonl.gz"
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = list(file)
    for line in lines:
        row = json.loads(line)
        passages = "\n\n".join(" ".join(passage) for passage in row["passages"])
        rows.append(
            {**{f"prediction {n}": row[f"prediction {n}"] for n in (1, 2, 3, 4)}, "preference": row["preference"]}
        )
        rows[-1]["prompt"] = f"{passages}\n\n{row['question']}"
    mapping = {
        "prompt": "prompt",
        "responses": ["prediction 1", "prediction 2", "prediction 3", "prediction 4"],
        "preference": "preference",
    }
    return read(Dataset.from_list(rows), mapping=mapping)


def summaries(data: Path, count: int = 16) -> Dataset:
    """Take the first of sixteen graded summaries of a document, compared pair by pair."""
    mapping = {"prompt": "prompt", "responses": "response", "grades": "grades", "group": "doc_id"}
    rows: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(data / "summeval/grades.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            rows.setdefault(row["doc_id"], []).append(row)
    chosen = [row for many in rows.values() for row in many[:count]]
    return read(Dataset.from_list(chosen), mapping=mapping)


WORKS: dict[str, tuple[Callable[[Path], tuple[ModelOptions, dict[str, Any]]], Callable[[Path], Dataset]]] = {
    "causal-39m": (causal_39m, harmless),
    "causal-39m-150k": (causal_150k, harmless),
    "causal-k4": (causal_39m, long_questions),
    "minilm": (minilm, harmless),
    "minilm-k16": (minilm, summaries),
}


def work(name: str, data: Path, scratch: Path) -> Work:
    """Make a model and encode its data."""
    make_model, load = WORKS[name]
    options, shape = make_model(scratch / "backbone")
    return work_of(name, options, shape, load(data))


def work_of(name: str, options: ModelOptions, shape: dict[str, Any], judgements: Dataset) -> Work:
    """Make a model and encode some judgements."""
    model = create_reward_model(options)
    native = model.config.layout == "native"
    for parameter in (model.backbone.classifier if native else model.head).parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    return Work(name, options.backbone, model, judgements, encode_records(judgements, model.encoder), **shape)
