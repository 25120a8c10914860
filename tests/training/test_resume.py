"""A run that is killed at any moment and resumed ends with the very same weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from assay.scorers import LoraOptions, RewardModel
from assay.training import PreferenceTrainer, checkpoints
from assay.training import trainer as trainer_module
from tests.training.support import assert_equal, kill_self, new_model, planted, run_killed, trainer_for, weights

Moment = Callable[[pytest.MonkeyPatch], list[TrainerCallback]]


class At(TrainerCallback):
    """Kills the process at a step (-1: the last): when the step ends, or when its checkpoint is whole."""

    def __init__(self, step: int, *, saved: bool = False) -> None:
        self.step, self.saved = step, saved

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.saved:
            self._kill_at(state)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.saved:
            self._kill_at(state)

    def _kill_at(self, state: Any) -> None:
        if state.global_step == (self.step if self.step > 0 else state.max_steps + 1 + self.step):
            kill_self()


def at(step: int, **options: bool) -> Moment:
    return lambda _: [At(step, **options)]


def call(owner: Any, name: str, number: int, *, after: bool = False) -> Moment:
    """Kill in the ``number``-th call of a function: before it does anything, or when it is done."""

    def install(patch: pytest.MonkeyPatch) -> list[TrainerCallback]:
        original, calls = getattr(owner, name), iter(range(1, 1000))

        def dying(*args: Any, **kwargs: Any) -> Any:
            last = next(calls) == number
            if last and not after:
                kill_self()
            result = original(*args, **kwargs)
            if last:
                kill_self()
            return result

        patch.setattr(owner, name, dying)
        return []

    return install


def half_written(patch: pytest.MonkeyPatch) -> list[TrainerCallback]:
    """Kill when half of an optimizer file is on the disk."""
    original = torch.save

    def dying(value: Any, path: Any, **kwargs: Any) -> None:
        original(value, path, **kwargs)
        if str(path).endswith("checkpoint-10/optimizer.pt"):
            os.truncate(path, os.path.getsize(path) // 2)
            kill_self()

    patch.setattr(torch, "save", dying)
    return []


class Setting:
    """How a run is made: once without interruption, and any number of times with one."""

    def __init__(self, root: Path, backbone: str, *, lora: bool = False, **changes: Any) -> None:
        self.root, self.backbone = root, backbone
        self.lora = LoraOptions(rank=2, dropout=0.1) if lora else None
        self.changes: dict[str, Any] = {
            "num_train_epochs": 3,
            "pairs_per_step": 5,
            "token_budget": 100,
            "save_strategy": "steps",
            "save_steps": 5,
            "logging_steps": 4,
            "learning_rate": 5e-3,
            "warmup_steps": 3,
            **changes,
        }
        self.expected = self.run(root / "whole")

    def trainer(self, folder: Path, *callbacks: TrainerCallback) -> PreferenceTrainer:
        torch.manual_seed(int.from_bytes(os.urandom(4), "little"))  # nothing may hang on what came before
        model = new_model(self.backbone, lora=self.lora)
        held_out = planted(9, seed=1)
        return trainer_for(model, planted(30), folder, held_out=held_out, callbacks=callbacks, **self.changes)

    def run(self, folder: Path, *, resume: bool = False) -> tuple[dict[str, torch.Tensor], int, list[Any]]:
        trainer = self.trainer(folder)
        trainer.train(resume_from_checkpoint=resume)
        history = [(e["step"], e["eval_loss"]) for e in trainer.state.log_history if "eval_loss" in e]
        return weights(trainer.model), trainer.state.global_step, history

    def check_killed(self, moment: Moment, *more: Moment) -> Path:
        """Kill a run, resume it (and kill that too, where there is more); its end must be that of the whole run."""
        folder = self.root / f"killed-{len(list(self.root.iterdir()))}"
        for number, now in enumerate((moment, *more)):

            def work(now: Moment = now, resume: bool = number > 0) -> None:
                with pytest.MonkeyPatch.context() as patch:
                    self.trainer(folder, *now(patch)).train(resume_from_checkpoint=resume)

            run_killed(work)
        found = self.run(folder, resume=True)
        assert_equal(found[0], self.expected[0])
        assert found[1:] == self.expected[1:]
        assert all(checkpoints.is_complete(path) for path in checkpoints.all_checkpoints(folder))
        return folder


@pytest.fixture(scope="module")
def dropout(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("dropout"), gpt2)


@pytest.fixture(scope="module")
def stopping(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A rate so high that the held-out loss soon rises: stopped early, and the best weights kept."""
    changes: dict[str, Any] = {"patience": 2, "learning_rate": 0.05, "evaluations_per_epoch": 3}
    changes |= {"keep_checkpoints": 1, "save_steps": 1}  # the step that ends the run is one of them
    setting = Setting(tmp_path_factory.mktemp("stopping"), gpt2, **changes)
    assert setting.expected[1] < 24  # of the 3 epochs
    return setting


