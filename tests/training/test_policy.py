"""Policies in the one trainer: where they begin, what TRL's trainer makes of the same pairs, and what they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import expit

from assay.objectives import pairwise_loss
from assay.scorers import LoraOptions
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.policy import Policy
from assay.scorers.policy_loading import PolicyOptions, create_policy
from assay.scorers.references import AdapterOff, FrozenReference
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.data import TextSource
from assay.training.records import TrainingRecords
from assay.training.schedule import StopAfter
from assay.training.terms import Likelihood
from tests.scorers.test_policy import shaken
from tests.training.support import arguments, planted

BETA = 0.1


def policy_of(folder: Path, **options: Any) -> Policy:
    return create_policy(PolicyOptions(str(folder), **{"beta": BETA} | options))


def records_of(policy: Policy, data: Dataset, reference: np.ndarray | None = None) -> TrainingRecords:
    records = encode_records(data, policy.encoder)
    return TrainingRecords(records, policy.encoder.pad_id, with_replies=True, reference=reference)


def loss_and_gradients(
    policy: Policy, data: TrainingRecords, objective: PairwiseObjective
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean loss of all records in one batch, and the gradient of every weight that trains."""
    batch = TextSource(data, policy.row_layout).batch(np.arange(len(data.texts)))
    fed = {name: batch[name] for name in ("rows", "order", "edges", "reference") if name in batch}
    policy.zero_grad()
    loss = objective(policy(**fed), batch) / batch["weight"].sum()
    loss.backward()
    found = {n: p.grad.clone() for n, p in policy.named_parameters() if p.requires_grad and p.grad is not None}
    return float(loss.detach()), found


def nearly(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-3) -> bool:
    """Tell whether two gradients are the same but for rounding."""
    return bool((found - expected).norm() <= tolerance * expected.norm() + 1e-7)


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)], ids=["whole", "lora"])
def test_it_begins_at_log_two(tiny_causal: Path, lora: LoraOptions | None) -> None:
    policy = policy_of(tiny_causal, lora=lora)
    policy.reference = AdapterOff(policy) if lora else FrozenReference.of(policy)
    loss, found = loss_and_gradients(policy, records_of(policy, planted(6)), PairwiseObjective())
    assert loss == pytest.approx(np.log(2), abs=1e-6)
    assert any(gradient.abs().max() > 0 for gradient in found.values())


