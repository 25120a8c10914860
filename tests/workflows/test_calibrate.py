"""`assay calibrate`: better probabilities on held-out judgements, the same ranking, and a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.scorers import RewardModel
from tests.workflows.conftest import Cli, metrics_of

PROMPTS = ["Name tool 3."] * 6
REPLIES = ["fine clear", "no idea", "clear answer helps", "boring", "nonsense whatever", "example"]


def test_plain_classifier_gets_honest_probabilities(cli: Cli, foreign: Path, many_pairs: Path) -> None:
    said = cli("calibrate", foreign, many_pairs, "--out", "calibrated")
    assert said.code == 0, said.err
    metrics = metrics_of(Path("calibrated"))
    assert metrics["data"]["fit_pairs"] + metrics["data"]["check_pairs"] == 260
    assert metrics["calibration"]["temperature"] > 2  # its head was made twenty times too large
    assert metrics["after"]["nll"] < metrics["before"]["nll"]
    before, after = RewardModel.from_pretrained(foreign), RewardModel.from_pretrained("calibrated")
    raw, kept = before.score(PROMPTS, REPLIES), after.score(PROMPTS, REPLIES)
    np.testing.assert_allclose(kept, raw, atol=1e-5)
    assert (np.argsort(kept) == np.argsort(raw)).all()
    expected = 1 / (1 + np.exp(-(raw[0] - raw[1]) / metrics["calibration"]["temperature"]))
    found = after.probability(PROMPTS[:1], REPLIES[:1], REPLIES[1:2])
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_judgements_that_calibrated_are_not_judged_later(cli: Cli, foreign: Path, many_pairs: Path) -> None:
    assert cli("calibrate", foreign, many_pairs, "--out", "calibrated").code == 0
    assert cli("evaluate", "calibrated", many_pairs, "--out", "judged", "--resamples", 200).code == 0
    calibrated, judged = metrics_of(Path("calibrated")), metrics_of(Path("judged"))
    assert judged["data"]["test_pairs"] == calibrated["data"]["check_pairs"]
    assert judged["evaluation"]["nll"] == pytest.approx(calibrated["before"]["nll"], abs=1e-6)
    assert judged["evaluation"]["calibrated"]["nll"] == pytest.approx(calibrated["after"]["nll"], abs=1e-6)


def test_our_own_run_is_calibrated_on_other_judgements_only(cli: Cli, trained: Path, many_pairs: Path) -> None:
    said = cli("calibrate", trained, many_pairs, "--out", "calibrated")
    assert said.code == 0, said.err
    metrics = metrics_of(Path("calibrated"))
    assert metrics["data"]["fit_pairs"] + metrics["data"]["check_pairs"] == 52
    assert metrics["data"]["left_out_because_seen"] == 104
    ours = RewardModel.from_pretrained("calibrated").record.calibration
    assert ours == metrics["calibration"] != RewardModel.from_pretrained(trained).record.calibration


def test_dry_run_writes_nothing(cli: Cli, foreign: Path, many_pairs: Path) -> None:
    said = cli("calibrate", foreign, many_pairs, "--out", "calibrated", "--dry-run")
    assert said.code == 0 and "would fit on 130" in said.out
    assert list(Path().iterdir()) == []


def test_one_group_cannot_fit_and_check(cli: Cli, foreign: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "Name a tool.", "chosen": "fine", "rejected": "no"}\n', "utf-8")
    said = cli("calibrate", foreign, path, "--out", "calibrated")
    assert said.code == 2 and "too few split groups" in said.err
    assert list(tmp_path.iterdir()) == [path]


def test_reasons_for_caution_are_said(cli: Cli, foreign: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{k}?", "chosen": "fine", "rejected": "no", "target": 0.5} for k in range(20)]
    (tmp_path / "ties.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("calibrate", foreign, tmp_path / "ties.jsonl", "--out", "calibrated")
    assert said.code == 0 and "caution: all judgements are ties" in said.err, said.err
