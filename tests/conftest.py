"""Tiny models made on the fly, and a small file of pairs; nothing here needs a network or a warm cache."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Before any library reads them: no network, one thread per test process, and no file left in the user's caches.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
_CACHE = tempfile.mkdtemp(prefix="assay-tests-")
os.environ["HF_DATASETS_CACHE"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

_THINGS = ("sea", "bird", "colour", "river", "tree", "metal", "planet", "fruit", "tool", "city")
_ASKS = ("Name a {}.", "What is a {}?", "Tell me about one {}, please.")
_GOOD = [
    "certainly",
    "a",
    "fine",
    "clear",
    "answer",
    "with",
    "the",
    "reason",
    "given",
    "and",
    "an",
    "example",
    "that",
    "helps",
]
_BAD = ["no", "idea", "go", "away", "this", "is", "boring", "ask", "somebody", "else", "whatever", "nonsense"]

CHAT_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def pair_rows() -> list[dict[str, Any]]:
    """Sixty pairs over thirty prompts; words of one pool are better than those of the other, one pair in ten is not."""
    rng = np.random.default_rng(0)

    def words(good: int, bad: int) -> str:
        return " ".join([*rng.choice(_GOOD, good), *rng.choice(_BAD, bad)]).capitalize() + "."

    rows = []
    for number in range(60):
        prompt = _ASKS[number % 3].format(_THINGS[number // 3 % 10])
        better, worse = words(int(rng.integers(3, 12)), 1), words(1, int(rng.integers(3, 12)))
        chosen, rejected = (worse, better) if number % 10 == 9 else (better, worse)
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def _words() -> list[str]:
    """Return the words of `pair_rows`, sorted; tokenizers are built from them by hand, since trained ones vary."""
    texts = (row[key] for row in pair_rows() for key in ("prompt", "chosen", "rejected"))
    return sorted({word.strip(".,?").lower() for text in texts for word in text.split()})


def causal_tokenizer(*, chat: bool = False) -> Any:
    """Build a byte-level BPE tokenizer that writes ``<s>`` first and knows ``</s>``, ``<pad>`` and chat marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    pieces = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in _words()[::4]:
        left = "\u0120"  # how byte-level tokenizers write the space before a word
        for letter in word:
            if left + letter not in pieces:
                merges.append((left, letter))
                pieces.append(left + letter)
            left += letter
    inner = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(marks)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=128
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encoder_tokenizer() -> Any:
    """Build a WordPiece tokenizer that writes ``[CLS] … [SEP]``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*marks, *letters, *(f"##{letter}" for letter in letters), *(w for w in _words() if len(w) > 1)]
    inner = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.add_special_tokens(marks)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def llama_config(tokenizer: Any, **changes: Any) -> Any:
    """Return the shape of a two-layer Llama for a tokenizer."""
    from transformers import LlamaConfig

    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        # larger than usual: the states of different texts then differ by much more than rounding
        "initializer_range": 0.2,
    }
    return LlamaConfig(**shape | changes)


def bert_config(tokenizer: Any, **changes: Any) -> Any:
    """Return the shape of a two-layer BERT for a tokenizer."""
    from transformers import BertConfig

    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.2,
    }
    return BertConfig(**shape | changes)


def save_model(folder: Path, kind: Any, config: Any, tokenizer: Any) -> Path:
    """Save a randomly initialised model (seeded, without touching the global generator) and its tokenizer."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer Llama language model, without a chat template."""
    from transformers import LlamaForCausalLM

    tokenizer = causal_tokenizer()
    return save_model(tmp_path_factory.mktemp("tiny") / "causal", LlamaForCausalLM, llama_config(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same model with a chat template (`CHAT_TEMPLATE`)."""
    from transformers import LlamaForCausalLM

    tokenizer = causal_tokenizer(chat=True)
    return save_model(tmp_path_factory.mktemp("tiny") / "chat", LlamaForCausalLM, llama_config(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer BERT."""
    from transformers import BertModel

    tokenizer = encoder_tokenizer()
    return save_model(tmp_path_factory.mktemp("tiny") / "encoder", BertModel, bert_config(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JSONL of `pair_rows`: explicit pairs with ``prompt``, ``chosen`` and ``rejected``."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pair_rows()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def learned() -> Callable[..., Any]:
    """Return a function that gives a new reward model head weights unlike zero, as if it had been trained."""
    import torch

    def give(model: Any, seed: int = 1) -> Any:
        generator = torch.Generator().manual_seed(seed)
        zeros = [p for name, p in model.named_parameters() if not p.any() and ("head" in name or "score" in name)]
        zeros += [p for name, p in model.named_parameters() if "lora_B" in name or "classifier" in name]
        with torch.no_grad():
            for parameter in zeros:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model.eval()

    return give
