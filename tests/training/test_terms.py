"""Terms beside the pairwise loss, and MetaRM's step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.objectives import contrastive_loss, gap_correlation, separation, triplet_loss
from assay.scorers.evaluating import evaluating
from assay.scorers.interface import Batch
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.meta import MetaStep
from assay.training.records import TrainingRecords
from assay.training.terms import AttributeRegression, Centring, Contrast, LengthDecorrelation, Term, Triplet
from tests.training.support import arguments, assert_equal, encoded, new_model, planted, weights


def trained(
    kind: str, out: Path, terms: tuple[Term, ...] = (), rule: MetaStep | None = None, **changes: object
) -> tuple[PreferenceTrainer, dict[str, torch.Tensor]]:
    model = new_model(kind)
    data = TrainingRecords(encoded(model, planted(12)), model.encoder.pad_id)
    args = arguments(out, **changes)
    trainer = PreferenceTrainer(model, args, data, objective=PairwiseObjective(terms=terms), step_rule=rule)
    trainer.train()
    return trainer, weights(model)


def test_the_contrast_is_that_of_two_draws_of_dropout(gpt2: str, out: Path) -> None:
    model = new_model(gpt2).train()
    source = TextSource(TrainingRecords(encoded(model, planted(6)), model.encoder.pad_id), model.row_layout)
    batch = source.batch(np.arange(6))
    output = model(rows=batch["rows"], order=batch["order"], edges=batch["edges"], views=2)
    first, second = output["views"]
    assert first.shape == second.shape and not torch.equal(first, second)
    torch.testing.assert_close(model.values(first), output["values"])
    term = Contrast(0.3, 0.1)
    expected = 0.3 * batch["weight"].sum() * contrastive_loss(first, second, 0.1)
    torch.testing.assert_close(term(output, batch), expected)
    with evaluating(model):
        same = model(rows=batch["rows"], order=batch["order"], views=2)["views"]
    torch.testing.assert_close(same[0], same[1])


def test_members_have_a_correlation_each() -> None:
    random = torch.Generator().manual_seed(0)
    margins, gap = torch.randn(5, 2, generator=random), torch.randn(5, generator=random)
    weight = torch.rand(5, generator=random)
    batch: Batch = {"length_gap": gap, "weight": weight}
    found = LengthDecorrelation(2.0)({"margins": margins, "values": margins}, batch)
    expected = [2 * weight.sum() * gap_correlation(margins[:, i], gap, weight) for i in range(2)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_lengths_count_by_their_logarithm(llama: str) -> None:
    model = new_model(llama)
    data = planted(4)
    batch = TextSource(TrainingRecords(encoded(model, data), model.encoder.pad_id)).batch(np.arange(4))
    record = data[0]
    (edge, *_), (a, b) = record["edges"], (record["responses"][i] for i in (0, 1))
    sign = 1 if edge["a"] == 0 else -1
    assert float(batch["length_gap"][0]) == pytest.approx(sign * np.log((1 + len(a)) / (1 + len(b))), abs=1e-6)


TERMS: list[Term] = [Centring(0.5), Contrast(0.5), LengthDecorrelation(5.0)]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_a_term_changes_training_and_is_left_out_of_the_held_out_loss(gpt2: str, out: Path, term: Term) -> None:
    _, plain = trained(gpt2, out / "plain")
    trainer, other = trained(gpt2, out / "term", (term,))
    assert any(not torch.equal(plain[name], other[name]) for name in plain)
    assert all(torch.isfinite(value).all() for value in other.values())
    assert trainer.objective.views == (2 if isinstance(term, Contrast) else 1)


def meta(model_kind: str, rate: float, prompts: int = 3) -> MetaStep:
    model = new_model(model_kind)
    unlabelled = TrainingRecords(encoded(model, planted(9)), model.encoder.pad_id)
    return MetaStep(TextSource(unlabelled, model.row_layout), rate, prompts)


def test_a_meta_step_of_0_is_plain_training(llama: str, out: Path) -> None:
    _, plain = trained(llama, out / "plain")
    _, still = trained(llama, out / "still", rule=meta(llama, 0.0))
    assert_equal(plain, still)
    _, moved = trained(llama, out / "moved", rule=meta(llama, 0.5))
    assert any(not torch.equal(plain[name], moved[name]) for name in plain)


def test_the_gradient_is_taken_where_scores_lie_further_apart_and_the_weights_come_back(llama: str, out: Path) -> None:
    model = new_model(llama)
    torch.nn.init.normal_(next(model.head.parameters()), std=0.5, generator=torch.Generator().manual_seed(0))
    data = TrainingRecords(encoded(model, planted(12)), model.encoder.pad_id)
    rule = replace(meta(llama, 0.05), prompts=9)
    trainer = PreferenceTrainer(model, arguments(out), data, step_rule=rule)
    before, batch = weights(model), rule.source.batch(np.arange(9))

    def spread() -> float:
        with evaluating(model):
            values = model(rows=batch["rows"], order=batch["order"])["values"]
        ends = np.cumsum(rule.source.data.texts)
        lists = [values[end - size : end] for end, size in zip(ends, rule.source.data.texts, strict=True)]
        return float(torch.stack([separation(scores) for scores in lists]).mean())

    here = spread()
    with rule(trainer, model, 1):
        assert spread() > here
        assert all(parameter.grad is None for parameter in model.parameters())
    assert_equal(before, weights(model))


def test_attributes_are_a_masked_mean_of_squares_each_member_by_its_share() -> None:
    random = torch.Generator().manual_seed(0)
    found, grades = torch.randn(4, 2, 3, generator=random), torch.randn(4, 3, generator=random)
    grades[1, 0], grades[3] = torch.nan, torch.nan
    share = torch.tensor([[1.0, 0.0], [2.0, 1.0], [1.0, 3.0], [5.0, 5.0]])
    weight = torch.rand(6, 2, generator=random)
    batch: Batch = {"attributes": grades, "text_weight": share, "weight": weight}
    values = AttributeRegression(0.5)({"margins": weight, "values": weight, "attributes": found}, batch)
    known = ~torch.isnan(grades)
    for member in range(2):
        error = torch.where(known, found[:, member] - grades, 0.0).square()
        mean = (share[:, member, None] * error).sum() / (share[:, member, None] * known).sum()
        torch.testing.assert_close(values[member], 0.5 * weight[:, member].sum() * mean)
    nothing: Batch = {"attributes": torch.full_like(grades, torch.nan), "text_weight": share, "weight": weight}
    assert AttributeRegression(0.5)({"margins": weight, "values": weight, "attributes": found}, nothing).tolist() == [
        0,
        0,
    ]


def test_a_triplet_looks_at_directions_of_its_three_texts() -> None:
    states = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    roles = torch.tensor([0.0, 1, 2, 3, 1, 2, 3])
    batch: Batch = {"weight": torch.tensor([1.0, 2.0]), "roles": roles}
    margins = torch.zeros(2)
    unit = states / states.norm(dim=1, keepdim=True)
    expected = triplet_loss(unit[[1, 4]], unit[[2, 5]], unit[[3, 6]]).mean() * 3 * 0.25
    found = Triplet(0.25)({"margins": margins, "values": margins, "states": states}, batch)
    torch.testing.assert_close(found, expected.float())
    # lengths of states do not matter, and without a triplet there is nothing
    longer = Triplet(0.25)({"margins": margins, "values": margins, "states": 7 * states}, batch)
    torch.testing.assert_close(longer, found)
    for nothing in ({"weight": batch["weight"]}, batch | {"roles": torch.zeros(7)}):
        none = Triplet(0.25)({"margins": margins, "values": margins, "states": states}, nothing)  # type: ignore[arg-type]
        assert float(none) == 0.0