def test_a_reference_computed_before_gives_the_same(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    policy.reference = FrozenReference.of(policy)
    shaken(policy)
    data = records_of(policy, planted(6))
    live = loss_and_gradients(policy, data, PairwiseObjective())
    frozen, policy.reference = policy.reference.model, None
    ids = [data.records.text(index) for index in range(len(data.records.lengths))]
    known = frozen.features(ids, data.records.reply_starts)[:, 0]
    before = loss_and_gradients(policy, replace(data, reference=known), PairwiseObjective())
    assert before[0] == pytest.approx(live[0], abs=1e-5)
    for name, gradient in live[1].items():
        torch.testing.assert_close(before[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", ["logistic", "squared", "hinge"])
def test_gradients_are_those_of_whole_logits(tiny_causal: Path, kernel: Any) -> None:
    policy = policy_of(tiny_causal)
    policy.reference = FrozenReference.of(policy)
    shaken(policy, by=0.02)
    data = records_of(policy, planted(4))
    loss, found = loss_and_gradients(policy, data, PairwiseObjective(kernel=kernel, beta=BETA))

    def ratio(index: int) -> torch.Tensor:
        ids, start = torch.from_numpy(data.records.text(index).copy()).long(), int(data.records.reply_starts[index])
        said = []
        for model in (policy.language_model, policy.reference.model.language_model):  # type: ignore[union-attr]
            each = model(input_ids=ids[None]).logits[0].log_softmax(-1)[start - 1 : -1]
            said.append(each.gather(1, ids[start:, None]).sum())
        return said[0] - said[1].detach()

    policy.zero_grad()
    view, total = data.records.pairs, torch.zeros(())
    for row, a, b, p in zip(view.row, view.a, view.b, view.p, strict=True):
        first = int(data.records.offsets[row])
        gap = ratio(first + int(a)) - ratio(first + int(b))
        sign = 1.0 if p > 0.5 else -1.0
        each = {
            "logistic": torch.nn.functional.softplus(-BETA * sign * gap),
            "squared": (sign * gap - 1 / (2 * BETA)) ** 2,
            "hinge": torch.relu(1 - BETA * sign * gap),
        }
        total = total + each[kernel] / len(view)
    total.backward()
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and nearly(found[name], parameter.grad), name


def test_orpo_and_simpo_are_the_published_sums(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, form="odds", beta=1.0)
    data = records_of(policy, planted(6))
    view, offsets, weight = data.records.pairs, data.records.offsets, data.records.pairs.w
    ids = [data.records.text(index) for index in range(len(data.records.lengths))]
    said, _, tokens = policy.features(ids, data.records.reply_starts).astype(np.float64).T
    better = np.where(view.p > 0.5, offsets[view.row] + view.a, offsets[view.row] + view.b)
    worse = np.where(view.p > 0.5, offsets[view.row] + view.b, offsets[view.row] + view.a)
    mean = said / tokens
    odds = mean - np.log1p(-np.exp(mean))
    orpo = -mean[better] - 0.1 * np.log(expit(odds[better] - odds[worse]))  # Hong et al. 2024, lambda 0.1
    loss, _ = loss_and_gradients(policy, data, PairwiseObjective(terms=(Likelihood(10.0),)))
    assert 0.1 * loss == pytest.approx(np.average(orpo, weights=weight), rel=1e-5)
    policy = policy_of(tiny_causal, form="mean", beta=2.0)
    simpo = -np.log(expit(2.0 * (mean[better] - mean[worse]) - 1.0))  # Meng et al. 2024, gamma 1
    ahead = replace(data.records, pairs=replace(view, m=np.sign(2 * view.p - 1)))
    loss, _ = loss_and_gradients(policy, replace(data, records=ahead), PairwiseObjective())
    assert loss == pytest.approx(np.average(simpo, weights=weight), rel=1e-5)


def test_the_likelihood_of_the_better_reply() -> None:
    output: Any = {"likelihoods": torch.tensor([-6.0, -2.0, -9.0]), "reply_tokens": torch.tensor([3.0, 1.0, 9.0])}
    batch: Any = {"edges": torch.tensor([[0, 1], [2, 0]]), "target": torch.tensor([1.0, 0.25])}
    batch["weight"] = torch.tensor([1.0, 2.0])
    # 1 * 2 for the first; 2 * (0.25 * 1 + 0.75 * 2) for the second
    assert Likelihood(0.5)(output, batch).item() == pytest.approx(0.5 * (2 + 3.5))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_trl_gives_the_same_loss_and_gradients(tiny_causal: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    data = planted(6)
    pairs = []
    for row in data:
        for edge in row["edges"]:
            a, b = row["responses"][edge["a"]], row["responses"][edge["b"]]
            chosen, rejected = (a, b) if edge["p"] > 0.5 else (b, a)
            pairs.append({"prompt": row["prompt"][0]["content"], "chosen": chosen, "rejected": rejected})
    policy = policy_of(tiny_causal, template="plain")
    policy.reference = FrozenReference.of(policy)
    shaken(policy, by=0.02)
    # what TRL is to see are our own tokens, so that losses are compared and not templates
    encoded = {
        name: policy.encoder.encode([p["prompt"] for p in pairs], [p[name] for p in pairs])
        for name in ("chosen", "rejected")
    }
    rows = [
        {
            "prompt_ids": c.ids[: c.prompt_tokens],
            "chosen_ids": c.ids[c.prompt_tokens :],
            "rejected_ids": r.ids[r.prompt_tokens :],
        }
        for c, r in zip(encoded["chosen"], encoded["rejected"], strict=True)
        if c.ids[: c.prompt_tokens] == r.ids[: r.prompt_tokens]
    ]
    assert len(rows) == len(pairs)
    args = trl.DPOConfig(
        output_dir=str(tmp_path),
        beta=BETA,
        use_cpu=True,
        report_to="none",
        per_device_train_batch_size=len(rows),
        max_length=None,
        bf16=False,
    )
    model = policy.language_model
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=policy.reference.model.language_model,
        args=args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=policy.encoder.tokenizer,
    )
    batch = trainer.data_collator(rows)
    model.zero_grad()
    expected = trainer.compute_loss(model.train(), batch)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    loss, found = loss_and_gradients(policy, records_of(policy, data), PairwiseObjective())
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    for name, gradient in wanted.items():
        assert nearly(found[f"language_model.{name}"], gradient, 2e-5), name


def trainer_of(folder: Path, out: Path, lora: LoraOptions | None = None, **changes: Any) -> PreferenceTrainer:
    policy = policy_of(folder, lora=lora)
    policy.reference = AdapterOff(policy) if policy.config.adapter else FrozenReference.of(policy)
    args = arguments(out, **{"num_train_epochs": 4, "learning_rate": 3e-3} | changes)
    return PreferenceTrainer(
        policy, args, records_of(policy, planted(96)), records_of(policy, planted(48, seed=1)), PairwiseObjective()
    )


def trained(folder: Path, out: Path, lora: LoraOptions | None = None, **changes: Any) -> Policy:
    trainer = trainer_of(folder, out, lora, **changes)
    trainer.train()
    return cast(Policy, trainer.model)


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=8)], ids=["whole", "lora"])
def test_it_learns_what_people_prefer(tiny_causal: Path, tmp_path: Path, lora: LoraOptions | None) -> None:
    policy = trained(tiny_causal, tmp_path, lora=lora)
    records = encode_records(planted(48, seed=1), policy.encoder)
    margins = records.margins(score_records(policy, records))
    right = float(((margins > 0) == (records.pairs.p > 0.5)).mean())
    assert right > 0.8
    loss = float(pairwise_loss(torch.from_numpy(margins), torch.from_numpy(records.pairs.p)))
    assert loss < 0.6


def test_what_is_learned_does_not_depend_on_the_budget(tiny_causal: Path, tmp_path: Path) -> None:
    few, many = (trained(tiny_causal, tmp_path / str(b), token_budget=b, num_train_epochs=1) for b in (400, 4096))
    for (name, one), other in zip(few.named_parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=8)], ids=["whole", "lora"])
def test_a_run_goes_on_where_it_was_stopped(tiny_causal: Path, tmp_path: Path, lora: LoraOptions | None) -> None:
    saved: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 1}
    whole = trained(tiny_causal, tmp_path / "whole", lora, **saved)
    first = trainer_of(tiny_causal, tmp_path / "parts", lora, **saved)
    first.add_callback(StopAfter(5))
    first.train()
    assert first.state.global_step == 5 < len(first.plan)
    second = trainer_of(tiny_causal, tmp_path / "parts", lora, **saved)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == len(second.plan)
    found = cast(Policy, second.model).named_parameters()
    for (name, one), other in zip(found, whole.parameters(), strict=True):
        assert torch.equal(one, other), name
