"""The command line in-process, and runs that several tests look at."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import assay
from assay.cli import main
from tests.conftest import causal_tokenizer, llama_config


class Said(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]
SMALL = ("--epochs", "1", "--patience", "0", "--evaluations-per-epoch", "1", "--resamples", "200")


def run(*words: Any) -> Said:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Said(code, out.getvalue(), err.getvalue())


_FIGURES = ["learning", "margins", "raw", "calibrated", "baselines"]
_FIGURES += ["by_margin", "by_length", "by_length_bins", "by_source"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, as a user would: nothing may be written into the repository.

    Reports are written without figures, which take longer than everything else; those of the session's runs have them.
    """
    import torch

    torch.set_num_threads(1)
    monkeypatch.setattr("assay.evaluation.report._figures", lambda _: dict.fromkeys(_FIGURES, "<svg></svg>"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli() -> Cli:
    return run


@pytest.fixture(scope="session")
def many_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 260 pairs over 130 prompts, the last ones with the same words as the first, to learn from."""
    rng = np.random.default_rng(1)
    good, bad = ["fine", "clear", "answer", "example", "helps"], ["no", "idea", "boring", "nonsense", "whatever"]
    rows = []
    for number in range(260):
        sides = [" ".join(rng.choice(pool, rng.integers(2, 8))) for pool in (good, bad)]
        chosen, rejected = sides if rng.random() < 0.85 else sides[::-1]
        rows.append({"prompt": f"Name tool {number // 2}.", "chosen": chosen, "rejected": rejected})
    path = tmp_path_factory.mktemp("many") / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, many_pairs: Path) -> Path:
    """Train all weights of the tiny encoder by the command line; the run folder. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    said = run("train", many_pairs, "--backbone", tiny_encoder, "--out", folder, *SMALL, "--max-length-tokens", 48)
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="session")
def trained_causal(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path, many_pairs: Path) -> Path:
    """Train a head on the tiny frozen causal model by the command line. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "causal"
    said = run(
        "train", many_pairs, "--backbone", tiny_causal, "--out", folder, "--freeze-backbone",
        "--epochs", 5, "--resamples", 200,
    )  # fmt: skip
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a plain sequence classifier with one label that assay did not train, much too sure of itself."""
    import torch
    from transformers import LlamaForSequenceClassification

    tokenizer = causal_tokenizer()
    folder = tmp_path_factory.mktemp("tiny") / "foreign"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(llama_config(tokenizer, num_labels=1))
    with torch.no_grad():
        model.score.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def environment() -> dict[str, str]:
    """Return an environment in which a subprocess finds the package under test."""
    return os.environ | {"PYTHONPATH": str(Path(assay.__file__).parents[1])}


def metrics_of(folder: Path) -> dict[str, Any]:
    """Read the metrics of a run."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def tree(folder: Path) -> list[str]:
    """List everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


OWN = """
from assay.feedback.labeling import FIRST, SECOND, ABSTAIN, feature_function, labeling_function

GOOD = {"fine", "clear", "answer", "example", "helps"}

@feature_function(least=1)
def good_words(text):
    return sum(word in GOOD for word in text.split())

@feature_function(least=1, prefers="less")
def nonsense(text):
    return text.split().count("nonsense")

@labeling_function
def clear(pair):
    said = "clear" in pair.first, "clear" in pair.second
    return FIRST if said == (True, False) else SECOND if said == (False, True) else ABSTAIN
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_functions.py"
    path.write_text(OWN)
    return path
