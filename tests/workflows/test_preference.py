"""Heads with margins of their own, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import pairs, read
from assay.scorers import RewardModel
from assay.workflows.judging import scores_on
from tests.workflows.conftest import SMALL, Cli, metrics_of

FROZEN = ["--freeze-backbone", "--epochs", 15, "--calibration-folds", 2, "--resamples", 100]
FULL = [*SMALL, "--max-length-tokens", 48]


def circles(count: int = 60) -> Path:
    """Write prompts with three kinds of answers, each of which beats the next."""
    kinds = ["fine clear answer", "no idea boring", "example helps whatever"]
    rows = []
    for n in range(count):
        for k in range(3):
            rows.append({"prompt": f"Name tool {n}.", "chosen": kinds[k], "rejected": kinds[(k + 1) % 3]})
    Path("circles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("circles.jsonl")


@pytest.mark.parametrize(
    "words", [FROZEN, FULL, [*FROZEN, "--no-head.scales", "--head.unit"]], ids=["frozen", "full", "unit"]
)
def test_margins_of_their_own(cli: Cli, tiny_encoder: Path, many_pairs: Path, words: list[Any]) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--head", "preference", *words)
    assert said.code == 0, said.err
    metrics = metrics_of(Path("run"))
    assert metrics["evaluation"]["accuracy"]["value"] > 0.55 and metrics["calibration"]["temperature"] > 0
    # 26 prompts with four responses each
    assert metrics["cycles"]["triples"] == 104 and "of 104 triples" in said.err
    assert cli("score", "run", many_pairs, "--out", "scores.jsonl").code == 0
    assert len({json.loads(line)["score"] for line in Path("scores.jsonl").read_text().splitlines()}) > 20
    assert cli("evaluate", "run", many_pairs, "--include-seen", "--resamples", 100).code == 0
    # the stored model has the margins of the one that was trained
    model = RewardModel.from_pretrained("run")
    data = read(str(many_pairs))
    live, kept = (scores_on(model, data, keep_features=keep).margins(pairs(data)) for keep in (False, True))
    assert np.allclose(live, kept, atol=1e-4)


def test_circles_are_learned_and_shown(cli: Cli, tiny_encoder: Path) -> None:
    common = [
        "--backbone",
        tiny_encoder,
        "--freeze-backbone",
        "--calibration-folds",
        2,
        "--resamples",
        100,
        "--epochs",
        60,
    ]
    assert cli("train", circles(), "--out", "scores", *common).code == 0
    said = cli("train", circles(), "--out", "margins", "--head", "preference", "--head-learning-rate", 0.005, *common)
    assert said.code == 0 and "preferred in a circle" in said.err
    scores, margins = metrics_of(Path("scores")), metrics_of(Path("margins"))
    assert scores["evaluation"]["accuracy"]["value"] <= 2 / 3 + 1e-9
    assert margins["evaluation"]["accuracy"]["value"] > 0.95
    assert margins["cycles"]["cyclic"] > 0.9 and "cycles" not in scores


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "regression"], "no scores"),
        (["--objective.clip", 1], "margins only"),
        (["--centring", 0.1], "margins only"),
        (["--ensemble.members", 2], "margins only"),
        (["--laplace"], "linear in its last layer"),
        (["--layout", "native"], "native"),
    ],
)
def test_what_is_about_scores_is_refused(cli: Cli, pairs_file: Path, words: list[Any], message: str) -> None:
    said = cli("train", pairs_file, "--out", "run", "--head", "preference", *words)
    assert said.code == 2 and message in said.err, said.err
