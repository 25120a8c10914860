"""``assay evaluate --format rewardbench``: models, servers, policies with a reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.cli import main
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from tests.conftest import pair_rows
from tests.serving.conftest import listening


@pytest.fixture(scope="module")
def model(tiny_causal: Path, learned: Callable[..., Any]) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_causal))))


@pytest.fixture(scope="module")
def folder(model: RewardModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("rm") / "rm"
    model.stamp()
    model.save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    subsets = ("alpacaeval-easy", "mt-bench-hard", "donotanswer", "math-prm", "shp")
    path = tmp_path_factory.mktemp("rb") / "rb.jsonl"
    rows = [row | {"subset": subsets[k % 5], "id": k} for k, row in enumerate(pair_rows())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def table_of(out: Path) -> dict[str, float]:
    return {line["name"]: line["value"] for line in json.loads((out / "metrics.json").read_text("utf-8"))["table"]}


def test_a_model_and_the_server_of_it(
    model: RewardModel, folder: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", folder, data, "--format", "rewardbench", "--out", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "RewardBench" in shown and "Chat Hard" in shown and "Prior Sets" in shown
    rows = pair_rows()
    gaps = model.score([r["prompt"] for r in rows], [r["chosen"] for r in rows]) - model.score(
        [r["prompt"] for r in rows], [r["rejected"] for r in rows]
    )
    found = table_of(tmp_path / "a")
    assert found["math-prm"] == pytest.approx(float(np.mean(gaps[3::5] > 0)))
    assert "| **Score** |" in (tmp_path / "a" / "table.md").read_text("utf-8")
    with listening(model) as place:
        assert main(["evaluate", place, data, "--format", "rewardbench", "--out", str(tmp_path / "b")]) == 0
    assert table_of(tmp_path / "b") == found
    told = json.loads((tmp_path / "b" / "metrics.json").read_text("utf-8"))
    assert told["items"] == 60 and len(told["fingerprint"]) == 16


def test_a_policy_and_its_reference(tiny_causal: Path, tiny_chat: Path, data: str, tmp_path: Path) -> None:
    words = ["evaluate", str(tiny_causal), data, "--reference", str(tiny_causal), "--format", "rewardbench"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text("utf-8"))
    assert metrics["equal"] == 60 and metrics["reference"] == str(tiny_causal), "a policy is no better than itself"


def test_a_policy_with_a_reference_on_pairs(
    tiny_causal: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(tiny_causal), str(pairs_file), "--reference", str(tiny_causal), "--resamples", "100"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    found = json.loads((tmp_path / "a" / "metrics.json").read_text("utf-8"))
    assert found["evaluation"]["accuracy"]["value"] == 0.5


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--against", "m"], "judged whole"),
        (["--graded"], "judged whole"),
        (["--include-seen"], "judged whole"),
        (["--beta", "0.5"], "--reference"),
    ],
)
def test_settings_that_would_be_ignored(
    folder: str, data: str, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", folder, data, "--format", "rewardbench", *more]) == 2
    assert told in capsys.readouterr().err


def test_what_cannot_be_judged(folder: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "http://127.0.0.1:9", data]) == 2
    assert "public benchmarks only" in capsys.readouterr().err
    assert main(["evaluate", folder, data, "--format", "rm-bench"]) == 2
    assert "no row of RM-Bench" in capsys.readouterr().err
    assert main(["evaluate", folder, data, "--format", "rewardbench", "--dry-run"]) == 0
    assert "60 prompts of RewardBench" in capsys.readouterr().out
