"""`assay train` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict

from assay.scorers import RewardModel, create_reward_model
from assay.workflows.options import model_options
from assay.workflows.settings import TrainSettings
from tests.workflows.conftest import SMALL, Cli, metrics_of, tree


def test_run_folder_holds_everything(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [
        ".assay", "baselines", "config.yaml", "data_check.json", "metrics.json", "model", "report.html",
    ]  # fmt: skip
    assert not trained.with_name("trained.partial").exists()
    report = (trained / "report.html").read_text(encoding="utf-8")
    assert report.count("<svg") > 6 and "stopped and calibrated on" in report


def test_report_names_what_the_data_check_found(cli: Cli, tiny_encoder: Path) -> None:
    rows = [{"prompt": f"Name sea {i}.", "chosen": "fine one", "rejected": "no"} for i in range(20)]
    rows.append(rows[0])
    rows.append({"prompt": "Name sea 1.", "chosen": "no", "rejected": "fine one"})
    rows.append({"prompt": "Name sea 50.", "chosen": "same", "rejected": "same"})
    rows.append({"prompt": "Name sea 51.", "chosen": "fine", "rejected": ""})
    rows.append({"prompt": "Name sea 52.", "chosen": "caf\ufffd", "rejected": "no"})
    rows.append({"prompt": "Name sea 53.", "chosen": "fine " * 80, "rejected": "no"})
    Path("odd.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("--backbone", tiny_encoder, "--out", "run", "--freeze-backbone", "--epochs", 1, "--resamples", 200)
    assert cli("train", "odd.jsonl", *words).code == 0
    report = Path("run/report.html").read_text(encoding="utf-8")
    for text in (
        "odd.jsonl", "Longer response preferred", "Split groups", "Ties", "duplicate judgement", "contradicted pair",
        "identical pair", "empty response", "text with", "Texts that lost part of the response",
    ):  # fmt: skip
        assert text in report, text
    (check,) = json.loads(Path("run/data_check.json").read_text(encoding="utf-8"))
    assert check["counts"]["duplicates"] == 1 and check["counts"]["dropped"] == {"identical pair": 1}


def test_large_sources_are_not_checked_again(
    cli: Cli, tiny_encoder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.workflows.data.MOST_ROWS_CHECKED", 59)
    words = ("--backbone", tiny_encoder, "--out", "run", "--freeze-backbone", "--epochs", 1, "--resamples", 200)
    said = cli("train", pairs_file, *words)
    assert said.code == 0 and "60 rows are not checked again here" in said.err
    assert "not looked for: too many rows" in Path("run/report.html").read_text(encoding="utf-8")


def test_metrics_have_the_promised_keys(trained: Path) -> None:
    metrics = metrics_of(trained)
    evaluation = metrics["evaluation"]
    assert 0 <= evaluation["accuracy"]["value"] <= 1 and len(evaluation["accuracy"]["ci95"]) == 2
    assert all(isinstance(evaluation[name], float) for name in ("ece", "nll", "brier"))
    assert all(isinstance(metrics["baselines"][name]["accuracy"], float) for name in ("length", "bag_of_words"))
    data = metrics["data"]
    assert data["train_pairs"] + data["validation_pairs"] + data["test_pairs"] == 260
    assert data["test_pairs"] == 52  # a fifth
    assert all(metrics["throughput"][f"{name}_per_second"] > 0 for name in ("pairs", "tokens"))
    assert metrics["seed"] == 0 and "torch" in metrics["versions"]
    assert metrics["calibration"]["temperature"] > 0


def test_config_of_a_run_repeats_it(trained: Path, cli: Cli) -> None:
    stored = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert stored["learning_rate"] == 1e-4 and stored["precision"] in ("fp32", "bf16")
    assert cli("train", "--config", trained / "config.yaml", "--out", "again").code == 0
    first, again = metrics_of(trained), metrics_of(Path("again"))
    assert again["evaluation"] == first["evaluation"]


def test_what_is_too_little_to_calibrate_on_knows_what_right_answers_score(
    cli: Cli, pairs_file: Path, tiny_encoder: Path
) -> None:
    """Where nothing is held out for calibration, the test's responses tell: they trained nothing either."""
    said = cli("train", pairs_file, "--backbone", tiny_encoder, "--out", "run", "--epochs", 1, "--resamples", 200)
    assert said.code == 0, said.err
    metrics = metrics_of(Path("run"))
    assert metrics["data"]["validation_pairs"] == 0 and metrics["calibration"] is None
    score = RewardModel.from_pretrained("run").record.score
    assert score is not None and score == metrics["score"] and len(score["preferred"]) == len(score["rejected"]) == 21
    # without a test nothing tells
    hidden = cli("train", pairs_file, "--backbone", tiny_encoder, "--out", "all", "--epochs", 1, "--test-share", 0)
    assert hidden.code == 0 and "preferred" not in (RewardModel.from_pretrained("all").record.score or {})


