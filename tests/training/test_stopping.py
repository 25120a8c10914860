"""A loss that is no number ends the run, and no checkpoint holds what it did."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from assay.scorers import RewardModel
from assay.training import TrainingError
from tests.training.support import assert_equal, new_model, planted, trainer_for, weights


class Break(TrainerCallback):
    """Makes one weight infinite, or NaN, after a step."""

    def __init__(self, model: RewardModel, step: int, value: float) -> None:
        self.model, self.step, self.value = model, step, value

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                self.model.get_parameter("head.weight")[0, 0] = self.value


def broken(llama: str, out: Path, step: int, value: float = float("nan"), **options: Any) -> tuple[Any, TrainingError]:
    model = new_model(llama)
    defaults: dict[str, Any] = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 4, "logging_steps": 10}
    trainer = trainer_for(model, planted(30), out, callbacks=[Break(model, step, value)], **(defaults | options))
    assert len(trainer.plan) == 15
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    return trainer, caught.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_step_its_records_and_the_last_good_checkpoint_are_named(llama: str, out: Path, value: float) -> None:
    trainer, error = broken(llama, out, 5, value)
    assert error.problem == "loss became nan at step 6"
    assert error.expected == "a finite number; last good checkpoint: checkpoint-4"
    records = sorted(int(r) for micro in trainer.plan.steps[5][0] for r in micro)
    assert error.got is not None and str(records[:8]) in error.got
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_run_resumed_from_the_last_good_checkpoint_ends_well(llama: str, out: Path) -> None:
    broken(llama, out, 5)
    found = []
    for folder, resume in ((out, True), (out.with_name("whole"), False)):
        model = new_model(llama)
        options: dict[str, Any] = {
            "num_train_epochs": 3,
            "save_strategy": "steps",
            "save_steps": 4,
            "logging_steps": 10,
        }
        trainer_for(model, planted(30), folder, **options).train(resume_from_checkpoint=resume)
        found.append(weights(model))
    assert_equal(found[0], found[1])


def test_bad_weights_are_not_saved_before_their_loss_is_seen(llama: str, out: Path) -> None:
    _, error = broken(llama, out, 8)
    assert "a weight became nan at step 8" in error.problem
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-4"]


def test_bad_weights_after_the_very_last_step_are_seen(llama: str, out: Path) -> None:
    _, error = broken(llama, out, 15, save_strategy="no")
    assert "a weight became nan at step 15" in error.problem
    assert error.expected is not None and "none yet" in error.expected


def test_steps_between_the_last_report_and_the_end_are_seen(llama: str, out: Path) -> None:
    _, error = broken(llama, out, 12, save_strategy="no")
    assert re.search("became nan at step 13", error.problem)


def test_a_held_out_loss_that_is_no_number_ends_the_run(llama: str, out: Path) -> None:
    model = new_model(llama)
    trainer = trainer_for(
        model, planted(30), out, held_out=planted(9, seed=1), callbacks=[Break(model, 3, float("nan"))], logging_steps=9
    )
    with pytest.raises(TrainingError, match="eval_loss became nan at step 3"):
        trainer.train()


def test_weights_of_the_data_that_are_no_number_are_found_at_the_first_step(llama: str, out: Path) -> None:
    weight = np.full(40, np.nan)
    trainer = trainer_for(new_model(llama), planted(30), out, weight=weight, logging_steps=1)
    with pytest.raises(TrainingError, match="loss became nan at step 1"):
        trainer.train()
