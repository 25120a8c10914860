"""The one scoring core: all forms, all kinds of models, the same numbers as the calls it unites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.scorers import RewardModel
from assay.scorers.core import ScoringCore
from assay.scorers.policy_loading import PolicyOptions, create_policy
from assay.scorers.references import FrozenReference
from assay.scorers.scored import Conversation, Measured, NoNumber
from tests.scorers.conftest import PROMPTS, REPLIES, same

CHATS = [Conversation(prompt, reply) for prompt, reply in zip(PROMPTS, REPLIES, strict=True)]


@pytest.mark.parametrize("kind", ["causal", "chat", "encoder"])
def test_all_forms_give_the_score_of_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    model: RewardModel = request.getfixturevalue(kind)
    core, expected = ScoringCore(model), model.score(PROMPTS, REPLIES)
    texts = [model.encoder.render(prompt, reply) for prompt, reply in zip(PROMPTS, REPLIES, strict=True)]
    ids = [one.ids for one in model.encoder.encode(PROMPTS, REPLIES)]
    mixed = [*CHATS, *(Conversation(text=text) for text in texts), *(Conversation(ids=own) for own in ids)]
    found = core.score(mixed)
    same([score.value for score in found], np.tile(expected, 3))
    same([score.value for score in found[6:12]], model.score_text(texts))
    assert [score.length for score in found[:6]] == [len(own) for own in ids]
    assert not any(score.truncated or score.std for score in found)
    assert {score.fingerprint for score in found} == {core.fingerprint} and len(core.fingerprint) == 16


def test_a_batch_is_cut_and_joined_without_changing_a_score(causal: RewardModel) -> None:
    core = ScoringCore(causal)
    items = core.encode(CHATS)
    parts = [core.measure(items[:2]), core.measure(items[2:5]), core.measure(items[5:])]
    whole = core.finish(items, core.measure(items))
    assert [score.value for score in core.finish(items, Measured.joined(parts))] == pytest.approx(
        [score.value for score in whole], abs=1e-5
    )


def test_truncation_is_told_and_a_limit_of_text_is_kept(causal: RewardModel) -> None:
    core = ScoringCore(causal)
    long = " ".join(["certainly"] * 80)
    score, other = core.score([Conversation("Name a sea.", long), Conversation(long, "No.")])
    assert score.truncated and score.cut_response > 0 and other.cut_prompt > 0 and other.cut_response == 0
    text = causal.encoder.render("Name a sea.", "The Baltic.")
    (whole,), (cut,) = core.score([Conversation(text=text)]), core.score([Conversation(text=text, limit=8)])
    assert cut.length == 8 and cut.truncated and not whole.truncated
    with pytest.raises(ModelError, match="too small"):
        core.score([Conversation(text=text, limit=3)])


def test_tokens_prototypes_and_what_was_read(causal: RewardModel, encoder: RewardModel) -> None:
    core = ScoringCore(causal)
    (score,) = core.score([CHATS[1]], tokens=True, read=True)
    assert score.tokens is not None and score.prefix_scores is not None
    np.testing.assert_allclose(score.prefix_scores, causal.prefix_scores(PROMPTS[1], REPLIES[1]), atol=1e-6)
    assert len(score.prefix_scores) == len(score.tokens) + 1
    assert "".join(score.tokens).strip().startswith("It flies")
    assert score.read is not None and PROMPTS[1] in score.read
    both = ScoringCore(encoder)
    with pytest.raises(ModelError, match="token") as error:
        both.score([CHATS[1]], tokens=True)
    assert "truncated" in str(error.value)
    (score,) = both.score([CHATS[1]], tokens=True, truncated=True)
    assert score.prefix_scores is not None
    np.testing.assert_allclose(score.prefix_scores, encoder.truncated_scores(PROMPTS[1], REPLIES[1]), atol=1e-5)
    with pytest.raises(ModelError, match="no prototypes"):
        core.score([CHATS[0]], prototypes=2)
    for wanted in ({"tokens": True}, {"prototypes": 1}):
        with pytest.raises(ModelError, match="prompt and a response apart"):
            core.score([Conversation(text="Name a sea. The Baltic.")], **wanted)


def test_how_sure_a_model_is(tiny_causal: Path, make: Callable[..., RewardModel]) -> None:
    model = make(tiny_causal, members=4, head="mlp")
    core = ScoringCore(model)
    found = core.score(CHATS)
    values, deviations = model.uncertainty(PROMPTS, REPLIES)
    same([score.value for score in found], values)
    np.testing.assert_allclose(np.array([score.std for score in found], float), deviations, atol=1e-6)
    margins, spread = model.margin_uncertainty(["Name a sea."], ["The Baltic."], ["No."])
    a, b = core.score([Conversation("Name a sea.", "The Baltic."), Conversation("Name a sea.", "No.")])
    told = core.prefer(a, b)
    assert told.margin == pytest.approx(float(margins[0]), abs=1e-6) and told.std == pytest.approx(float(spread[0]))
    assert core.prefer(b, a).margin == -told.margin


def test_probability_is_calibrated(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    core = ScoringCore(causal)
    a, b = core.score([CHATS[0], CHATS[2]])
    assert not core.calibrated
    assert core.prefer(a, b).probability == pytest.approx(1 / (1 + np.exp(-(a.value - b.value))), abs=1e-9)
    before = core.fingerprint
    monkeypatch.setattr(causal.record, "calibration", {"kind": "temperature", "temperature": 4.0})
    assert core.prefer(a, b).probability == pytest.approx(1 / (1 + np.exp(-(a.value - b.value) / 4)), abs=1e-9)
    assert ScoringCore(causal).fingerprint != before, "a probability means something else now"


def test_preferences_that_go_in_circles(tiny_causal: Path, make: Callable[..., RewardModel]) -> None:
    from assay.feedback.records import comparison, edge, from_rows
    from assay.scorers.encoding import encode_records, score_records

    model = make(tiny_causal, head="preference")
    core = ScoringCore(model)
    data = from_rows([comparison("Name a sea.", ["The Baltic.", "No."], [edge(0, 1)])])
    records = encode_records(data, model.encoder, prompts=model.reads_prompts)
    expected = records.margins(score_records(model, records))[0]
    a, b = core.score([Conversation("Name a sea.", "The Baltic."), Conversation("Name a sea.", "No.")])
    assert core.prefer(a, b).margin == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(ModelError, match="where the prompt ends"):
        core.score([Conversation(text="Name a sea. No.")])


def test_a_policy_scores_by_its_log_ratio(tiny_chat: Path) -> None:
    policy, other = (create_policy(PolicyOptions(str(tiny_chat))).eval() for _ in range(2))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.01)
    policy.reference = FrozenReference(other)
    core = ScoringCore(policy)
    found = core.score(CHATS[:3])
    same([score.value for score in found], policy.score(PROMPTS[:3], REPLIES[:3]))
    assert found[0].value != 0
    for one in (Conversation(text="a"), Conversation(ids=[1, 5])):
        with pytest.raises(ModelError, match="where the prompt ends"):
            core.score([one])
    for wanted in ({"tokens": True}, {"tokens": True, "truncated": True}, {"prototypes": 1}):
        with pytest.raises(ModelError):
            core.score(CHATS[:1], **wanted)


@pytest.mark.parametrize(
    "given",
    [
        Conversation(),
        Conversation(prompt="a"),
        Conversation(response="a"),
        Conversation(prompt="a", response="b", text="c"),
        Conversation(text="a", ids=[1]),
        Conversation(prompt="a", response="b", limit=8),
    ],
)
def test_a_conversation_comes_in_one_form(causal: RewardModel, given: Conversation) -> None:
    with pytest.raises(ModelError, match="one form") as error:
        ScoringCore(causal).score([CHATS[0], given])
    assert "conversation 2 of 2" in str(error.value)


@pytest.mark.parametrize("ids", [[], [10**6], [-1]])
def test_token_ids_are_looked_at(causal: RewardModel, ids: list[int]) -> None:
    with pytest.raises(ModelError, match="no token ids"):
        ScoringCore(causal).score([Conversation(ids=ids)])


def test_what_is_no_number_is_an_error(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    core = ScoringCore(causal)
    items = core.encode(CHATS[:2])
    broken: Any = np.array([1.0, np.nan], np.float32)
    with pytest.raises(NoNumber, match="conversation 2 of 2"):
        core.finish(items, Measured(broken, broken))
    assert core.score([]) == []
