"""Small causal policies to teach classification to: MiniLM read from left to right, and Llamas, one with its words.

    python studies/small_policies.py minilm tasks/sst2 models/small     # for assay run rllr --backbone models/small

The vocabulary is that of what a task's folder teaches and asks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    BertGenerationConfig,
    BertGenerationDecoder,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from assay.feedback.tasks.task import MARK
from assay.scorers.packaged import minilm_folder

PAD, END = "[PAD]", "[SEP]"


def warm_started(folder: Path, texts: Sequence[str], seed: int) -> None:
    """Write MiniLM as a causal language model: its layers, which now see no later token, and a new vocabulary head.

    Its vocabulary is cut to single characters and the pieces of some texts; a line break and the mark of answers, which
    it does not know, are new pieces. It writes in lower case.
    """
    kept, state = _minilm_words(folder, texts)
    words = state.pop("embeddings.word_embeddings.weight")
    given = AutoConfig.from_pretrained(minilm_folder())
    names = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"]
    names += ["max_position_embeddings", "layer_norm_eps"]
    config = BertGenerationConfig(
        vocab_size=len(kept) + 2,
        is_decoder=True,
        pad_token_id=kept.index(PAD),
        eos_token_id=kept.index(END),
        bos_token_id=kept.index("[CLS]"),
        tie_word_embeddings=True,
        **{name: getattr(given, name) for name in names},
    )
    torch.manual_seed(seed)
    model: Any = BertGenerationDecoder(config)
    # there are no segments here: what the first one adds to every token is part of its place
    state["embeddings.position_embeddings.weight"] += state.pop("embeddings.token_type_embeddings.weight")[0]
    missing, unexpected = model.bert.load_state_dict(state, strict=False)
    strange = set(missing) ^ {"embeddings.word_embeddings.weight"}
    strange |= {name for name in unexpected if not name.startswith(("pooler", "embeddings.position_ids"))}
    assert not strange, strange
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[: len(words)] = words
    model.save_pretrained(folder)


def with_word_vectors(folder: Path, texts: Sequence[str], seed: int) -> None:
    """Write a Llama of two untrained layers over MiniLM's word vectors, its vocabulary cut as of `warm_started`."""
    kept, state = _minilm_words(folder, texts)
    words = state["embeddings.word_embeddings.weight"]
    config = LlamaConfig(
        vocab_size=len(kept) + 2,
        hidden_size=words.shape[1],
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=kept.index(PAD),
        bos_token_id=kept.index("[CLS]"),
        eos_token_id=kept.index(END),
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[: len(words)] = words
    model.save_pretrained(folder)


def _minilm_words(folder: Path, texts: Sequence[str]) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Write MiniLM's tokenizer, cut to some texts; return the pieces kept, and the weights, word vectors cut alike."""
    source = Path(minilm_folder())
    spec = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    spec |= {"post_processor": None, "padding": None, "truncation": None}
    whole, vocabulary = Tokenizer.from_str(json.dumps(spec)), spec["model"]["vocab"]
    used = {piece for text in texts for piece in whole.encode(text, add_special_tokens=False).tokens}
    kept = [
        piece
        for piece, _ in sorted(vocabulary.items(), key=lambda own: own[1])
        if piece in used or len(piece.removeprefix("##")) == 1 or (piece[0] == "[" and "unused" not in piece)
    ]
    rows = [vocabulary[piece] for piece in kept]
    spec["model"]["vocab"] = {piece: number for number, piece in enumerate(kept)}
    added = [own | {"id": kept.index(own["content"])} for own in spec["added_tokens"] if own["content"] in kept]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    added += [{"id": len(kept) + k, "content": text} | plain for k, text in enumerate(("\n", MARK))]
    spec["added_tokens"] = added
    _write_tokenizer(folder, Tokenizer.from_str(json.dumps(spec)), PAD, END, "[UNK]")
    state = {name.removeprefix("bert."): own for name, own in load_file(source / "model.safetensors").items()}
    state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"][rows]
    return kept, state


def from_scratch(folder: Path, texts: Sequence[str], seed: int) -> None:
    """Write an untrained Llama of 2.2M weights, with byte pairs of some texts as its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    _write_tokenizer(folder, tokenizer, "<pad>", "</s>", None)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, pad: str, end: str, unknown: str | None) -> None:
    more = {} if unknown is None else {"unk_token": unknown}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, eos_token=end, **more).save_pretrained(folder)


POLICIES = {"minilm": warm_started, "words": with_word_vectors, "scratch": from_scratch}


def texts_of(task: Path) -> list[str]:
    """Return what the folder of a task teaches and asks."""
    rows = [
        json.loads(line)
        for name in ("teach", "prompts")
        for line in (task / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    return [text for row in rows for text in (row["prompt"][0]["content"], row.get("response", "")) if text]


def main() -> None:
    """Write one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=POLICIES)
    parser.add_argument("task", type=Path, help="folder that assay task wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    POLICIES[given.kind](given.out, texts_of(given.task), given.seed)


if __name__ == "__main__":
    main()
