"""Weights of the tokens that tell two replies apart: which they are, and what they do to log-ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.feedback import comparison, from_rows
from assay.feedback.records import edge
from assay.scorers import LoraOptions, Policy, PolicyOptions, create_policy
from assay.scorers.encoding import encode_records
from assay.scorers.references import AdapterOff, FrozenReference
from assay.scorers.token_weights import TokenWeights, edited_tokens
from assay.training import PairwiseObjective
from assay.training.data import TextSource
from assay.training.records import TrainingRecords
from tests.scorers.test_policy import shaken
from tests.training.support import planted
from tests.training.test_policy import loss_and_gradients

BETA = 0.1


def policy_of(folder: Path, **options: Any) -> Policy:
    return create_policy(PolicyOptions(str(folder), **{"beta": BETA} | options))


def marked(policy: Policy, data: Any) -> TrainingRecords:
    records = encode_records(data, policy.encoder)
    edited = edited_tokens(records, policy.encoder.tokenizer)
    return TrainingRecords(records, policy.encoder.pad_id, with_replies=True, edited=edited)


def test_golden_weights() -> None:
    weights = TokenWeights([torch.tensor([True, True, True])], 3.0)
    said = torch.log(torch.tensor([0.1, 0.5, 0.9])).requires_grad_()
    found = weights.on(lambda *_: said)(torch.zeros(3, 1), torch.zeros(3))
    torch.testing.assert_close(found / said, torch.tensor([4.0, 3.0, 2.111111]), rtol=0, atol=1e-5)
    # no gradient goes through them, and whoever comes next is weighed alike
    (gradient,) = torch.autograd.grad(found.sum(), said)
    torch.testing.assert_close(gradient, (found / said).detach(), rtol=0, atol=1e-6)
    other = weights.on(lambda *_: torch.ones(3))(torch.zeros(3, 1), torch.zeros(3))
    torch.testing.assert_close(other, gradient, rtol=0, atol=1e-6)


def test_what_tells_replies_apart(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    replies = ["a fine answer to that", "a bad answer to that", "a fine answer to that"]
    rows = [
        comparison("Name a tool.", replies[:2], [edge(0, 1)]),
        comparison("Name a sea.", [replies[0], replies[2] + " too"], [edge(0, 1)]),
        comparison("Name a lake.", replies[:2]),  # nobody compares them
    ]
    records = encode_records(from_rows(rows), policy.encoder)
    found = edited_tokens(records, policy.encoder.tokenizer)
    decode = policy.encoder.tokenizer.decode
    words = [decode(records.text(text)[marks]).strip() for text, marks in enumerate(found)]
    assert [set(text.split()) & {"fine", "bad", "answer", "a"} for text in words[:2]] == [{"fine"}, {"bad"}]
    assert words[2] == "" and not found[4].any() and not found[5].any()
    for text, marks in enumerate(found):
        assert not marks[: records.reply_starts[text]].any()


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)], ids=["whole", "lora"])
def test_a_policy_that_is_its_reference_is_at_log_two(tiny_causal: Path, lora: LoraOptions | None) -> None:
    policy = policy_of(tiny_causal, lora=lora)
    policy.reference, policy.edit_delta = AdapterOff(policy) if lora else FrozenReference.of(policy), 3.0
    loss, found = loss_and_gradients(policy, marked(policy, planted(6)), PairwiseObjective())
    assert loss == pytest.approx(np.log(2), abs=1e-6)
    assert any(gradient.abs().max() > 0 for gradient in found.values())


def test_delta_zero_is_dpo_and_more_is_the_sum_over_tokens(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    policy.reference = FrozenReference.of(policy)
    shaken(policy, by=0.05)
    data = marked(policy, planted(6))
    plain = loss_and_gradients(policy, data, PairwiseObjective())
    policy.edit_delta = 2.0
    batch = TextSource(data, policy.row_layout).batch(np.arange(len(data.texts)))
    with torch.no_grad():
        states = policy.nodes({"rows": batch["rows"], "order": batch["order"]})
    each: list[list[torch.Tensor]] = []
    for model in (policy.language_model, policy.reference.model.language_model):
        each.append([])
        for text in range(len(data.records.lengths)):
            ids, start = torch.from_numpy(data.records.text(text).copy()).long(), int(data.records.reply_starts[text])
            with torch.no_grad():
                said = model(input_ids=ids[None]).logits[0].log_softmax(-1)[start - 1 : -1]
            each[-1].append(said.gather(1, ids[start:, None])[:, 0])
    assert data.edited is not None and any(marks.any() for marks in data.edited)
    for text, (own, other) in enumerate(zip(*each, strict=True)):
        marks = torch.from_numpy(data.edited[text][int(data.records.reply_starts[text]) :])
        weights = 1 + marks * (1 / own.exp()).clamp_max(2.0)
        assert float(states[text, 0] - states[text, 1]) == pytest.approx(
            float((weights * (own - other)).sum()), abs=1e-3
        )
    policy.edit_delta = 0.0
    again = loss_and_gradients(policy, data, PairwiseObjective())
    assert again[0] == plain[0] and all(torch.equal(again[1][name], plain[1][name]) for name in plain[1])
