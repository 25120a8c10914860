"""`assay evaluate`: honest figures for our models and for anybody's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.workflows import judging
from assay.workflows.judge_settings import JudgeSettings
from tests.workflows.conftest import Cli, metrics_of, tree


def test_run_is_judged_on_what_did_not_train_it(cli: Cli, trained: Path, many_pairs: Path) -> None:
    said = cli("evaluate", trained, many_pairs, "--out", "judged", "--resamples", 200)
    assert said.code == 0, said.err
    metrics, run = metrics_of(Path("judged")), metrics_of(trained)
    # training and validation prompts are left out, so exactly the held-out fifth remains, and scores as it did
    assert metrics["data"]["test_pairs"] == run["data"]["test_pairs"] == 52
    assert metrics["data"]["left_out_because_seen"] == 104
    assert "left out 104 of 130 records" in said.err
    for name in ("accuracy", "nll", "brier", "ece", "calibrated"):
        assert metrics["evaluation"][name] == run["evaluation"][name], name
    assert metrics["baselines"].keys() == run["baselines"].keys()
    assert metrics["baselines"]["bag_of_words"]["accuracy"] == run["baselines"]["bag_of_words"]["accuracy"]
    assert "Picks the better response" in said.out and "judged" in said.out
    assert "104 records whose prompts trained it were left out" in Path("judged/report.html").read_text("utf-8")


def test_models_are_judged_where_the_machine_is_fastest(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging.hardware, "best_device", lambda: torch.device("meta"))
    (model,) = judging.load_models(JudgeSettings(model=str(trained), data="-"), [str(trained)])
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_model_folder_finds_the_baselines_of_its_run(cli: Cli, trained: Path, many_pairs: Path) -> None:
    said = cli("evaluate", trained / "model", many_pairs, "--out", "judged", "--resamples", 200)
    assert said.code == 0, said.err
    assert set(metrics_of(Path("judged"))["baselines"]) == {"length", "bag_of_words"}


def test_seen_groups_stay_only_when_asked_for(cli: Cli, trained: Path, many_pairs: Path, tmp_path: Path) -> None:
    assert "would judge 260 judgements" in cli("evaluate", trained, many_pairs, "--include-seen", "--dry-run").out
    seen = tmp_path / "seen.jsonl"
    out = cli("evaluate", trained, many_pairs, "--dry-run")
    assert "would judge 52 judgements" in out.out
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()]
    from assay.feedback import read
    from assay.workflows.data import seen_groups, unseen

    keys = seen_groups(str(trained))
    assert keys is not None
    left, _ = unseen(read(many_pairs), keys)
    held_out = {record["prompt"][0]["content"] for record in left}
    seen.write_text("\n".join(json.dumps(row) for row in rows if row["prompt"] not in held_out), "utf-8")
    refused = cli("evaluate", trained, seen)
    assert refused.code == 2 and "trained the model" in refused.err and "--include-seen" in refused.err


def test_plain_classifier_without_training_data_says_what_is_missing(cli: Cli, foreign: Path, many_pairs: Path) -> None:
    said = cli("evaluate", foreign, many_pairs, "--out", "judged", "--resamples", 200)
    assert said.code == 0, said.err
    assert "does not tell what it was trained on" in said.err and "--train DATA" in said.err
    metrics = metrics_of(Path("judged"))
    assert set(metrics["baselines"]) == {"length"}
    assert "--train DATA" in metrics["missing"]["baselines"]
    assert metrics["evaluation"]["calibrated"] is None
    assert "--train DATA" in Path("judged/report.html").read_text("utf-8")


def test_training_data_named_by_train_is_not_judged(cli: Cli, foreign: Path, many_pairs: Path, tmp_path: Path) -> None:
    lines = many_pairs.read_text("utf-8").splitlines()
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(lines[:160]), "utf-8")
    test.write_text("\n".join(lines[140:]), "utf-8")
    said = cli("evaluate", foreign, test, "--train", train, "--out", "judged", "--resamples", 200)
    assert said.code == 0, said.err
    metrics = metrics_of(Path("judged"))
    assert metrics["data"]["test_pairs"] == 100 and metrics["data"]["left_out_because_seen"] == 10
    assert set(metrics["baselines"]) == {"length", "bag_of_words"} and metrics["missing"] == {}
    everything = cli("evaluate", foreign, test, "--train", train, "--include-seen", "--dry-run")
    assert "would judge 120 judgements" in everything.out
    assert cli("evaluate", foreign, train, "--train", train).code == 2


def test_two_models_are_compared_on_the_same_judgements(
    cli: Cli, trained: Path, trained_causal: Path, many_pairs: Path
) -> None:
    said = cli("evaluate", trained, many_pairs, "--against", trained_causal, "--out", "judged", "--resamples", 200)
    assert said.code == 0, said.err
    against = metrics_of(Path("judged"))["evaluation"]["against"]
    judged = cli("evaluate", trained_causal, many_pairs, "--out", "other", "--resamples", 200)
    assert judged.code == 0
    mine, other = (metrics_of(Path(name))["evaluation"]["accuracy"]["value"] for name in ("judged", "other"))
    # the two runs share seed and data, so they share their test groups too
    assert math.isclose(against["accuracy_difference"]["value"], mine - other, abs_tol=1e-12)
    assert "Against causal" in Path("judged/report.html").read_text("utf-8")


def test_settings_of_plain_classifiers_are_refused_for_our_models(
    cli: Cli, trained: Path, foreign: Path, many_pairs: Path
) -> None:
    refused = cli("evaluate", trained, many_pairs, "--template", "hh", "--max-length-tokens", 32)
    assert refused.code == 2 and "--template, --max-length-tokens" in refused.err
    said = cli("evaluate", trained, many_pairs, "--against", foreign, "--template", "hh", "--dry-run")
    assert said.code == 0


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_nothing_is_written_without_out(flags: tuple[str, ...], cli: Cli, trained: Path, many_pairs: Path) -> None:
    assert cli("evaluate", trained, many_pairs, "--resamples", 200, *flags).code == 0
    assert tree(Path()) == []


def test_unjudged_pairs_narrow_the_interval(cli: Cli, trained: Path, many_pairs: Path) -> None:
    pytest.importorskip("ppi_py")
    words = ["fine", "clear", "answer", "no", "idea", "boring"]
    rng = np.random.default_rng(0)
    rows = [{"prompt": f"Ask {n}", "responses": [" ".join(rng.choice(words, 4)) for _ in range(2)]} for n in range(200)]
    Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = cli("evaluate", trained, many_pairs, "--unlabelled", "pool.jsonl", "--out", "judged", "--resamples", 100)
    assert said.code == 0, said.err
    found = json.loads(Path("judged/metrics.json").read_text())["evaluation"]["prediction_powered"]
    assert found["groups"] == 26 and found["unlabelled_groups"] == 200
    assert found["ci95"][0] <= found["value"] <= found["ci95"][1] and found["worth"] > 0.9
    assert "groups of unjudged pairs" in said.out
    assert "groups of unjudged pairs" in Path("judged/report.html").read_text(encoding="utf-8")
    said = cli("evaluate", trained, many_pairs, "--unlabelled", many_pairs, "--resamples", 100)
    assert said.code == 2 and "no unjudged pairs beside the judged ones" in said.err
    said = cli("evaluate", trained, many_pairs, "--unlabelled", "pool.jsonl", "--graded")
    assert said.code == 2 and "leave one out" in said.err
