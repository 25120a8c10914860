"""What a policy learns of single replies: verdicts against TRL's formula, and likelihood against whole logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from assay.feedback.cross_prompts import with_answers_elsewhere
from assay.scorers.encoding import encode_records
from assay.scorers.references import FrozenReference
from assay.training import PairwiseObjective
from assay.training.data import TextSource
from assay.training.reply_objectives import LikelihoodObjective, ProspectObjective
from assay.training.terms import Optimism
from tests.scorers.test_policy import shaken
from tests.training.support import planted
from tests.training.test_policy import loss_and_gradients, policy_of, records_of


def test_prospects_are_those_of_the_paper() -> None:
    scores = torch.tensor([0.4, -0.2, 1.0, 0.5, -0.1], dtype=torch.float64, requires_grad=True)
    batch: Any = {
        "lists": torch.tensor([[0, 1], [2, 3], [4, -1]]),
        "grades": torch.tensor([1.0, 0.0, 1.0, np.nan, np.nan]),
        "record_weight": torch.ones(3),
        "elsewhere": torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]),
    }
    loss = ProspectObjective(good=1.5, bad=0.5)({"values": scores, "margins": scores[:0]}, batch)
    point = 0.2  # mean of 0.5 and -0.1
    expected = 1.5 * (1 - torch.sigmoid(scores[0] - point)) + 0.5 * (1 - torch.sigmoid(point - scores[1]))
    expected = expected + 1.5 * (1 - torch.sigmoid(scores[2] - point))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    (found,) = torch.autograd.grad(loss, scores)
    (wanted,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)  # and none reaches the reference point
    batch["elsewhere"] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])  # below 0 it is taken for 0
    alone = ProspectObjective()({"values": scores, "margins": scores[:0]}, batch)
    plain = 2 - torch.sigmoid(scores[0]) - torch.sigmoid(scores[2]) + 1 - torch.sigmoid(-scores[1])
    assert float(alone.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)


def test_answers_to_other_prompts_are_judged_by_nobody(tiny_causal: Path) -> None:
    data = planted(9)
    more, got = with_answers_elsewhere(data, 0)
    assert got.all()
    for before, after in zip(data, more, strict=True):
        assert after["edges"] == before["edges"] and after["responses"][:-1] == before["responses"]
        donors = [row for row in data if after["responses"][-1] in row["responses"]]
        assert any(row["split_group"] != before["split_group"] for row in donors)
    assert with_answers_elsewhere(data, 0)[0][:] == more[:] != with_answers_elsewhere(data, 1)[0][:]
    one = data.select([0]).map(lambda _: {"split_group": "one"})
    left, none = with_answers_elsewhere(one, 0)
    assert not none.any() and left["responses"][:] == one["responses"][:]


def test_likelihood_is_that_of_whole_logits(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, beta=0.3)
    data = records_of(policy, planted(5))
    learned = np.zeros(len(data.records.lengths), np.float32)
    learned[data.records.offsets[:-1]] = 1.0
    data = replace(data, told={"learned": learned})
    counts, weights = LikelihoodObjective(0.3).items(data)
    assert (counts == 1).all()
    policy.reference = None
    total = 0.0
    batch = TextSource(data, policy.row_layout).batch(np.arange(len(data.texts)))
    loss = LikelihoodObjective(0.3)(policy(rows=batch["rows"], order=batch["order"], edges=batch["edges"]), batch)
    (loss / weights.sum()).backward()
    found = {name: p.grad.clone() for name, p in policy.language_model.named_parameters()}
    whole = transformers.AutoModelForCausalLM.from_pretrained(tiny_causal)
    for text in np.flatnonzero(learned):
        ids, start = torch.from_numpy(data.records.text(int(text)).copy()).long(), int(data.records.reply_starts[text])
        labels = ids.clone()
        labels[:start] = -100
        part = whole(input_ids=ids[None], labels=labels[None]).loss * (len(ids) - start)
        (part / weights.sum()).backward()
        total += float(part.detach())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_optimism_pushes_own_responses_down(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    policy.reference = FrozenReference.of(policy)
    shaken(policy, by=0.02)
    data = records_of(policy, planted(4))
    own = np.zeros(len(data.records.lengths), np.float32)
    own[1] = 1.0
    marked = replace(data, told={"own": own})
    plain = loss_and_gradients(policy, data, PairwiseObjective())
    none = loss_and_gradients(policy, marked, PairwiseObjective(terms=(Optimism(0.0),)))
    assert none[0] == plain[0] and all(torch.equal(none[1][name], plain[1][name]) for name in plain[1])
    likelihood = torch.tensor([-3.0, -5.0], requires_grad=True)
    batch: Any = {"own": torch.tensor([0.0, 1.0])}
    (gradient,) = torch.autograd.grad(
        Optimism(0.25)({"values": 0.1 * likelihood, "margins": likelihood[:0]}, batch), likelihood
    )
    torch.testing.assert_close(gradient, torch.tensor([0.0, 0.25 * 0.1]), rtol=0, atol=1e-12)  # + alpha beta


def test_without_encoding_twice(tiny_causal: Path) -> None:
    """The records that carry answers elsewhere keep the judgements of those that do not."""
    policy = policy_of(tiny_causal)
    data = planted(6)
    plain, more = (
        encode_records(data, policy.encoder),
        encode_records(with_answers_elsewhere(data, 0)[0], policy.encoder),
    )
    for name in ("row", "a", "b", "p"):
        np.testing.assert_array_equal(getattr(plain.pairs, name), getattr(more.pairs, name))
    assert (np.diff(more.offsets) == np.diff(plain.offsets) + 1).all()
