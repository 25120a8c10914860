"""An exported model scores the same in the hands of somebody who knows transformers only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from assay.errors import ModelError
from assay.scorers import LoraOptions, RewardModel, export
from tests.conftest import causal_tokenizer
from tests.scorers.conftest import same
from tests.scorers.test_conversation import _Clock

Make = Callable[..., RewardModel]
CHATS: list[tuple[Any, str]] = [
    ([{"role": "user", "content": "Name a sea."}], "The Baltic."),
    ([{"role": "user", "content": "What is a bird?"}], "It flies, certainly, and that is the reason given."),
    (
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": " Ein „Satz“\n"},
        ],
        "No.",
    ),
    ([{"role": "user", "content": ""}], ""),
]


def by_transformers(folder: Path) -> np.ndarray:
    """Score `CHATS` as TRL does with a reward model: chat template, right padding, no special tokens, first logit."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    messages = [[*prompt, {"role": "assistant", "content": reply}] for prompt, reply in CHATS]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in messages]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    with torch.inference_mode():
        return model(**inputs).logits[:, 0].numpy()


def by_us(model: RewardModel) -> np.ndarray:
    return model.score([prompt for prompt, _ in CHATS], [reply for _, reply in CHATS])


@pytest.mark.parametrize("layout", ["assay", "native"])
@pytest.mark.parametrize("template", ["chat", "plain", "hh", "pair", "custom"])
def test_causal_export_scores_the_same(
    template: str, layout: str, tiny_causal: Path, tiny_chat: Path, make: Make, tmp_path: Path
) -> None:
    if template == "custom":
        path = tmp_path / "mine.jinja"
        path.write_text("\n {% for m in messages %}\n[{{ m.role }}] {{ m.content }}\n{% endfor %}  \n\n")
        template = str(path)
    model = make(tiny_chat if template == "chat" else tiny_causal, template=template, layout=layout)
    expected = by_us(model)
    assert len({round(float(x), 3) for x in expected}) == len(CHATS)
    assert export(model, tmp_path / "plain") <= 1e-5
    same(by_transformers(tmp_path / "plain"), expected)
    same(by_us(model), expected)  # the model itself is left as it was


def test_chat_template_with_an_end_token_of_its_own(tiny_chat: Path, make: Make, tmp_path: Path) -> None:
    model = make(tiny_chat, end_token="</s>")
    assert [e.ids[-1] for e in model.encoder.encode(["Q"], ["A"])] == [2]
    export(model, tmp_path)
    same(by_transformers(tmp_path), by_us(model))


def test_exported_template_keeps_its_date(
    tiny_chat: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # defect 10
    from transformers.utils import chat_template_utils

    path = tmp_path / "dated.jinja"
    path.write_text(
        "<s>{{ strftime_now('%d %b %Y') }}{{ date_string }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    model = make(tiny_chat, template=str(path))
    expected = by_us(model)
    export(model, tmp_path / "plain")
    monkeypatch.setattr(chat_template_utils, "datetime", _Clock)
    same(by_transformers(tmp_path / "plain"), expected)


@pytest.mark.parametrize("layout", ["assay", "native"])
def test_adapter_is_merged(layout: str, tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    model = make(tiny_causal, lora=LoraOptions(rank=2), layout=layout)
    expected = by_us(model)
    export(model, tmp_path)
    same(by_transformers(tmp_path), expected)


@pytest.mark.parametrize("template", ["pair", "plain"])
def test_native_encoder_scores_the_same(template: str, tiny_encoder: Path, make: Make, tmp_path: Path) -> None:
    model = make(tiny_encoder, layout="native", template=template)
    expected = by_us(model)
    assert np.ptp(expected) > 0.01
    export(model, tmp_path)
    same(by_transformers(tmp_path), expected)


def test_exported_folder_comes_back_with_the_same_scores(tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    model = make(tiny_causal)
    export(model, tmp_path)
    same(by_us(RewardModel.from_pretrained(tmp_path)), by_us(model))


@pytest.mark.parametrize(
    ("fixture", "options", "reason"),
    [
        ("tiny_encoder", {}, "reply pooling does not exist"),
        ("tiny_causal", {"pooling": "mean"}, "mean pooling does not exist"),
        ("tiny_causal", {"head": "mlp"}, "not a single linear layer"),
        ("tiny_causal", {"members": 2}, "not a single linear layer"),
    ],
)
def test_what_the_plain_class_cannot_say_is_refused_with_the_reason(
    fixture: str, options: dict[str, Any], reason: str, request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    model = make(request.getfixturevalue(fixture), **options)
    with pytest.raises(ModelError, match=rf"{reason}(.|\n)*--layout native"):
        export(model, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize("layout", ["assay", "native"])
def test_pad_that_is_the_end_token_is_refused(layout: str, make: Make, tiny_causal: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_causal.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    inner = causal_tokenizer().backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>").save_pretrained(base)
    with pytest.raises(ModelError, match="pad and end token are the same"):
        export(make(base, layout=layout), tmp_path / "plain")


def test_nothing_is_written_where_scores_would_differ(
    tiny_causal: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the package shows the function of this name, not the module
    module = importlib.import_module("assay.scorers.export")
    monkeypatch.setattr(module, "_largest_difference", lambda *_: float("nan"))
    with pytest.raises(ModelError, match="would score differently"):
        export(make(tiny_causal), tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
