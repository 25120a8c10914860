"""A saved model is the same model, and one that is not itself any more is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from assay.errors import ModelError
from assay.scorers import LoraOptions, RewardModel, export
from tests.scorers.conftest import PROMPTS, REPLIES, same

Make = Callable[..., RewardModel]
LORA = LoraOptions(rank=2)


@pytest.mark.parametrize("fixture", ["tiny_chat", "tiny_encoder"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head": "mlp", "head_options": {"hidden": 8}},
        {"members": 3},
        {"head": "mlp", "members": 2, "head_options": {"hidden": 8}, "pooling": "mean"},
        {"layout": "native"},
        {"lora": LORA},
        {"lora": LORA, "layout": "native"},
        {"lora": LORA, "members": 2},
        {"freeze_backbone": True, "end_token": "none", "max_length_tokens": 40, "truncation": "right"},
    ],
    ids=str,
)
def test_round_trip(
    fixture: str, options: dict[str, Any], request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    model = make(request.getfixturevalue(fixture), **options)
    model.record.score = {"mean": 0.5, "std": 2.0}
    model.record.calibration = {"temperature": 1.5, "pairs": 10}
    model.record.data = {"train_pairs": 54}
    model.save_pretrained(tmp_path)
    loaded = RewardModel.from_pretrained(tmp_path)
    ids = [e.ids for e in model.encoder.encode(PROMPTS, REPLIES)]
    expected = model.score_encoded(ids)
    assert np.abs(expected).max() > 0.01 and len(np.unique(expected)) > 3
    same(loaded.score_encoded([e.ids for e in loaded.encoder.encode(PROMPTS, REPLIES)]), expected)
    assert loaded.encoder.settings == model.encoder.settings and loaded.encoder.pad_id == model.encoder.pad_id
    assert loaded.record == model.record and not loaded.training
    assert loaded.config.to_dict() == model.config.to_dict() | {
        "transformers_version": loaded.config.transformers_version
    }


@pytest.mark.parametrize("fixture", ["tiny_causal", "tiny_encoder"])
@pytest.mark.parametrize("layout", ["assay", "native"])
def test_adapter_merges_to_the_same_scores(
    fixture: str, layout: str, request: pytest.FixtureRequest, make: Make, tmp_path: Path
) -> None:
    model = make(request.getfixturevalue(fixture), lora=LORA, layout=layout)
    expected = model.score(PROMPTS, REPLIES)
    model.save_pretrained(tmp_path / "adapter")
    again = RewardModel.from_pretrained(tmp_path / "adapter")
    again.merge_adapter()
    same(again.score(PROMPTS, REPLIES), expected)
    again.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter").exists()
    same(RewardModel.from_pretrained(tmp_path / "merged").score(PROMPTS, REPLIES), expected)


def test_adapter_on_a_base_without_pad_token(tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_causal, tmp_path / "base")
    change(base / "config.json", lambda content: content.update(pad_token_id=None))
    for layout in ("assay", "native"):
        model = make(base, lora=LORA, layout=layout)
        model.save_pretrained(tmp_path / layout)
        same(RewardModel.from_pretrained(tmp_path / layout).score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES))
        export(model, tmp_path / "plain" / layout)
        again = RewardModel.from_pretrained(tmp_path / "plain" / layout, template="hh")
        same(again.score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES))


def test_adapter_of_an_encoder_without_pooler_keeps_the_new_one(tiny_encoder: Path, make: Make, tmp_path: Path) -> None:
    from tests.scorers.test_backbones import copy_without

    base = copy_without(tiny_encoder, tmp_path / "base", "pooler.dense.weight", "pooler.dense.bias")
    model = make(base, lora=LORA, layout="native", seed=5)
    model.save_pretrained(tmp_path / "model")
    same(RewardModel.from_pretrained(tmp_path / "model").score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES))


@pytest.mark.parametrize("options", [{}, {"lora": LORA}, {"lora": LORA, "layout": "native"}, {"layout": "native"}])
def test_weights_load_into_a_living_model(
    options: dict[str, Any], tiny_causal: Path, make: Make, tmp_path: Path
) -> None:
    model = make(tiny_causal, **options)
    expected = model.score(PROMPTS, REPLIES)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    assert np.abs(model.score(PROMPTS, REPLIES) - expected).max() > 0.01
    model.load_weights(tmp_path)
    same(model.score(PROMPTS, REPLIES), expected)


def test_paths(tiny_causal: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_causal.parent)
    model = make(Path(tiny_causal.name), lora=LORA)  # the base is named by a relative path
    expected = model.score(PROMPTS, REPLIES)
    model.save_pretrained(tmp_path / "runs" / "demo" / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = [
        "runs/demo/model",
        "./runs/demo/model",
        "runs/demo",
        "~/runs/demo",
        str(tmp_path / "runs" / "demo" / "model"),
    ]
    for name in names:
        same(RewardModel.from_pretrained(name).score(PROMPTS, REPLIES), expected)
    monkeypatch.chdir(tmp_path / "runs")
    same(RewardModel.from_pretrained("demo").score(PROMPTS, REPLIES), expected)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs/demo/model", "no such model folder"),
        ("./x", "no such model folder"),
        ("/no/such/place", "no such model folder"),
        ("runs/demo", "no folder 'runs/demo', and no such model on the Hub"),
        ("x", "no folder 'x', and no such model on the Hub"),
        ("a file.txt", "this is a file"),
        ("empty", "holds no model"),
    ],
)
def test_missing_places(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=words) as caught:
        RewardModel.from_pretrained(name)
    assert name in str(caught.value)


def test_model_from_the_hub_is_loaded_from_its_snapshot(
    tiny_causal: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tiny_causal)
    model.save_pretrained(tmp_path / "snapshot")
    asked: list[str] = []

    def download(name: str) -> str:
        asked.append(name)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    same(RewardModel.from_pretrained("somebody/model").score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES))
    assert asked == ["somebody/model"]


# --- a model that is not itself any more ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, causal: RewardModel) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "model"
    causal.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def stored_chat(tmp_path_factory: pytest.TempPathFactory, chat: RewardModel) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "chat"
    chat.save_pretrained(folder)
    return folder


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        RewardModel.from_pretrained(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("head.safetensors", "score head is missing"),
        ("assay.json", "assay.json is missing"),
        ("config.json", "holds no model"),
        ("backbone", "cannot load the backbone"),
        ("tokenizer", "cannot load the tokenizer"),
    ],
)
def test_missing_part(gone: str, words: str, stored: Path, tmp_path: Path) -> None:  # defect 8
    folder = shutil.copytree(stored, tmp_path / "model")
    (shutil.rmtree if (folder / gone).is_dir() else Path.unlink)(folder / gone)
    refused(folder, words)


@pytest.mark.parametrize("name", ["assay.json", "config.json", "head.safetensors", "backbone/config.json"])
@pytest.mark.parametrize("content", ["{", "", "[]"])
def test_damaged_part(name: str, content: str, stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    (folder / name).write_text(content)
    refused(folder, "damaged|does not fit|not that of an assay model|cannot load")


def change(path: Path, change_it: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change_it(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_changed_head_weight(stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    head = load_file(folder / "head.safetensors")
    head["weight"][0, 3] += 1e-3
    save_file(head, folder / "head.safetensors")
    refused(folder, "the score head is not the one")


def test_head_of_another_shape(stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    save_file({"weight": torch.zeros(2, 32)}, folder / "head.safetensors")
    refused(folder, "does not fit")


def test_lost_backbone_weight(stored: Path, tmp_path: Path) -> None:  # defect 8: nothing is initialised in its place
    folder = shutil.copytree(stored, tmp_path / "model")
    weights = load_file(folder / "backbone" / "model.safetensors")
    del weights["layers.0.self_attn.q_proj.weight"]
    save_file(weights, folder / "backbone" / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"partly random(.|\n)*q_proj")


def swap_two_tokens(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["T"], vocabulary["N"] = vocabulary["N"], vocabulary["T"]


def test_changed_tokenizer(stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    change(folder / "tokenizer" / "tokenizer.json", swap_two_tokens)
    refused(folder, "template or tokenizer is not the one")


def test_changed_chat_template(stored_chat: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored_chat, tmp_path / "model")
    path = folder / "tokenizer" / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|user|>", "<|system|>").replace("<|{{", "<|{{ '' }}{{") + "!")
    refused(folder, "template or tokenizer is not the one")


@pytest.mark.parametrize(
    ("key", "value"), [("max_length_tokens", 64), ("end_token", None), ("truncation", "right"), ("template", "plain")]
)
def test_changed_setting(key: str, value: Any, stored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    change(folder / "assay.json", lambda content: content["conversation"].update({key: value}))
    refused(folder, "template or tokenizer is not the one")


def test_library_versions_may_change(stored: Path, tmp_path: Path, causal: RewardModel) -> None:
    folder = shutil.copytree(stored, tmp_path / "model")
    change(folder / "assay.json", lambda content: content["versions"].update(torch="9.9"))
    change(folder / "tokenizer" / "tokenizer_config.json", lambda content: content.update(added_by_an_update=True))
    same(RewardModel.from_pretrained(folder).score(PROMPTS, REPLIES), causal.score(PROMPTS, REPLIES))


def drop_adapter_weight(folder: Path) -> None:
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "adapter"), "the adapter is missing"),
        (lambda folder: (folder / "adapter" / "adapter_config.json").unlink(), "the adapter is missing"),
        (lambda folder: (folder / "adapter" / "adapter_model.safetensors").unlink(), "the adapter is missing"),
        (lambda folder: (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"x"), "does not fit"),
        (lambda folder: (folder / "adapter" / "adapter_config.json").write_text("{}"), "cannot load the adapter"),
        (lambda folder: (folder / "head.safetensors").unlink(), "score head is missing"),
        (drop_adapter_weight, "the adapter lacks weights"),
    ],
    ids=["folder", "config", "weights", "damaged", "empty config", "head", "one weight"],
)
def test_harmed_adapter(harm: Callable[[Path], Any], words: str, tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    # defect 8
    make(tiny_causal, lora=LORA).save_pretrained(tmp_path)
    harm(tmp_path)
    refused(tmp_path, words)


def test_adapter_whose_base_is_gone(tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_causal, tmp_path / "base")
    make(base, lora=LORA).save_pretrained(tmp_path / "model")
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=f"cannot load the backbone '{base}'"):
        RewardModel.from_pretrained(tmp_path / "model")


def test_adapter_whose_base_was_trained_on(tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_causal, tmp_path / "base")
    model = make(base, lora=LORA)
    model.save_pretrained(tmp_path / "model")
    half = RewardModel.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)  # the same base, rounded
    np.testing.assert_allclose(half.score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES), atol=0.3)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] *= 1.1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    refused(tmp_path / "model", "backbone .* under the adapter is not the one")


def test_weights_without_a_head_are_not_saved(causal: RewardModel, tmp_path: Path) -> None:  # defect 8
    state = {name: value for name, value in causal.state_dict().items() if not name.startswith("head.")}
    with pytest.raises(ModelError, match="no score head"):
        causal.save_pretrained(tmp_path / "model", state_dict=state)
    assert not (tmp_path / "model").exists()


def test_gathered_weights_are_what_is_saved(tiny_causal: Path, make: Make, tmp_path: Path) -> None:
    model = make(tiny_causal)
    expected = model.score(PROMPTS, REPLIES)
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        next(model.head.parameters()).zero_()  # as a shard would differ from the whole
    model.save_pretrained(tmp_path, state_dict=gathered)
    same(RewardModel.from_pretrained(tmp_path).score(PROMPTS, REPLIES), expected)


def test_other_processes_write_nothing(causal: RewardModel, tmp_path: Path) -> None:
    causal.save_pretrained(tmp_path / "model", is_main_process=False)
    assert not (tmp_path / "model").exists()


# --- the Hub ----------------------------------------------------------------------------------------------------------


def test_upload_offline_is_refused(causal: RewardModel) -> None:
    with pytest.raises(ModelError, match=r"somebody/model: cannot upload to the Hub(.|\n)*HF_HUB_OFFLINE"):
        causal.push_to_hub("somebody/model")


def test_upload_sends_the_whole_folder(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    class Api:
        def __init__(self, token: str | None) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            calls.append(("create", (repo_id, private, exist_ok)))

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            calls.append(("upload", (repo_id, sorted(p.name for p in Path(folder_path).iterdir()))))
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert causal.push_to_hub("somebody/model", private=True, token="t") == "https://example.org/somebody/model"
    files = ["README.md", "assay.json", "backbone", "config.json", "head.safetensors", "tokenizer"]
    assert calls == [("token", "t"), ("create", ("somebody/model", True, True)), ("upload", ("somebody/model", files))]
