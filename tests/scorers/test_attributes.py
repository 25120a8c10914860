"""A head for several attributes, weighed by the prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.feedback.records import comparison, edge, from_rows
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.attributes import AttributeHead
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.export import why_not
from assay.scorers.features import FeatureCache

PROMPTS = ["Name a sea.", "Name a sea.", "Write a poem about the sea, please."]
REPLIES = ["certainly a fine clear answer", "no idea", "no bad idea"]


def drawn(head: AttributeHead) -> AttributeHead:
    random = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=random)
    return head


@pytest.fixture(params=["tiny_causal", "tiny_encoder"])
def model(request: pytest.FixtureRequest) -> RewardModel:
    backbone = request.getfixturevalue(request.param)
    made = create_reward_model(
        ModelOptions(backbone=str(backbone), head="attributes", head_options={"dimensions": ("style", "truth")})
    )
    drawn(made.head)  # type: ignore[arg-type]
    return made


def test_the_score_is_the_weighed_sum() -> None:
    head = drawn(AttributeHead(5, 3, members=2))
    states, prompts = torch.randn(4, 5), torch.randn(4, 5)
    scores, weights = head(states, prompts), head.weights(prompts)
    assert scores.shape == (4, 2) and weights.shape == (4, 2, 3)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4, 2))
    for member in range(2):
        w, g = head.weight[member], head.gate[member]
        found = states @ w.T + head.offset[member]
        counts = torch.softmax(prompts @ g.T + head.gate_offset[member], dim=-1)
        torch.testing.assert_close(scores[:, member], (found * counts).sum(dim=-1))
    assert AttributeHead(5, 3)(states, prompts).abs().max() == 0


def test_all_responses_to_a_prompt_are_weighed_alike(model: RewardModel) -> None:
    found, counts = model.attributes(PROMPTS, REPLIES)
    assert found.shape == counts.shape == (3, 2)
    np.testing.assert_allclose(counts[0], counts[1], atol=1e-6)
    assert np.abs(counts[0] - counts[2]).max() > 1e-4 and np.abs(found[0] - found[1]).max() > 1e-4
    np.testing.assert_allclose(model.score(PROMPTS, REPLIES), (found * counts).sum(axis=1), atol=1e-5)


def test_scores_are_the_same_wherever_they_are_computed(model: RewardModel, tmp_path: Path) -> None:
    data = from_rows(
        [comparison(PROMPTS[0], REPLIES[:2], [edge(0, 1)]), comparison(PROMPTS[2], [REPLIES[2], "x"], [edge(0, 1)])]
    )
    expected = model.score([PROMPTS[0], PROMPTS[0], PROMPTS[2], PROMPTS[2]], [*REPLIES, "x"])
    records = encode_records(data, model.encoder, prompts=True)
    assert len(records.lengths) == 6 and records.responses.tolist() == [True, True, False] * 2
    values = score_records(model, records)
    np.testing.assert_allclose(values[records.responses], expected, atol=1e-5)
    features = FeatureCache(model, folder=tmp_path).features_of(records)
    np.testing.assert_allclose(model.score_features(features, records.prompt_of), values, atol=1e-5)
    np.testing.assert_allclose(
        records.margins(values), [expected[0] - expected[1], expected[2] - expected[3]], atol=1e-5
    )
    model.save_pretrained(tmp_path / "model")
    again = RewardModel.from_pretrained(tmp_path / "model")
    assert again.config.head_options["dimensions"] == ["style", "truth"]
    np.testing.assert_allclose(again.score(PROMPTS, REPLIES), model.score(PROMPTS, REPLIES), atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_too_long_for_the_gate_is_cut_on_its_side_and_counted(
    tiny_encoder: Path, side: Literal["left", "right"]
) -> None:
    options = ModelOptions(
        backbone=str(tiny_encoder), head="attributes", head_options={"dimensions": ("truth",)}, max_length_tokens=64
    )
    whole = create_reward_model(options)
    model = create_reward_model(replace(options, max_length_tokens=12, truncation=side))
    long = "Name a sea. " * 4 + "What is the tool for?"
    (cut,), (kept,) = model.encoder.encode_prompts([long]), whole.encoder.encode_prompts([long])
    assert len(cut.ids) == 12 and cut.cut_prompt == len(kept.ids) - 12 and cut.cut_reply == 0
    ids = kept.ids
    assert cut.ids == ([ids[0], *ids[-11:]] if side == "left" else [*ids[:11], ids[-1]])
    short = from_rows([comparison(long, ["x", "y"], [edge(0, 1)])])
    assert encode_records(short, model.encoder, prompts=True).cut_prompt == 3


def test_what_does_not_say_where_the_prompt_ends_is_refused(model: RewardModel, tiny_causal: Path) -> None:
    with pytest.raises(ModelError, match="score conversations"):
        model.score_text(["user: Name a sea. assistant: The Baltic."])
    with pytest.raises(ModelError, match="no scores of prefixes"):
        model.prefix_scores(PROMPTS[0], REPLIES[0])
    assert why_not(model) is not None
    plain = create_reward_model(ModelOptions(backbone=str(tiny_causal)))
    with pytest.raises(ModelError, match="no attributes"):
        plain.attributes(PROMPTS, REPLIES)
