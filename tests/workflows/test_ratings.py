"""Ratings of single responses train by themselves: good and bad, steps, grades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.evaluation import Platt, from_stored
from assay.scorers import RewardModel
from tests.workflows.conftest import Cli

WORDS = ["--freeze-backbone", "--epochs", 20, "--calibration-folds", 3, "--resamples", 100]


def rated_file(count: int = 60, **cells: Any) -> Path:
    """Write KTO rows whose label follows from a word, every sixth one turned round."""
    rows = []
    for i in range(count):
        good = i % 2 == 0
        text = "certainly a fine clear answer" if good else "no bad idea"
        row = {"prompt": f"Question {i // 2} about the sea?", "completion": text, "label": good != (i % 12 == 5)}
        rows.append(row | cells)
    path = Path("ratings.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def metrics(run: str = "run") -> dict[str, Any]:
    return dict(json.loads(Path(run, "metrics.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("frozen", [True, False])
def test_good_and_bad_responses_train(cli: Cli, tiny_encoder: Path, frozen: bool) -> None:
    more = WORDS if frozen else ["--epochs", 2, "--learning-rate", 1e-2, "--validation-share", 0.3, "--resamples", 100]
    said = cli(
        "train",
        rated_file(60 if frozen else 240),
        "--out",
        "run",
        "--backbone",
        tiny_encoder,
        "--objective.kind",
        "pointwise",
        *more,
    )
    assert said.code == 0, said.err
    found = metrics()
    assert found["evaluation"] is None and found["data"]["train_pairs"] == 0 and found["data"]["train_texts"] > 20
    assert found["rated"]["auroc"]["value"] > 0.7 and found["rated"]["nll"]["value"] < 0.69
    assert found["calibration"]["kind"] == "platt"
    assert "a good response scores above a bad one" in said.out and "graded responses to" in said.err
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "graded responses" in page and "A good response scores above a bad one" in page
    model = RewardModel.from_pretrained("run")
    good, bad = model.score(["Q?"] * 2, ["certainly a fine clear answer", "no bad idea"])
    platt = from_stored(found["calibration"])
    assert isinstance(platt, Platt) and platt.good(np.array([good]))[0] > 0.5 > platt.good(np.array([bad]))[0]
    probability = model.probability(["Q?"], ["certainly a fine clear answer"], ["no bad idea"])[0]
    assert probability == pytest.approx(platt.probability(np.array([float(good) - float(bad)]))[0], abs=1e-6)


def test_other_ratings_judge_a_model(cli: Cli, tiny_encoder: Path) -> None:
    path = rated_file()
    words = ["--backbone", tiny_encoder, "--objective.kind", "pointwise", *WORDS]
    assert cli("train", path, "--out", "run", *words).code == 0
    rows = [{"prompt": f"Other {i}?", "completion": "a clear answer", "label": i % 2 == 0} for i in range(12)]
    Path("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = cli("evaluate", "run", "other.jsonl", "--graded", "--out", "judged", "--resamples", 100)
    assert said.code == 0, said.err
    assert metrics("judged")["rated"]["n_responses"] == 12 and metrics("judged")["evaluation"] is None
    assert "P(good)" in said.out and "12 graded responses" in Path("judged/report.html").read_text(encoding="utf-8")
    mapping = ["--mapping.kind", "ratings", "--mapping.prompt", "prompt", "--mapping.responses", "completion"]
    mapped = cli("evaluate", "run", "other.jsonl", "--graded", *mapping, "--mapping.grades", "label", "--out", "mapped")
    assert mapped.code == 0 and metrics("mapped")["rated"]["n_responses"] == 12, mapped.err
    said = cli("evaluate", "run", "other.jsonl")
    assert said.code == 2 and ("no judgement" in said.err or "one response only" in said.err)
    said = cli("evaluate", "run", "other.jsonl", "--graded", "--against", "run")
    assert said.code == 2 and "--graded judges single responses" in said.err
    assert cli("evaluate", "run", "other.jsonl", "--good-from", 1).code == 2


def test_steps_train(cli: Cli, tiny_causal: Path) -> None:
    rows = [
        {"prompt": f"{i} and 1?", "completions": ["fine clear", "bad idea"], "labels": [True, False]} for i in range(24)
    ]
    Path("steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--backbone", tiny_causal, "--objective.kind", "pointwise", *WORDS]
    said = cli("train", "steps.jsonl", "--out", "run", *words)
    assert said.code == 0, said.err
    assert metrics()["rated"]["n_responses"] == 10 and metrics()["rated"]["rank_within"]["n"] == 5


def test_grades_train_a_regression_and_pairs_are_still_judged(cli: Cli, tiny_encoder: Path) -> None:
    rows = [
        {"prompt": f"Question {i}?", "response": text, "grade": grade + 0.1 * (i % 3), "dimension": "quality"}
        for i in range(40)
        for text, grade in (("certainly a fine clear answer", 4.0), ("no bad idea", 2.0))
    ]
    Path("grades.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--backbone", tiny_encoder, "--objective.kind", "regression", *WORDS]
    said = cli("train", "grades.jsonl", "--out", "run", *words)
    assert said.code == 0, said.err
    found = metrics()
    assert found["evaluation"] is None and found["calibration"] is None and found["rated"]["auroc"] is None
    assert found["rated"]["rank_within"]["value"] > 0.9
    # the same rows as judgements: grades still say how well the order is met
    said = cli("train", "grades.jsonl", "--out", "pairs", "--backbone", tiny_encoder, *WORDS)
    assert said.code == 0, said.err
    assert metrics("pairs")["evaluation"]["accuracy"]["value"] > 0.9
    assert metrics("pairs")["rated"]["rank_within"]["value"] > 0.9


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([{"prompt": "Q", "chosen": "A", "rejected": "B"}] * 3, "pointwise", "no response is graded here"),
        ([{"text": f"answer {i}", "score": 3.5} for i in range(9)], "pointwise", "no probabilities of being"),
        ([{"prompt": f"Q{i}", "completion": "A", "label": True} for i in range(9)], "listnet", "nothing to train on"),
    ],
)
def test_what_cannot_train_is_refused(cli: Cli, tiny_encoder: Path, rows: Any, kind: str, message: str) -> None:
    Path("bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = cli("train", "bad.jsonl", "--out", "run", "--backbone", tiny_encoder, "--objective.kind", kind, *WORDS)
    assert said.code == 2 and message in said.err, said.err
    assert not Path("run").exists() and not Path("run.partial").exists()


def test_isotonic_calibration_is_a_choice(cli: Cli, tiny_encoder: Path, pairs_file: Path) -> None:
    words = ["--backbone", tiny_encoder, "--calibration", "isotonic", *WORDS]
    said = cli("train", pairs_file, "--out", "run", *words)
    assert said.code == 0, said.err
    found = metrics()["calibration"]
    assert found["kind"] == "isotonic" and found["flags"] == ["few_for_isotonic"]
    assert 0 < RewardModel.from_pretrained("run").probability(["Q"], ["fine"], ["bad"])[0] < 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cross-prompt", 0.5], "appended"),
        (["--auxiliary.length-decorrelation", 1], ""),
        (["--target.kind", "pcrm", "--target.similarity", "cosine"], "prior constraint"),
    ],
)
def test_other_things_that_are_added(
    cli: Cli, tiny_encoder: Path, pairs_file: Path, words: list[Any], said: str
) -> None:
    found = cli("train", pairs_file, "--out", "run", "--backbone", tiny_encoder, *WORDS, *words)
    assert found.code == 0 and said in found.err, found.err
    assert metrics()["evaluation"]["n_pairs"] > 0
    assert cli("train", pairs_file, "--out", "plan", "--backbone", tiny_encoder, *words, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clean.kind", "flip", "--target.kind", "margin"], "targets come from grades"),
        (["--clean.kind", "margin", "--target.kind", "votes"], "sets the margin that --target.kind votes"),
        (["--auxiliary.contrast", 0.1, "--layout", "native"], "does not give"),
        (["--target.kind", "pcrm", "--target.similarity", "cosine", "--layout", "native"], "use length"),
        (["--target.kind", "mmpo", "--target.sweep", 0.3, 1.1, "--validation-share", 0], "raise --validation-share"),
        (["--calibration", "isotonic", "--validation-share", 0], "needs a validation share"),
        (["--target.kind", "mmpo", "--target.signal", "confidence", "--target.scale", "log"], "is about grades"),
    ],
)
def test_settings_that_would_be_ignored_or_undone(cli: Cli, pairs_file: Path, words: list[Any], message: str) -> None:
    said = cli("train", pairs_file, "--out", "run", *words)
    assert said.code == 2 and message in said.err, said.err


def test_heads_that_clean_have_no_part_in_what_the_backbone_does(
    cli: Cli, tiny_encoder: Path, pairs_file: Path
) -> None:
    words = [
        "--backbone",
        tiny_encoder,
        "--epochs",
        1,
        "--resamples",
        100,
        "--clean.kind",
        "flip",
        "--clean.members",
        2,
    ]
    said = cli("train", pairs_file, "--out", "run", *words, "--gradient-checkpointing", "--cross-prompt", 0.3)
    assert said.code == 0, said.err


def test_a_backbone_without_dropout_has_no_contrast(cli: Cli, tiny_causal: Path, pairs_file: Path) -> None:
    said = cli("train", pairs_file, "--out", "run", "--backbone", tiny_causal, "--auxiliary.contrast", 0.1)
    assert said.code == 2 and "nothing is dropped in this backbone" in said.err


def test_contrast_and_meta_need_weights_that_move(cli: Cli, tiny_encoder: Path, pairs_file: Path) -> None:
    words = ["--backbone", tiny_encoder, "--epochs", 1, "--resamples", 100]
    said = cli("train", pairs_file, "--out", "run", *words, "--auxiliary.contrast", 0.1, "--meta.data", pairs_file)
    assert said.code == 0, said.err
    for refused in (["--auxiliary.contrast", 0.1], ["--meta.data", pairs_file]):
        said = cli("train", pairs_file, "--out", "no", *words[:2], *WORDS, *refused)
        assert said.code == 2 and ("frozen backbone" in said.err or "freeze-backbone" in said.err)
    said = cli("train", pairs_file, "--out", "no", *words, "--auxiliary.contrast", 0.1, "--dropout", "none")
    assert said.code == 2 and "needs dropout" in said.err
