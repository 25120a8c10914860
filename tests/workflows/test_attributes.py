"""Several dimensions of grades, one head for each, and a gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.scorers import RewardModel
from tests.workflows.conftest import Cli


def graded_file(count: int = 60) -> Path:
    """Write lists whose answers are clear or not, and fine or not; every third style is not graded."""
    texts = {"certainly a fine clear answer": (5, 5), "a clear idea": (5, 2), "no fine answer": (2, 5), "no": (1, 1)}
    rows = [
        {
            "prompt": f"Question {i} about the sea?",
            "responses": list(texts),
            "grades": [
                {"truth": truth, "style": None if (i + j) % 3 == 0 else style}
                for j, (truth, style) in enumerate(texts.values())
            ],
        }
        for i in range(count)
    ]
    path = Path("graded.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


MAPPING = ["--mapping.prompt", "prompt", "--mapping.responses", "responses", "--mapping.grades", "grades"]


@pytest.mark.parametrize(
    "words",
    [
        ["--freeze-backbone", "--epochs", 15, "--calibration-folds", 2],
        ["--epochs", 2, "--learning-rate", 1e-2],
        ["--epochs", 1, "--lora.rank", 2, "--head.dimensions", "truth"],
        ["--freeze-backbone", "--epochs", 5, "--clean.kind", "flip", "--clean.members", 2, "--clean.folds", 2],
    ],
    ids=["frozen", "full", "lora", "cleaned"],
)
def test_attributes_are_learned(cli: Cli, tiny_encoder: Path, words: list[Any]) -> None:
    common = ["--backbone", tiny_encoder, "--head", "attributes", "--resamples", 100, *MAPPING]
    said = cli("train", graded_file(), "--out", "run", *common, *words)
    assert said.code == 0, said.err
    metrics = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))
    names = ["truth"] if "--head.dimensions" in words else ["style", "truth"]
    assert list(metrics["feedback"]["attributes"]) == names
    assert metrics["evaluation"]["accuracy"]["value"] > 0.6
    model = RewardModel.from_pretrained("run")
    found, counts = model.attributes(["Question 3 about the sea?"] * 2, ["certainly a fine clear answer", "no"])
    assert found.shape == (2, len(names)) and model.config.head_options["dimensions"] == names
    np.testing.assert_allclose(counts.sum(axis=1), 1.0, atol=1e-5)
    if len(words) == 5:
        assert (found[0] > found[1]).all()  # both attributes tell the best from the worst
    assert cli("evaluate", "run", "graded.jsonl", *MAPPING, "--include-seen", "--resamples", 100).code == 0
    assert cli("score", "run", "graded.jsonl", *MAPPING, "--out", "scores.jsonl").code == 0
    assert len(Path("scores.jsonl").read_text(encoding="utf-8").splitlines()) == 240


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head.dimensions", "wit"], "no response is graded in wit"),
        (["--objective.kind", "listnet"], "use --objective.kind pairwise"),
        (["--layout", "native"], "native"),
    ],
)
def test_what_does_not_fit_is_refused(cli: Cli, tiny_encoder: Path, words: list[Any], message: str) -> None:
    common = ["--backbone", tiny_encoder, "--head", "attributes", *MAPPING]
    said = cli("train", graded_file(6), "--out", "run", *common, *words)
    assert said.code == 2 and message in said.err, said.err
    assert not Path("run").exists()


def test_data_without_grades_and_heads_without_attributes(cli: Cli, tiny_encoder: Path, pairs_file: Path) -> None:
    said = cli("train", pairs_file, "--out", "run", "--backbone", tiny_encoder, "--head", "attributes")
    assert said.code == 2 and "no attributes to learn" in said.err
    said = cli("train", pairs_file, "--out", "run", "--backbone", tiny_encoder, "--head.dimensions", "style")
    assert said.code == 2 and "belongs to --head.kind attributes" in said.err
