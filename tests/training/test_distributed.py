"""Two processes train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assay.errors import ConfigError
from assay.training import checkpoints
from assay.training.sharding import is_sharded, keep_scores_whole
from tests.training.support import assert_equal, new_model, planted, trainer_for, weights

# Few records a step: with two ranks some steps leave one of them without a record.
OPTIONS: dict[str, Any] = {
    "pairs_per_step": 2,
    "token_budget": 60,
    "num_train_epochs": 2,
    "logging_steps": 1,
    "patience": 9,
    "save_strategy": "steps",
    "save_steps": 8,
    "learning_rate": 1e-3,
    "optim": "sgd",
}


def train(backbone: str, folder: Path, *, resume: bool = False) -> dict[str, Any]:
    model = new_model(backbone)
    trainer = trainer_for(model, planted(14), folder, held_out=planted(9, seed=1), **OPTIONS)
    trainer.train(resume_from_checkpoint=resume)
    log = [
        {name: entry[name] for name in ("step", "loss", "accuracy", "eval_loss", "eval_accuracy") if name in entry}
        for entry in trainer.state.log_history
    ]
    alone = sum(not rank for step in trainer.plan.steps for rank in step)
    return {"weights": weights(model), "log": log, "idle": alone, "ranks": trainer.args.world_size}


def launch(backbone: str, folder: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, backbone, str(folder), *more], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(torch.load(folder / "result.pt", weights_only=True))


@pytest.mark.slow
def test_two_processes_equal_one(llama: str, tmp_path: Path) -> None:
    one = train(llama, tmp_path / "one")
    two = launch(llama, tmp_path / "two")
    assert (one["ranks"], two["ranks"]) == (1, 2)
    assert two["idle"] > 0
    assert_equal(two["weights"], one["weights"], 1e-6)
    assert len(one["log"]) == len(two["log"])
    for here, there in zip(one["log"], two["log"], strict=True):
        assert here == pytest.approx(there, abs=1e-6)
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert all(checkpoints.is_complete(path) for path in checkpoints.all_checkpoints(folder))
    newest = checkpoints.all_checkpoints(tmp_path / "two")[-1]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.iterdir()}

    # resumed by both, from a checkpoint in the middle
    checkpoints.unmark(newest)
    again = launch(llama, tmp_path / "two", "--resume")
    assert_equal(again["weights"], two["weights"])


def test_weights_that_zero_3_cuts_up_are_refused(llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.training.sharding.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ConfigError, match="zero_stage: 2"):
        trainer_for(new_model(llama), planted(8), tmp_path)


def test_sharded_models_return_whole_scores() -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = SimpleNamespace(
        mixed_precision_policy=MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
    )
    keep_scores_whole(plugin)
    assert plugin.mixed_precision_policy.output_dtype == torch.float32
    assert plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    keep_scores_whole(SimpleNamespace(mixed_precision_policy=None))


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_are_recognised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two: Any = SimpleNamespace(world_size=2, fsdp=None, deepspeed=None)
    assert not is_sharded(two)
    monkeypatch.setenv(name, "true")
    assert is_sharded(two)
    assert not is_sharded(SimpleNamespace(world_size=1, fsdp=None, deepspeed=None))  # type: ignore[arg-type]


def main(backbone: str, folder: str, *more: str) -> None:
    torch.set_num_threads(1)
    result = train(backbone, Path(folder), resume="--resume" in more)
    if os.environ["RANK"] == "0":
        torch.save(result, Path(folder) / "result.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