def test_train_says_how_the_data_is_shared_out(cli: Cli, pairs_file: Path, tiny_encoder: Path) -> None:
    said = cli("train", pairs_file, "--backbone", tiny_encoder, "--out", "run", "--dry-run")
    assert said.code == 0
    assert "20% held out by group" in said.err and "no early stopping and no calibration" in said.err
    assert "nothing was written" in said.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--freeze-backbone", "--head", "mlp", "--head.hidden", "8"), "backbone"),
        (("--lora.rank", "4"), "adapter"),
        (("--layout", "native"), "backbone"),
    ],
    ids=["frozen", "lora", "native"],
)
def test_other_ways_to_train(
    flags: tuple[str, ...], part: str, cli: Cli, pairs_file: Path, tiny_causal: Path, tmp_path: Path
) -> None:
    said = cli(
        "train", pairs_file, "--backbone", tiny_causal, "--out", "run", "--epochs", 1, "--resamples", 200, *flags
    )
    assert said.code == 0, said.err
    assert (tmp_path / "run" / "model" / part).is_dir()
    model = RewardModel.from_pretrained(tmp_path / "run")
    # two texts of different length score differently: the head is there
    a, b = model.score(["Name a sea."] * 2, ["certainly a fine clear answer", "no idea"])
    assert a != b
    assert (metrics_of(Path("run"))["calibration"] is not None) == ("--freeze-backbone" in flags)


@pytest.mark.parametrize("layout", ["assay", "native"])
def test_dropout_is_a_choice(layout: Any, tiny_encoder: Path) -> None:
    def rates(**choice: Any) -> set[float]:
        settings = TrainSettings(data="-", out="-", backbone=str(tiny_encoder), layout=layout, **choice)
        model = create_reward_model(model_options(settings, seed=0))
        return {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)}

    assert rates() == {0.0, 0.1}  # of attention weights and of states
    assert rates(dropout="all") == {0.1}
    assert rates(dropout="none") == {0.0}


def test_a_frozen_backbone_refuses_a_choice_of_dropout(cli: Cli, pairs_file: Path, tiny_encoder: Path) -> None:
    said = cli(
        "train", pairs_file, "--backbone", tiny_encoder, "--out", "run", "--freeze-backbone", "--dropout", "none"
    )
    assert said.code == 2 and "dropout: has no effect on a frozen backbone" in said.err
    assert list(Path().iterdir()) == []


def test_separate_test_data_never_trains(cli: Cli, pairs_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    lines = pairs_file.read_text(encoding="utf-8").splitlines()
    # rows 2k and 2k + 30 share a prompt, so a third of the test prompts is in the training file too
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(lines[:40]), encoding="utf-8")
    test.write_text("\n".join(lines[40:]), encoding="utf-8")
    seen = {json.loads(line)["prompt"] for line in lines[40:]}
    shared = sum(json.loads(line)["prompt"] in seen for line in lines[:40])
    assert 0 < shared < 40
    said = cli("train", train, "--test", test, "--backbone", tiny_encoder, "--out", "run", *SMALL)
    assert said.code == 0, said.err
    data = metrics_of(Path("run"))["data"]
    assert data["removed_from_training_because_in_test"]["train_judgements"] == shared
    assert (data["train_pairs"], data["test_pairs"]) == (40 - shared, 20)
    assert f"{shared} judgements" in said.err
    assert "Removed from training: also in test" in Path("run/report.html").read_text(encoding="utf-8")


def test_no_test_share_is_said_aloud(cli: Cli, pairs_file: Path, tiny_encoder: Path) -> None:
    said = cli("train", pairs_file, "--backbone", tiny_encoder, "--out", "run", "--test-share", 0, *SMALL[:-2])
    assert said.code == 0, said.err
    assert "nothing will be evaluated (--test-share 0)" in said.err and "not evaluated" in said.out
    metrics = metrics_of(Path("run"))
    assert metrics["evaluation"] is None and metrics["baselines"] is None
    assert metrics["data"]["test_pairs"] == 0
    report = Path("run/report.html").read_text(encoding="utf-8")
    assert "It was not judged" in report and "whose prompts it never saw" not in report


