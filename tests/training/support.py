"""A tiny tokenizer, tiny models and a small data set with a planted truth, for the tests of training."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from assay.feedback.records import COMPARISONS, message
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.encoding import EncodedRecords, encode_records
from assay.scorers.heads import LinearHead
from assay.training import PairwiseObjective, PreferenceArguments, PreferenceTrainer
from assay.training.records import TrainingRecords
from assay.training.terms import Centring

GOOD = [f"good{i}" for i in range(20)]
BAD = [f"bad{i}" for i in range(20)]
OTHER = [f"word{i}" for i in range(60)]


def save_backbone(folder: Path, kind: str) -> str:
    """Write a tiny random backbone (``gpt2``: with dropout, ``llama``, ``bert``) and its tokenizer."""
    specials = ["<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]"]
    words = [*specials, *GOOD, *BAD, *OTHER, "user:", "assistant:", "User:", "Assistant:", "Human:"]
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
    )
    tokenizer.save_pretrained(folder)
    size = len(words)
    torch.manual_seed(7)
    ends: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    model: Any
    if kind == "gpt2":
        shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128}
        model = GPT2Model(GPT2Config(vocab_size=size, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, **shape, **ends))
    elif kind == "llama":
        model = LlamaModel(
            LlamaConfig(
                vocab_size=size,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=128,
                **ends,
            )
        )
    else:
        model = BertModel(
            BertConfig(
                vocab_size=size,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=128,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                pad_token_id=0,
            )
        )
    model.save_pretrained(folder)
    return str(folder)


@cache
def planted(records: int, seed: int = 0, *, responses: int = 2, noise: float = 0.0) -> Dataset:
    """Make comparisons in which the response with more good words is better; every third record has one more reply."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(records):
        count = responses + (index % 3 == 0)
        share = rng.random(count)
        lengths = rng.integers(2, 12, count)
        texts = [
            " ".join(rng.choice(GOOD if rng.random() < s else BAD) for _ in range(n))
            for s, n in zip(share, lengths, strict=True)
        ]
        edges = []
        for b in range(1, count):
            p = float(share[0] > share[b])
            p = 1.0 - p if rng.random() < noise else p
            edges.append(
                {"a": 0, "b": b, "p": p, "m": 0.0, "w": 1.0, "source": "planted"}
                | {"annotator": None, "confidence": None, "round": None}
            )
        rows.append(
            {
                "prompt": [message("user", " ".join(rng.choice(OTHER, int(rng.integers(2, 9)))))],
                "responses": texts,
                "response_messages": None,
                "grades": None,
                "edges": edges,
                "prompt_id": f"{seed}-{index}",
                "split_group": f"{seed}-{index}",
                "meta": None,
            }
        )
    return Dataset.from_list(rows, features=COMPARISONS)


def new_model(backbone: str, **options: Any) -> RewardModel:
    return create_reward_model(ModelOptions(backbone=backbone, **options))


def encoded(model: RewardModel, data: Dataset) -> EncodedRecords:
    return encode_records(data, model.encoder)


def arguments(folder: Path, **changes: Any) -> PreferenceArguments:
    """Return arguments for seconds of work: no checkpoints, no loggers, one line of log at the end."""
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "pairs_per_step": 8,
        "token_budget": 4096,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    return PreferenceArguments(**(defaults | changes))


def trainer_for(
    model: RewardModel,
    data: Dataset,
    folder: Path,
    *,
    held_out: Dataset | None = None,
    centring: float = 0.0,
    weight: np.ndarray | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **changes: Any,
) -> PreferenceTrainer:
    return PreferenceTrainer(
        model,
        arguments(folder, **changes),
        TrainingRecords(encoded(model, data), model.encoder.pad_id, weight=weight),
        TrainingRecords(encoded(model, held_out)) if held_out is not None else None,
        PairwiseObjective(terms=(Centring(centring),) if centring else ()),
        callbacks=list(callbacks),
    )


class Linear(torch.nn.Module):
    """A head on features alone."""

    def __init__(self, head: LinearHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> dict[str, torch.Tensor]:
        values = self.head(features)
        values = values[:, 0] if values.shape[1] == 1 else values
        return {"margins": values[edges[:, 0]] - values[edges[:, 1]], "values": values}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    """Compare weights, to the last bit unless told otherwise."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.isfinite(a[name]).all(), name
        largest = float((a[name] - b[name]).abs().max())
        assert largest <= tolerance, f"{name} differs by {largest}"


def kill_self() -> None:
    """End this process as a power cut would: no handler runs, no buffer is written."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_killed(work: Callable[[], None]) -> None:
    """Run ``work``, which must kill itself, in a child process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: fork beside other threads
        child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(17)  # came to its end, or raised
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"the child was not killed: {status}"
