"""A step is one weighted mean over all its judgements, however it is cut (identity 52)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.objectives import pairwise_loss
from assay.scorers import RewardModel
from assay.scorers.encoding import score_records
from assay.scorers.heads import LinearHead
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.data import FeatureSource, PlannedSteps, TextSource
from assay.training.plan import plan_batches
from assay.training.records import TrainingRecords
from assay.training.terms import Centring
from tests.training.support import Linear, arguments, assert_equal, encoded, new_model, planted, trainer_for, weights


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.detach().clone() for n, p in model.named_parameters() if p.grad is not None}


def one_step(model: RewardModel, folder: Path, **options: Any) -> tuple[float, dict[str, Tensor], int]:
    """Return loss and gradients of the first planned step, and the number of its micro-batches."""
    model.zero_grad()
    trainer = trainer_for(model, planted(9), folder, pairs_per_step=100, **options)
    item = trainer.train_dataset[0]
    loss = trainer.training_step(model, item)
    return float(loss), gradients(model), len(item["batches"])


def wake(model: RewardModel) -> RewardModel:
    """Move the head from zero, so that gradients reach the backbone."""
    nn.init.normal_(model.get_parameter("head.weight"), generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("centring", [0.0, 0.1])
def test_the_gradient_of_a_step_is_that_of_one_big_batch(llama: str, out: Path, centring: float) -> None:
    model = wake(new_model(llama))
    weight = np.random.default_rng(0).uniform(0.1, 3, 12)
    options: dict[str, Any] = {"centring": centring, "weight": weight}
    whole, expected, one = one_step(model, out, token_budget=10**6, **options)
    cut, found, several = one_step(model, out, token_budget=60, **options)
    assert (one, several) == (1, 6)  # texts of a record share a row
    assert cut == pytest.approx(whole, abs=1e-6)
    largest = max(float(g.abs().max()) for g in expected.values())
    assert largest > 1e-3
    assert_equal(found, expected, 3e-6 * largest)  # processors add up in orders of their own


def test_the_loss_of_a_step_is_the_weighted_mean_of_the_kernel(llama: str, out: Path) -> None:
    model, data = wake(new_model(llama)), planted(9)
    records, weight = encoded(model, data), np.random.default_rng(0).uniform(0.1, 3, 12)
    margins = torch.from_numpy(records.margins(score_records(model, records)))
    view = records.pairs
    expected = pairwise_loss(margins, torch.from_numpy(view.p), torch.from_numpy(view.m), torch.from_numpy(weight))
    assert one_step(model, out, token_budget=60, weight=weight)[0] == pytest.approx(float(expected), abs=1e-6)


class Scale(nn.Module):
    """Scores a text by its one feature times a number; several members are several numbers."""

    def __init__(self, members: int = 1) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(members))

    def forward(self, features: Tensor, edges: Tensor) -> dict[str, Tensor]:
        values = features * self.number if len(self.number) > 1 else features[:, 0] * self.number
        return {"margins": values[edges[:, 0]] - values[edges[:, 1]], "values": values}


def identity_52(llama: str, weight: np.ndarray) -> TrainingRecords:
    """Two records whose losses are .2 and .6 under a scale of 1."""
    records = encoded(new_model(llama), planted(3).select([1, 2]))
    features = np.zeros((4, 1), np.float32)
    for record, loss in enumerate((0.2, 0.6)):
        # -log sigmoid(z) = loss  <=>  z = -log(exp(loss) - 1), for the side that is better
        features[2 * record] = -np.log(np.expm1(loss)) * (1.0 if records.pairs.p[record] == 1 else -1.0)
    return TrainingRecords(records, features=features, weight=weight)


def step_of(trainer: PreferenceTrainer, item: dict[str, Any]) -> tuple[float, Tensor]:
    trainer.model.zero_grad()
    loss = float(trainer.training_step(trainer.model, item))
    return loss, trainer.model.number.grad.clone()


@pytest.mark.parametrize("weight", [[1.0, 3.0], [0.0, 0.0]])
def test_identity_52(llama: str, out: Path, weight: list[float]) -> None:
    data = identity_52(llama, np.array(weight))
    expected = 0.5 if sum(weight) else 0.0

    def steps(token_budget: int, world_size: int = 1) -> list[dict[str, Any]]:
        plan = plan_batches(
            FeatureSource(data).sizes(),
            epochs=1,
            pairs_per_step=2,
            token_budget=token_budget,
            seed=0,
            world_size=world_size,
        )
        return [PlannedSteps(plan, FeatureSource(data), rank)[0] for rank in range(world_size)]

    trainer = PreferenceTrainer(Scale(), arguments(out), data)
    (one,), (two,) = steps(100), steps(2)
    assert (len(one["batches"]), len(two["batches"])) == (1, 2)
    loss, gradient = step_of(trainer, one)
    assert loss == pytest.approx(expected, abs=1e-7)
    assert gradient.isfinite().all() and (gradient != 0).all() == (expected != 0)
    cut_loss, cut_gradient = step_of(trainer, two)
    assert cut_loss == pytest.approx(expected, abs=1e-7)
    torch.testing.assert_close(cut_gradient, gradient, rtol=0, atol=1e-7)
    ranks = [step_of(trainer, item) for item in steps(100, world_size=2)]
    assert sum(loss for loss, _ in ranks) == pytest.approx(expected, abs=1e-7)
    torch.testing.assert_close(sum(g for _, g in ranks), gradient, rtol=0, atol=1e-7)


def test_zero_weights_train_to_the_same_weights_without_nan(llama: str, out: Path) -> None:
    model = wake(new_model(llama))
    before = weights(model)
    trainer = trainer_for(model, planted(9), out, weight=np.zeros(12), centring=0.1, weight_decay=0.0)
    result = trainer.train()
    assert result.training_loss == 0.0
    assert_equal(weights(model), before)


def test_a_rank_without_records_gets_a_micro_batch_that_weighs_nothing(llama: str, out: Path) -> None:
    data = identity_52(llama, np.array([1.0, 3.0]))
    plan = plan_batches(FeatureSource(data).sizes(), epochs=1, pairs_per_step=2, token_budget=2, seed=0, world_size=3)
    assert [len(rank) for rank in plan.steps[0]] == [1, 1, 0]
    items = [PlannedSteps(plan, FeatureSource(data), rank)[0] for rank in range(3)]
    assert [len(item["batches"]) for item in items] == [1, 1, 1]
    trainer = PreferenceTrainer(Scale(), arguments(out), data)
    found = [step_of(trainer, item) for item in items]
    assert found[2] == (0.0, torch.zeros(1))
    assert sum(loss for loss, _ in found) == pytest.approx(0.5, abs=1e-7)


def test_ranks_have_equally_many_micro_batches(llama: str) -> None:
    model, data = new_model(llama), planted(30)
    source = TextSource(TrainingRecords(encoded(model, data)))
    plan = plan_batches(source.sizes(), epochs=1, pairs_per_step=12, token_budget=70, seed=0, world_size=3)
    items = [PlannedSteps(plan, source, rank) for rank in range(3)]
    assert {len(rank) for step in plan.steps for rank in step} != {1}
    for step in range(len(plan)):
        assert len({len(item[step]["batches"]) for item in items}) == 1
        # nothing is counted twice
        total = sum(float(b["weight"].sum()) for item in items for b in item[step]["batches"])
        assert total == pytest.approx(float(plan.weights[step]))


@pytest.mark.parametrize("centring", [0.0, 0.5])
def test_members_trained_together_equal_members_trained_alone(llama: str, out: Path, centring: float) -> None:
    records = encoded(new_model(llama), planted(12))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(records.lengths), 8)).astype(np.float32)
    weight = rng.uniform(0, 2, (len(records.pairs), 3)) * (rng.random((len(records.pairs), 3)) < 0.7)

    def train(head: LinearHead, w: np.ndarray) -> Tensor:
        scorer = Linear(head)
        args = arguments(out, max_grad_norm=0.0, num_train_epochs=5, pairs_per_step=4, weight_decay=0.1)
        data = TrainingRecords(records, features=features, weight=w)
        objective = PairwiseObjective(terms=(Centring(centring),) if centring else ())
        PreferenceTrainer(scorer, args, data, objective=objective).train()
        return head.weight.detach()

    together = train(LinearHead(8, 3), weight)
    for member in range(3):
        alone = train(LinearHead(8), weight[:, member])[0]
        assert alone.abs().max() > 1e-3
        torch.testing.assert_close(together[member], alone, rtol=0, atol=1e-6)