@pytest.fixture(scope="module")
def lora(llama: str, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("lora"), llama, lora=True)


@pytest.mark.slow
def test_two_whole_runs_are_equal(dropout: Setting) -> None:
    found = dropout.run(dropout.root / "again")
    assert_equal(found[0], dropout.expected[0])


@pytest.mark.slow
def test_killed_before_the_optimizer_is_written(dropout: Setting) -> None:
    dropout.check_killed(call(Trainer, "_save_optimizer_and_scheduler", 2))


def test_killed_before_the_marker(dropout: Setting) -> None:
    dropout.check_killed(call(checkpoints, "mark_complete", 3))


@pytest.mark.slow
def test_killed_twice_in_other_places(dropout: Setting) -> None:
    dropout.check_killed(at(13), call(trainer_module, "score_records", 2))


def test_killed_in_an_evaluation_with_early_stopping(stopping: Setting) -> None:
    stopping.check_killed(call(trainer_module, "held_out_metrics", 3))


def test_killed_with_lora(lora: Setting) -> None:
    lora.check_killed(at(11))


MOMENTS: dict[str, Moment] = {
    "before the first checkpoint": at(3),
    "right after the first checkpoint": at(5, saved=True),
    "with half an optimizer file": half_written,
    "in the second evaluation": call(trainer_module, "held_out_metrics", 2),
    "between marker and deletion": call(shutil, "rmtree", 1),
    "one step before the end": at(-2),
    "after the last step, before its checkpoint": at(-1),
    "after the last checkpoint": at(-1, saved=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_killed_at(dropout: Setting, moment: Moment) -> None:
    dropout.check_killed(moment)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_killed_with_early_stopping_at(stopping: Setting, step: int) -> None:
    stopping.check_killed(at(step))


@pytest.mark.slow
def test_killed_after_the_decision_to_stop(stopping: Setting) -> None:
    stopping.check_killed(call(Trainer, "_finalize_training", 1))
    stopping.check_killed(call(PreferenceTrainer, "_load_best_model", 1))


@pytest.mark.slow
def test_killed_with_lora_in_mid_checkpoint(lora: Setting) -> None:
    lora.check_killed(call(Trainer, "_save_rng_state", 2), call(checkpoints, "mark_complete", 1))


@pytest.mark.slow
def test_the_command_line_resumes_a_killed_run(gpt2: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": row["prompt"][0]["content"], "chosen": row["responses"][1 - w], "rejected": row["responses"][w]}
        for row in planted(120).filter(lambda row: len(row["responses"]) == 2)
        for w in [int(row["edges"][0]["p"])]
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(out: str, *more: str) -> list[str]:
        options = ["--backbone", gpt2, "--epochs", "4", "--pairs-per-step", "8", "--resamples", "100"]
        return [sys.executable, "-m", "assay.cli", "train", str(tmp_path / "data.jsonl"), "--out", out, *options, *more]

    place: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}}
    subprocess.run(command("whole"), check=True, capture_output=True, **place)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **place)
    partial = tmp_path / "killed.partial" / "checkpoints"
    while process.poll() is None and checkpoints.newest_complete(partial) is None:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    subprocess.run(command("killed", "--resume"), check=True, capture_output=True, **place)
    whole, killed = (RewardModel.from_pretrained(tmp_path / name) for name in ("whole", "killed"))
    assert_equal(weights(killed), weights(whole))
    found = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "killed")]
    assert found[0]["evaluation"] == found[1]["evaluation"]
    assert found[0]["training"]["validation_loss"] == found[1]["training"]["validation_loss"]
