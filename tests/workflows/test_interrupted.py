"""A training run that was stopped: Ctrl-C, a kill, a full disk; and what --resume takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from assay.scorers import RewardModel
from tests.workflows.conftest import Cli, environment, metrics_of, tree
from tests.workflows.test_bad_input import assert_refused

FLAGS = ("--epochs", "2", "--evaluations-per-epoch", "3", "--resamples", "200", "--max-length-tokens", "48")


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise once in the training step after so many."""
    from assay.training import PreferenceTrainer

    step, done = PreferenceTrainer.training_step, 0

    def counted(self: PreferenceTrainer, *args: object, **options: object) -> object:
        nonlocal done
        done += 1
        if done == steps + 1:
            raise error
        return step(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PreferenceTrainer, "training_step", counted)


def test_interrupted_run_resumes_to_the_same_end(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", many_pairs, "--backbone", tiny_encoder, *FLAGS)
    with monkeypatch.context() as patch:
        stop_after(7, patch, KeyboardInterrupt())
        stopped = cli(*words, "--out", "run")
    assert stopped.code == 130
    assert "with --resume goes on from there" in stopped.err and stopped.err.rstrip().endswith("interrupted")
    assert [path.name for path in Path().iterdir()] == ["run.partial"]
    # without --resume nothing is lost by accident
    assert_refused_leftover(cli(*words, "--out", "run"))
    resumed = cli(*words, "--out", "run", "--resume")
    assert resumed.code == 0, resumed.err
    assert [path.name for path in Path().iterdir()] == ["run"]
    assert cli(*words, "--out", "whole").code == 0
    texts = (["Name tool 1."] * 2, ["fine clear", "no idea"])
    ours, whole = (RewardModel.from_pretrained(name).score(*texts) for name in ("run", "whole"))
    np.testing.assert_array_equal(ours, whole)
    found, expected = metrics_of(Path("run")), metrics_of(Path("whole"))
    assert found["evaluation"] == expected["evaluation"] and found["calibration"] == expected["calibration"]
    assert found["training"]["validation_loss"] == expected["training"]["validation_loss"]


def assert_refused_leftover(said: object) -> None:
    assert getattr(said, "code", None) == 2 and "an interrupted run left checkpoints" in getattr(said, "err", "")


def test_resume_refuses_other_settings_and_other_data(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, lines = Path("data.jsonl"), many_pairs.read_text("utf-8").splitlines()
    data.write_text("\n".join(lines), "utf-8")
    words = ("train", data, "--backbone", tiny_encoder, *FLAGS, "--out", "run")
    with monkeypatch.context() as patch:
        stop_after(5, patch, KeyboardInterrupt())
        assert cli(*words).code == 130
    before = tree(Path())
    for flags, named in ((("--learning-rate", "1e-3"), "learning_rate"), (("--seed", 4), "seed"), ((), "judgements")):
        if named == "judgements":
            changed = json.dumps(json.loads(lines[0]) | {"chosen": "other"})
            data.write_text("\n".join([changed, *lines[1:]]), "utf-8")
        refused = cli(*words, "--resume", *flags)
        assert refused.code == 2 and f"differs from this one in: {named}\n" in refused.err, refused.err
        assert "--overwrite" in refused.err and "Traceback" not in refused.err
        assert tree(Path()) == before


def test_stop_before_the_first_checkpoint_leaves_nothing(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(0, monkeypatch, KeyboardInterrupt())
    assert cli("train", many_pairs, "--backbone", tiny_encoder, *FLAGS, "--out", "run").code == 130
    assert tree(Path()) == []


def test_full_disk_in_mid_training_keeps_whole_checkpoints_only(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, saved = RewardModel.save_pretrained, 0

    def full(self: RewardModel, folder: str, *args: object, **options: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 3:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "torn").touch()
            raise OSError(28, "No space left on device")
        kept(self, folder, *args, **options)  # type: ignore[arg-type]

    words = ("train", many_pairs, "--backbone", tiny_encoder, *FLAGS, "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr(RewardModel, "save_pretrained", full)
        said = cli(*words)
    assert said.code == 2 and "no space left on the disk" in said.err and "Traceback" not in said.err
    names = [path.name for path in Path("run.partial/checkpoints").iterdir()]
    assert len(names) == 2 and not any("torn" in path for path in tree(Path()))
    assert "with --resume goes on from there" in said.err


def test_finished_run_is_not_resumed(cli: Cli, tiny_encoder: Path, pairs_file: Path) -> None:
    words = ("train", pairs_file, "--backbone", tiny_encoder, "--freeze-backbone", "--epochs", 1, "--out", "run")
    assert cli(*words, "--resume", "--resamples", 200).code == 0  # nothing to resume: begins
    assert_refused(cli(*words, "--resume", "--resamples", 200), "exists already")


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(tiny_encoder: Path, many_pairs: Path) -> None:
    words = [sys.executable, "-m", "assay.cli", "train", str(many_pairs), "--backbone", str(tiny_encoder)]
    words += ["--out", "run", "--epochs", "100", "--evaluations-per-epoch", "3", "--patience", "0"]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 90
            while not list(Path().glob("run.partial/checkpoints/*/COMPLETE")) and time.monotonic() < deadline:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors.decode()
    assert b"interrupted" in errors and b"Traceback" not in errors
    assert [path.name for path in Path().iterdir()] == ["run.partial"]
