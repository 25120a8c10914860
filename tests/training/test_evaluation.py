"""Held-out metrics, when they are taken, and what early stopping keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from transformers import TrainerCallback

from assay.scorers import RewardModel
from assay.scorers.encoding import score_records
from assay.training import trainer as trainer_module
from assay.training.held_out import held_out_metrics
from assay.training.records import TrainingRecords
from assay.training.schedule import evaluations_since_best
from tests.training.support import assert_equal, encoded, new_model, planted, trainer_for, weights


def test_metrics_leave_ties_out_and_count_equal_scores_half(llama: str) -> None:
    records = encoded(new_model(llama), planted(6).select([1, 2, 4, 5]))
    view = records.pairs
    view.p[:] = [1.0, 0.0, 0.5, 1.0]
    scores = np.zeros(8)
    scores[0] = 2.0  # first judgement right; the second and the last undecided; the third is a tie
    found = held_out_metrics(TrainingRecords(records), scores)
    assert found["accuracy"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found["loss"] == pytest.approx((np.log1p(np.exp(-2.0)) + 3 * np.log(2)) / 4)
    view.w[:] = [0.0, 3.0, 1.0, 0.0]
    assert held_out_metrics(TrainingRecords(records), scores)["accuracy"] == 0.5
    view.p[:] = 0.5
    assert np.isnan(held_out_metrics(TrainingRecords(records), scores)["accuracy"])


def test_metrics_of_a_trained_model_equal_sklearn(llama: str, out: Path) -> None:
    model, held_out = new_model(llama), planted(30, seed=1)
    trainer = trainer_for(model, planted(60), out, held_out=held_out, num_train_epochs=2)
    trainer.train()
    found = trainer.evaluate()
    records = encoded(model, held_out)
    gaps = records.margins(score_records(model, records))
    assert found["eval_loss"] == pytest.approx(log_loss(records.pairs.p, 1 / (1 + np.exp(-gaps))), abs=1e-6)
    assert found["eval_accuracy"] == np.mean((gaps > 0) == (records.pairs.p == 1))


def test_several_members_are_judged_by_their_mean_loss(llama: str) -> None:
    records = encoded(new_model(llama), planted(12))
    scores = np.random.default_rng(0).normal(size=(len(records.lengths), 3))
    apart = [held_out_metrics(TrainingRecords(records), scores[:, member]) for member in range(3)]
    both = held_out_metrics(TrainingRecords(records), scores)
    for name in ("loss", "accuracy"):
        assert both[name] == pytest.approx(np.mean([found[name] for found in apart]))


def test_evaluations_happen_where_planned_and_at_the_end(llama: str, out: Path) -> None:
    model = new_model(llama)
    trainer = trainer_for(model, planted(60), out, held_out=planted(9, seed=1), num_train_epochs=2, pairs_per_step=10)
    trainer.train()
    steps = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert steps == trainer.plan.evaluation_steps(2) == [4, 8, 12, 16]
    epochs = [entry["epoch"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert epochs == [0.5, 1.0, 1.5, 2.0]


def test_evaluating_changes_neither_weights_nor_the_draws_of_dropout(gpt2: str, out: Path) -> None:
    found = []
    for held_out in (None, planted(9, seed=1)):
        model = new_model(gpt2)
        trainer_for(model, planted(40), out, held_out=held_out, evaluations_per_epoch=3).train()
        found.append(weights(model))
    assert_equal(found[0], found[1])


def worsening(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Let evaluations find given losses."""
    queue = iter(losses)
    monkeypatch.setattr(trainer_module, "held_out_metrics", lambda *_: {"loss": next(queue), "accuracy": 0.5})


class Keep(TrainerCallback):
    """Remembers the weights after each step."""

    def __init__(self, model: RewardModel) -> None:
        self.model, self.after = model, dict[int, dict[str, torch.Tensor]]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.after[state.global_step] = weights(self.model)


@pytest.mark.parametrize(
    ("losses", "best", "last"),
    [
        ([0.5, 0.6, 0.7, 0.4], 1, 3),  # two in a row without a better one: stopped before the fourth
        ([0.5, 0.6, 0.4, 0.4, 0.4, 0.3], 3, 5),  # equal is not better
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], 6, 6),  # never stopped
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.7], 5, 6),  # the end comes before patience does
    ],
)
def test_early_stopping_keeps_the_best_weights(
    gpt2: str, out: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], best: int, last: int
) -> None:
    worsening(monkeypatch, losses)
    model = new_model(gpt2)
    kept = Keep(model)
    trainer = trainer_for(
        model,
        planted(30),
        out,
        held_out=planted(9, seed=1),
        num_train_epochs=3,
        evaluations_per_epoch=2,
        patience=2,
        save_strategy="steps",
        save_steps=3,
        keep_checkpoints=1,
        callbacks=[kept],
    )
    due = trainer.plan.evaluation_steps(2)
    assert len(due) == 6
    trainer.train()
    assert trainer.state.global_step == due[last - 1] == max(kept.after)
    assert trainer.state.best_metric == losses[best - 1]
    assert_equal(weights(model), kept.after[due[best - 1]])
    assert f"checkpoint-{due[best - 1]}" in {path.name for path in out.iterdir()}


def test_without_patience_the_last_weights_stay(gpt2: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worsening(monkeypatch, [0.1, 0.9])
    model = new_model(gpt2)
    kept = Keep(model)
    trainer = trainer_for(model, planted(30), out, held_out=planted(9, seed=1), callbacks=[kept])
    trainer.train()
    assert_equal(weights(model), kept.after[len(trainer.plan)])


def test_evaluations_since_best() -> None:
    assert [evaluations_since_best(losses) for losses in ([], [1.0], [1.0, 0.5], [0.5, 1.0, 0.5])] == [0, 0, 0, 2]
