"""GRM: a reward head beside a language model that goes on learning from text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.objectives import text_loss
from assay.scorers import RewardModel
from assay.scorers.vocabulary import reply_likelihoods
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.held_out import held_out_metrics
from assay.training.records import TrainingRecords
from assay.training.terms import TextRegulariser
from tests.training.support import arguments, assert_equal, encoded, new_model, planted, weights


def model_of(folder: Any, seed: int = 0, **options: Any) -> RewardModel:
    """Return a model whose head is not zero, so that its gradient reaches the backbone."""
    model = new_model(str(folder), vocabulary=True, **options)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def gradients(model: RewardModel, objective: PairwiseObjective, data: TrainingRecords) -> dict[str, torch.Tensor]:
    source = TextSource(data, model.row_layout)
    batch = source.batch(np.arange(len(data.texts)))
    model.zero_grad()
    output = model(batch["rows"], batch["order"], edges=batch["edges"], likelihoods=objective.likelihoods)
    objective(output, batch).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def data_of(model: RewardModel, **more: Any) -> TrainingRecords:
    return TrainingRecords(encoded(model, planted(6)), model.encoder.pad_id, with_replies=True, **more)


@pytest.mark.parametrize("kind", ["sigmoid", "sft", "dpo"])
@pytest.mark.parametrize("backbone", ["tied", "untied"])
def test_the_head_gets_its_share_of_the_gradient_and_the_backbone_both(
    gpt2: str, tiny_causal: Path, backbone: str, kind: Any
) -> None:
    model = model_of(gpt2 if backbone == "tied" else tiny_causal, dropout="none").eval()
    data = data_of(model)
    plain = gradients(model, PairwiseObjective(), data)
    mixed = gradients(model, PairwiseObjective(text=TextRegulariser(0.25, kind)), data)
    for name, gradient in plain.items():
        if name.startswith("head."):
            torch.testing.assert_close(mixed[name], 0.75 * gradient)
        else:
            assert not torch.allclose(mixed[name], 0.75 * gradient, rtol=1e-3)


def test_a_share_of_nothing_is_bradley_terry_to_the_bit(gpt2: str) -> None:
    model = model_of(gpt2, dropout="none").eval()
    data = data_of(model)
    plain = gradients(model, PairwiseObjective(), data)
    mixed = gradients(model, PairwiseObjective(text=TextRegulariser(0.0)), data)
    assert all(torch.equal(mixed[name], gradient) for name, gradient in plain.items())


def test_the_loss_is_the_mix_of_both(gpt2: str) -> None:
    model = model_of(gpt2).eval()
    data = data_of(model, weight=np.linspace(0, 2, len(encoded(model, planted(6)).pairs)))
    said = torch.from_numpy(reply_likelihoods(model, data.records)).double()
    batch = TextSource(data, model.row_layout).batch(np.arange(len(data.texts)))
    output = model(batch["rows"], batch["order"], edges=batch["edges"], likelihoods=True)
    found = PairwiseObjective(text=TextRegulariser(0.25, "sft"))(output, batch).double()
    a, b = batch["edges"].unbind(dim=1)
    text = (batch["weight"] * text_loss("sft", said[a], said[b], batch["target"])).sum()
    torch.testing.assert_close(found, 0.75 * PairwiseObjective()(output, batch).double() + 0.25 * text)


def test_with_the_model_itself_as_reference_dpo_begins_at_log_two(gpt2: str) -> None:
    model = model_of(gpt2).eval()
    data = data_of(model)
    data = replace(data, reference=reply_likelihoods(model, data.records))
    batch = TextSource(data, model.row_layout).batch(np.arange(len(data.texts)))
    output = model(batch["rows"], batch["order"], edges=batch["edges"], likelihoods=True)
    judgements = torch.zeros(())
    text = TextRegulariser(0.5, "dpo").mixed(judgements, output, batch)
    assert float(text.detach()) == pytest.approx(0.5 * float(batch["weight"].sum()) * np.log(2), rel=1e-5)


def test_members_have_one_language_model(gpt2: str) -> None:
    model = model_of(gpt2, members=3).eval()
    count = len(encoded(model, planted(6)).pairs)
    data = data_of(model, weight=np.random.default_rng(0).random((count, 3)))
    batch = TextSource(data, model.row_layout).batch(np.arange(len(data.texts)))
    output = model(batch["rows"], batch["order"], edges=batch["edges"], likelihoods=True)
    found = PairwiseObjective(text=TextRegulariser(0.3))(output, batch)
    for member in range(3):
        alone = {**output, "margins": output["margins"][:, member]}
        given = {**batch, "weight": batch["weight"][:, member]}
        expected = PairwiseObjective(text=TextRegulariser(0.3))(alone, given)  # type: ignore[arg-type]
        torch.testing.assert_close(found[member], expected)


def trained(gpt2: str, out: Path, share: float, budget: int = 4096) -> tuple[RewardModel, TrainingRecords]:
    model = new_model(gpt2, vocabulary=True, dropout="none")
    data = data_of(model)
    args = arguments(out, token_budget=budget, num_train_epochs=20, learning_rate=1e-2)
    PreferenceTrainer(model, args, data, objective=PairwiseObjective(text=TextRegulariser(share, "sft"))).train()
    return model, data


def test_training_makes_better_replies_likely(gpt2: str, out: Path) -> None:
    said = {}
    for share in (0.0, 0.5):
        model, data = trained(gpt2, out / str(share), share)
        said[share] = reply_likelihoods(model, data.records)[data.classes == 1].mean()
    assert said[0.5] > said[0.0] + 5


def test_what_is_learned_does_not_depend_on_the_budget(gpt2: str, out: Path) -> None:
    few, many = (weights(trained(gpt2, out / str(budget), 0.5, budget)[0]) for budget in (64, 4096))
    assert_equal(few, many, tolerance=1e-3)


def test_held_out_loss_is_that_of_the_judgements(gpt2: str) -> None:
    model = new_model(gpt2, vocabulary=True)
    data = data_of(model)
    objective = PairwiseObjective(text=TextRegulariser(0.5))
    found = held_out_metrics(data, np.zeros(len(data.records.lengths)), objective)
    assert found["loss"] == pytest.approx(np.log(2))
