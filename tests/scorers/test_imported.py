"""Plain sequence classifiers with one label are reward models too, with the scores of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
)

from assay.errors import ModelError
from assay.scorers import RewardModel
from tests.conftest import bert_config, causal_tokenizer, encoder_tokenizer, llama_config, save_model
from tests.scorers.conftest import PROMPTS, REPLIES, same


def directly(folder: Path, texts: list[str], pad_id: int | None) -> np.ndarray:
    """Score text one by one with transformers; end and leading token are in the text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = pad_id
    scores = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            scores.append(float(model(**inputs).logits[0, 0]))
    return np.array(scores)


@pytest.mark.parametrize("config_pad", [0, 5, None])
def test_causal_classifier(config_pad: int | None, tmp_path: Path) -> None:
    tokenizer = causal_tokenizer()
    config = llama_config(tokenizer, num_labels=1, pad_token_id=config_pad)
    folder = save_model(tmp_path / "plain", LlamaForSequenceClassification, config, tokenizer)
    model = RewardModel.from_pretrained(folder)
    texts = [f"<s>{p}{r}</s>" for p, r in zip(PROMPTS, REPLIES, strict=True)]
    expected = directly(folder, texts, config_pad)
    assert np.ptp(expected) > 0.1
    same(model.score(PROMPTS, REPLIES), expected)
    same(model.score_text(texts), expected)
    assert model.encoder.pad_id == (0 if config_pad is None else config_pad)
    model.save_pretrained(tmp_path / "ours")
    again = RewardModel.from_pretrained(tmp_path / "ours")
    assert again.encoder.pad_id == model.encoder.pad_id
    same(again.score(PROMPTS, REPLIES), expected)


def test_pad_that_is_the_end_token_stays_where_the_class_expects_it(tmp_path: Path) -> None:
    # the plain class then reads the last token that is not the end token; a score must be that one, padded or not
    tokenizer = causal_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128, num_labels=1, pad_token_id=2,
        initializer_range=0.3,
    )  # fmt: skip
    folder = save_model(tmp_path / "plain", GPT2ForSequenceClassification, config, tokenizer)
    model = RewardModel.from_pretrained(folder)
    texts = [f"<s>{p}{r}</s>" for p, r in zip(PROMPTS, REPLIES, strict=True)]
    expected = directly(folder, texts, 2)
    same(model.score(PROMPTS, REPLIES), expected)
    model.save_pretrained(tmp_path / "ours")
    same(RewardModel.from_pretrained(tmp_path / "ours").score(PROMPTS, REPLIES), expected)


def test_chat_classifier(tmp_path: Path) -> None:
    tokenizer = causal_tokenizer(chat=True)
    folder = save_model(
        tmp_path / "plain", LlamaForSequenceClassification, llama_config(tokenizer, num_labels=1), tokenizer
    )
    model = RewardModel.from_pretrained(folder)
    texts = [f"<s><|user|>\n{p}</s>\n<|assistant|>\n{r}</s>\n" for p, r in zip(PROMPTS, REPLIES, strict=True)]
    same(model.score(PROMPTS, REPLIES), directly(folder, texts, 0))


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]])
@pytest.mark.parametrize(("options", "middle"), [({}, ""), ({"template": "pair"}, "[SEP]")])
def test_encoder_classifier(names: list[str], options: dict[str, Any], middle: str, tmp_path: Path) -> None:
    tokenizer = encoder_tokenizer()
    folder = save_model(
        tmp_path / "plain", BertForSequenceClassification, bert_config(tokenizer, num_labels=1), tokenizer
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": names}), "utf-8")
    model = RewardModel.from_pretrained(folder, **options)
    assert model.config.segments == (len(names) == 3 and bool(middle))
    prompts, replies = PROMPTS[:3], REPLIES[:3]
    texts = [(p, r) if middle else (p + r,) for p, r in zip(prompts, replies, strict=True)]
    expected = np.array([in_one_piece(folder, *text) for text in texts])
    same(model.score(prompts, replies), expected)
    same(model.score(prompts, replies, token_budget=1), expected)


def in_one_piece(folder: Path, *texts: str) -> float:
    """Score one text, or two as a cross-encoder reads them, with transformers alone."""
    inputs = AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt")
    with torch.inference_mode():
        return float(AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits[0, 0])


def test_more_than_one_label_is_refused(tmp_path: Path) -> None:
    tokenizer = encoder_tokenizer()
    folder = save_model(
        tmp_path / "plain", BertForSequenceClassification, bert_config(tokenizer, num_labels=2), tokenizer
    )
    with pytest.raises(ModelError, match=r"not a reward model(.|\n)*2 labels"):
        RewardModel.from_pretrained(folder)


def test_language_model_is_refused(tiny_causal: Path) -> None:
    with pytest.raises(ModelError, match=r"not a reward model(.|\n)*LlamaForCausalLM"):
        RewardModel.from_pretrained(tiny_causal)


@pytest.mark.parametrize("lost", ["score.weight", "model.layers.0.mlp.up_proj.weight"])
def test_missing_weights_are_refused(lost: str, tmp_path: Path) -> None:  # defect 8
    tokenizer = causal_tokenizer()
    config = llama_config(tokenizer, num_labels=1)
    folder = save_model(tmp_path / "plain", LlamaForSequenceClassification, config, tokenizer)
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"weights are missing(.|\n)*{lost}") as caught:
        RewardModel.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_head_of_another_size_is_refused(tmp_path: Path) -> None:
    tokenizer = causal_tokenizer()
    config = llama_config(tokenizer, num_labels=1)
    folder = save_model(tmp_path / "plain", LlamaForSequenceClassification, config, tokenizer)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] = torch.zeros(2, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="cannot load the classifier"):
        RewardModel.from_pretrained(folder)
