"""What travels with the weights: fingerprints of behaviour, and a card that says what the model is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.errors import ModelError
from assay.scorers import ConversationEncoder, ConversationSettings, LoraOptions, RewardModel
from assay.scorers.card import card_text
from assay.scorers.provenance import Provenance, conversation_fingerprint, weights_fingerprint
from assay.versions import current_versions
from tests.conftest import causal_tokenizer

SETTINGS = ConversationSettings("hh", 100, "</s>")


def fingerprint(**changes: Any) -> str:
    return conversation_fingerprint(ConversationEncoder(causal_tokenizer(), dataclasses.replace(SETTINGS, **changes)))


def test_fingerprint_knows_every_setting() -> None:
    changes: list[dict[str, Any]] = [
        {"template": "plain"}, {"max_length_tokens": 99}, {"end_token": None}, {"truncation": "right"},
        {"ends_cut": False},
    ]  # fmt: skip
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 6
    assert fingerprint() == fingerprint()


def test_template_that_refuses_a_probe_has_a_fingerprint() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[-1].content }}"
    assert fingerprint(template="custom", template_source=strict) != fingerprint()


def test_weights_fingerprint_sees_one_weight_and_not_the_order() -> None:
    a, b = torch.zeros(2, 3), torch.ones(4)
    known = weights_fingerprint({"a": a, "b": b})
    assert known == weights_fingerprint({"b": b.clone(), "a": a.clone()})
    assert known == weights_fingerprint({"a": a.to(torch.bfloat16), "b": b})  # the same values
    changed = a.clone()
    changed[1, 2] = 1e-30
    others = [{"a": changed, "b": b}, {"a": a, "c": b}, {"a": a}]
    assert known not in {weights_fingerprint(other) for other in others}


def test_record_round_trip(tmp_path: Path) -> None:
    record = Provenance(
        SETTINGS, {"head": "x"}, {"mean": 0.1, "std": 1.0}, {"temperature": 2.0}, {"source": "Grüße"}, {"torch": "2"}
    )
    record.write(tmp_path)
    assert Provenance.read(tmp_path) == record


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "conversation": {"template": "hh"}}'],
)
def test_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "assay.json").write_text(content)
    with pytest.raises(ModelError, match=r"assay\.json is damaged(.|\n)*restore"):
        Provenance.read(tmp_path)


def test_versions_name_what_decides_a_score() -> None:
    versions = current_versions()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert {"transformers", "tokenizers"} <= set(versions)


def test_card_says_what_the_model_is(causal: RewardModel, tmp_path: Path) -> None:
    causal.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: assay\n")
    for words in (
        "RewardModel.from_pretrained", "| template | hh |", "| end token | </s> |", "| pooling | last |",
        "128 tokens, prompt cut on the left", "| calibration | not calibrated |",
        f"torch {current_versions()['torch']}",
    ):  # fmt: skip
        assert words in text, words


def test_card_of_a_native_calibrated_adapter(tiny_chat: Path, make: Any) -> None:
    model = make(tiny_chat, layout="native", lora=LoraOptions(rank=2))
    model.record.calibration = {"temperature": 1.7321}
    model.record.data = {"train_pairs": 54, "source": "pairs.jsonl"}
    text = card_text(model)
    for words in (
        "| head | of the plain class |", "| end token | as the template ends |", "| calibration | temperature 1.73 |",
        "| train pairs | 54 |", "| source | pairs.jsonl |", f"| backbone | {tiny_chat} |",
    ):  # fmt: skip
        assert words in text, words
