"""Objectives beside the pairwise one go through the same plan, reduction and members."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import ConfigError
from assay.feedback.targets import margin_targets
from assay.objectives import listnet_loss, pointwise_loss, regression_loss
from assay.scorers.encoding import EncodedRecords
from assay.scorers.heads import LinearHead
from assay.training import PreferenceTrainer
from assay.training.data import FeatureSource
from assay.training.held_out import held_out_metrics
from assay.training.objective import GradedObjective, ListwiseObjective, Objective, PairwiseObjective
from assay.training.records import TrainingRecords
from tests.training.support import Linear, arguments, encoded, new_model, planted

ALL: list[Objective] = [
    PairwiseObjective(),
    PairwiseObjective(clip=0.3),
    ListwiseObjective("listnet"),
    ListwiseObjective("listmle"),
    GradedObjective("regression"),
    GradedObjective("pointwise"),
]
NAMES = ["pairwise", "clipped", "listnet", "listmle", "regression", "pointwise"]


def graded(records: EncodedRecords, **more: Any) -> TrainingRecords:
    """Return features and grades from 0 to 1, some missing, one record without any."""
    random = np.random.default_rng(0)
    features = random.normal(size=(len(records.lengths), 8)).astype(np.float32)
    grades = random.random(len(records.lengths))
    grades[random.random(len(grades)) < 0.2] = np.nan
    grades[: records.offsets[1]] = np.nan
    return TrainingRecords(records, features=features, grades=grades, **more)


def train(data: TrainingRecords, objective: Objective, out: Path, members: int = 1) -> Tensor:
    head = LinearHead(8, members)
    args = arguments(out, max_grad_norm=0.0, num_train_epochs=5, pairs_per_step=4, weight_decay=0.1)
    PreferenceTrainer(Linear(head), args, data, objective=objective).train()
    return head.weight.detach()


@pytest.mark.parametrize("objective", ALL, ids=NAMES)
def test_members_trained_together_equal_members_trained_alone(llama: str, out: Path, objective: Objective) -> None:
    records = encoded(new_model(llama), planted(12))
    share = np.random.default_rng(1).uniform(0, 2, (12, 3)) * (np.random.default_rng(2).random((12, 3)) < 0.8)
    together = train(graded(records, share=share), objective, out, 3)
    for member in range(3):
        alone = train(graded(records, share=share[:, member]), objective, out)[0]
        assert alone.abs().max() > 1e-3
        torch.testing.assert_close(together[member], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ALL, ids=NAMES)
def test_a_step_is_the_same_however_it_is_cut(llama: str, objective: Objective) -> None:
    data = graded(encoded(new_model(llama), planted(12)))
    source = FeatureSource(data, objective.items(data))
    head = LinearHead(8)
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    scorer = Linear(head)

    def losses(parts: list[np.ndarray]) -> float:
        total = 0.0
        for part in parts:
            batch: Any = source.batch(part)
            total += float(objective(scorer(batch["features"], batch["edges"]), batch).detach())
        return total

    whole = losses([np.arange(12)])
    assert losses([np.array([3, 1]), np.array([0, 2, 4, 5, 6]), np.arange(7, 12)]) == pytest.approx(whole, rel=1e-6)
    assert whole > 0


def test_losses_are_those_of_the_kernels(llama: str) -> None:
    data = graded(encoded(new_model(llama), planted(12)))
    values = np.random.default_rng(3).normal(size=len(data.records.lengths))
    scores, grades = torch.from_numpy(values), torch.from_numpy(np.asarray(data.grades))
    offsets = data.records.offsets
    lists = [(scores[i:j], grades[i:j]) for i, j in pairwise(offsets)]
    long = [listnet_loss(*pair) for pair in lists if int((~torch.isnan(pair[1])).sum()) > 1]
    found = held_out_metrics(data, values, ListwiseObjective())
    assert found["loss"] == pytest.approx(float(torch.stack(long).mean()), abs=1e-6)
    known = ~torch.isnan(grades)
    expected = regression_loss(scores, grades)
    assert held_out_metrics(data, values, GradedObjective())["loss"] == pytest.approx(float(expected), abs=1e-6)
    expected = pointwise_loss(scores[known], grades[known])
    found = held_out_metrics(data, values, GradedObjective("pointwise"))
    assert found["loss"] == pytest.approx(float(expected), abs=1e-6)
    assert found["accuracy"] == held_out_metrics(data, values)["accuracy"]


def test_only_records_that_count_are_planned(llama: str) -> None:
    data = graded(encoded(new_model(llama), planted(12)))
    parts = np.split(np.asarray(data.grades), data.records.offsets[1:-1])
    known = np.array([int((~np.isnan(part)).sum()) for part in parts])
    assert known[0] == 0 and known.max() > 1
    for objective, expected in (
        (ListwiseObjective(), np.maximum(known - 1, 0)),
        (GradedObjective(), known),
        (PairwiseObjective(), np.bincount(data.records.pairs.row, minlength=12)),
    ):
        count, weight = objective.items(data)
        np.testing.assert_array_equal(count, expected)
        assert ((weight > 0) == (count > 0)).all()


def test_lists_of_two_are_margin_matching(llama: str, out: Path) -> None:
    """ListNet on grades times gamma and soft pairs of their gaps train the same model."""
    records = encoded(new_model(llama), planted(12).select([1, 2, 4, 5, 7, 8]))
    assert set(np.diff(records.offsets)) == {2}
    data = graded(records)
    grades = np.random.default_rng(4).normal(size=len(records.lengths))
    view = records.pairs
    view.p[:] = margin_targets(records.margins(grades), 1.0)
    from dataclasses import replace

    lists = train(replace(data, grades=grades), ListwiseObjective(), out)
    pairs = train(replace(data, grades=None), PairwiseObjective(), out)
    assert pairs.abs().max() > 1e-3
    torch.testing.assert_close(lists, pairs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ALL[2:], ids=NAMES[2:])
def test_without_grades_they_say_so(llama: str, out: Path, objective: Objective) -> None:
    with pytest.raises(ConfigError, match="learns from grades, and there are none"):
        train(TrainingRecords(encoded(new_model(llama), planted(3))), objective, out)


@pytest.mark.parametrize("objective", ALL[2:], ids=NAMES[2:])
def test_text_batches_carry_lists_too(llama: str, out: Path, objective: Objective) -> None:
    """A whole model learns the planted order from grades alone."""
    model, data = new_model(llama), planted(60)
    records = encoded(model, data)
    good = np.zeros(len(records.lengths))
    view = records.pairs
    for row, a, b, p in zip(view.row, view.a, view.b, view.p, strict=True):
        good[records.offsets[row] + (a if p > 0.5 else b)] = 1.0
    args = arguments(out, num_train_epochs=4, token_budget=256, learning_rate=3e-3)
    taught = TrainingRecords(records, model.encoder.pad_id, grades=good)
    trainer = PreferenceTrainer(model, args, taught, taught, objective)
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > max(0.8, before)