def test_one_prompt_trains_without_test_but_not_with(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    rows = [{"prompt": "Name a sea.", "chosen": f"fine {i}", "rejected": f"no {i}"} for i in range(250)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("train", path, "--backbone", tiny_encoder, "--out", "run", "--epochs", 1, "--pairs-per-step", 250)
    refused = cli(*words)
    assert refused.code == 2 and "too few split groups" in refused.err
    # 250 judgements would be enough for a validation share, but one group cannot be split
    assert cli(*words, "--test-share", 0, "--dry-run").code == 0


def test_blind_baseline(cli: Cli, pairs_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    said = cli("train", pairs_file, "--backbone", tiny_encoder, "--out", "run", "--baseline-blind", *SMALL)
    assert said.code == 0, said.err
    assert set(metrics_of(Path("run"))["baselines"]) == {"length", "bag_of_words", "blind"}
    assert "prompt hidden" in said.out
    assert not any("blind" in name for name in tree(tmp_path / "run"))


def test_overwrite_replaces_only_runs(cli: Cli, pairs_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    words = ("train", pairs_file, "--backbone", tiny_encoder, "--freeze-backbone", "--epochs", 1, "--resamples", 200)
    assert cli(*words, "--out", "run").code == 0
    (tmp_path / "run" / "stray").touch()
    again = cli(*words, "--out", "run")
    assert again.code == 2 and "exists already" in again.err and "--overwrite" in again.err
    assert (tmp_path / "run" / "stray").exists()
    assert cli(*words, "--out", "run", "--overwrite").code == 0
    assert not (tmp_path / "run" / "stray").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    assert cli(*words, "--out", "mine", "--overwrite").code == 2
    assert (mine / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--freeze-backbone", "--learning-rate", "1e-4"), "--learning-rate"),
        (("--calibration-folds", "3"), "--calibration-folds"),
        (("--layout", "native", "--pooling", "mean"), "--pooling"),
        (("--test", "t.jsonl", "--test-share", "0.3"), "--test-share"),
        (("--test-share", "0", "--baseline-blind"), "--baseline-blind"),
        (("--resume", "--overwrite"), "--resume"),
        (("--freeze-backbone", "--patience", "7"), "--patience"),
        (("--validation-share", "0", "--evaluations-per-epoch", "7"), "--evaluations-per-epoch"),
        (("--test-share", "0", "--resamples", "500"), "--resamples"),
    ],
)
def test_settings_without_effect_are_refused(flags: tuple[str, ...], named: str, cli: Cli) -> None:
    said = cli("train", "d.jsonl", "--out", "run", *flags)
    assert said.code == 2
    assert f"{named}: " in said.err


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--scheduler", "cosin"), ("--scheduler: ", "did you mean cosine?")),
        (("--report-to", "tensorbord"), ("--report-to: ", "did you mean 'tensorboard'?")),
        (("--report-to", "wandb"), ("--report-to: ", "pip install wandb")),
    ],
)
def test_names_that_transformers_would_refuse_later(flags: tuple[str, ...], parts: tuple[str, ...], cli: Cli) -> None:
    said = cli("train", "d.jsonl", "--out", "run", *flags)
    assert said.code == 2
    assert all(part in said.err for part in parts), said.err


def test_a_saved_dict_of_splits_is_trained_on(cli: Cli, many_pairs: Path, tiny_encoder: Path) -> None:
    rows = [json.loads(line) for line in many_pairs.read_text("utf-8").splitlines()]
    splits = {"train": Dataset.from_list(rows[:200]), "test": Dataset.from_list(rows[200:])}
    DatasetDict(splits).save_to_disk("data")
    words = ("train", "data", "--backbone", tiny_encoder, *SMALL)
    said = cli(*words, "--split", "train", "--test", "data:test", "--out", "run")
    assert said.code == 0, said.err
    stored = json.loads(Path("run/metrics.json").read_text("utf-8"))["data"]
    assert (stored["test_pairs"], [read["source"] for read in stored["sources"]]) == (60, ["data:train", "data:test"])


def test_ratings_are_compared_within_a_prompt(cli: Cli, tiny_encoder: Path) -> None:
    rows = [
        {"prompt": f"Name tool {i}.", "completion": text, "label": good}
        for i in range(40)
        for text, good in (("fine clear answer", True), ("no idea", False))
    ]
    Path("kto.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = cli("train", "kto.jsonl", "--backbone", tiny_encoder, "--out", "run", "--dry-run")
    assert said.code == 0 and "40 judgements" in said.err, said.err


def test_mapping_by_flags_and_by_file(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    rows = [{"ask": f"Name sea {i}.", "up": "fine", "down": "no"} for i in range(20)]
    Path("odd.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    flags = ("--mapping.prompt", "ask", "--mapping.chosen", "up", "--mapping.rejected", "down")
    words = ("train", "odd.jsonl", "--backbone", tiny_encoder, "--out", "run", "--dry-run")
    said = cli(*words, *flags)
    assert said.code == 0 and "20 judgements" in said.err
    mapping = {"mapping": {"prompt": "ask", "chosen": "up", "rejected": "down"}}
    Path("odd.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
    assert cli(*words, "--config", "odd.yaml").err == said.err
    wrong = cli(*words, *flags, "--mapping.promt", "ask")
    assert wrong.code == 2 and "--mapping.prompt" in wrong.err


def test_the_mean_over_tokens_trains_prefixes(
    cli: Cli, tiny_causal: Path, tiny_encoder: Path, many_pairs: Path
) -> None:
    words = ["train", many_pairs, "--epochs", 2, "--patience", 0, "--resamples", 200, "--max-length-tokens", 48]
    said = cli(*words, "--out", "run", "--backbone", tiny_causal, "--objective.average", "tokens")
    assert said.code == 0, said.err
    refused = cli(*words, "--out", "no", "--backbone", tiny_encoder, "--objective.average", "tokens")
    assert refused.code == 2 and "no scores of prefixes to train" in refused.err
    frozen = cli("train", many_pairs, "--out", "no", "--freeze-backbone", "--objective.average", "tokens")
    assert frozen.code == 2 and "leave out --objective.average tokens" in frozen.err
