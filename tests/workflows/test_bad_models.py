"""A model folder that is not what it was: every verb refuses it with its place, and writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.conftest import Cli, tree
from tests.workflows.test_bad_input import assert_refused


def edit_template(model: Path) -> None:
    stored = json.loads((model / "assay.json").read_text("utf-8"))
    stored["conversation"]["template"] = "plain"
    (model / "assay.json").write_text(json.dumps(stored), "utf-8")


def edit_tokenizer(model: Path) -> None:
    path = model / "tokenizer" / "tokenizer.json"
    stored = json.loads(path.read_text("utf-8"))
    words = stored["model"]["vocab"]
    first, second = [word for word in words if word.isalpha()][:2]
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(stored), "utf-8")


def edit_head(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = model / "head.safetensors"
    state = load_file(path)
    save_file({name: value + 0.1 for name, value in state.items()}, path)


def remove(name: str) -> Callable[[Path], None]:
    def run(model: Path) -> None:
        path = model / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return run


def cut(name: str) -> Callable[[Path], None]:
    def run(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: len(content) // 2])

    return run


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "template changed": (edit_template, "template or tokenizer"),
    "tokenizer changed": (edit_tokenizer, "template or tokenizer"),
    "head changed": (edit_head, "score head"),
    "head missing": (remove("head.safetensors"), "score head is missing"),
    "head torn": (cut("head.safetensors"), "head"),
    "tokenizer missing": (remove("tokenizer"), "tokenizer"),
    "template missing": (remove("assay.json"), "assay.json is missing"),
    "template torn": (cut("assay.json"), "assay.json is damaged"),
    "configuration missing": (remove("config.json"), "config.json"),
    "configuration torn": (cut("config.json"), "config.json"),
    "weights missing": (remove("backbone/model.safetensors"), "backbone"),
    "weights torn": (cut("backbone/model.safetensors"), "backbone"),
    "backbone missing": (remove("backbone"), "backbone"),
    "seen groups torn": (cut("seen_groups.npy"), "seen_groups.npy"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_model(name: str, cli: Cli, trained: Path, pairs_file: Path, tmp_path: Path) -> None:
    damage, named = DAMAGES[name]
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    damage(model)
    before = tree(tmp_path)
    verb = "evaluate" if name == "seen groups torn" else "score"
    said = cli(verb, "model", pairs_file, "--out", "out")
    assert_refused(said, named, "model")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "export"])
def test_every_verb_refuses(verb: str, cli: Cli, trained: Path, pairs_file: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    edit_head(tmp_path / "model")
    before = tree(tmp_path)
    data = [] if verb == "export" else [pairs_file]
    assert_refused(cli(verb, "model", *data, "--out", "out"), "score head", "restore")
    assert tree(tmp_path) == before


def test_what_is_no_reward_model(cli: Cli, tiny_causal: Path, pairs_file: Path) -> None:
    assert_refused(cli("evaluate", tiny_causal, pairs_file), "not a reward model", "LlamaForCausalLM")
    Path("empty").mkdir()
    assert_refused(cli("evaluate", "empty", pairs_file), "no model", "empty")
    assert_refused(cli("evaluate", "./nowhere", pairs_file), "nowhere")


def test_damaged_baselines(cli: Cli, trained: Path, many_pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "baselines" / "length" / "length.json").unlink()
    assert_refused(cli("evaluate", "run", many_pairs), "length.json", "baseline is missing")
