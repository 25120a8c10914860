"""Pooling and heads: padded positions never count, members are independent, the first loss is log 2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.objectives import pairwise_loss
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.head_kinds import make_head
from assay.scorers.heads import LinearHead, MLPHead
from assay.scorers.layout import plain_batch
from assay.scorers.pooling import COUNT_SCALE, Pooling, behind_separator, pool, pooled_width
from tests.scorers.conftest import PROMPTS, REPLIES

HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 60.0]], [[5.0, 5.0], [70.0, 80.0], [90.0, 99.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("last", [[3.0, 6.0], [5.0, 5.0]]),
        ("mean", [[2.0, 4.0, COUNT_SCALE * math.log(2 / 64)], [5.0, 5.0, COUNT_SCALE * math.log(1 / 64)]]),
        ("cls", [[1.0, 2.0], [5.0, 5.0]]),
    ],
)
def test_pooling_reads_real_tokens_only(how: Pooling, expected: list[list[float]]) -> None:
    torch.testing.assert_close(pool(HIDDEN, MASK, how), torch.tensor(expected))
    assert pool(HIDDEN, MASK, how).shape[1] == pooled_width(2, how)
    for given, made in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert pool(HIDDEN.to(given), MASK, how).dtype == made


@pytest.mark.parametrize(
    ("ids", "length", "expected"),
    [
        ([1, 5, 9, 6, 7, 9], 6, [0, 0, 0, 1, 1, 1]),  # the last separator ends the text
        ([1, 9, 5, 9, 6, 7], 6, [0, 0, 0, 0, 1, 1]),  # no end token; an earlier one belongs to the prompt
        ([1, 5, 9, 9, 0, 0], 4, [0, 0, 0, 1, 0, 0]),  # an empty reply keeps its end token
        ([1, 5, 6, 9, 0, 0], 4, [1, 1, 1, 1, 0, 0]),  # nothing stands between prompt and reply
        ([1, 9, 6, 9, 9, 9], 3, [0, 0, 1, 0, 0, 0]),  # padding that is the separator
        ([9, 0, 0, 0, 0, 0], 1, [1, 0, 0, 0, 0, 0]),
    ],
)
def test_reply_is_what_stands_behind_the_separator(ids: list[int], length: int, expected: list[int]) -> None:
    mask = (torch.arange(6) < length).long().unsqueeze(0)
    assert behind_separator(torch.tensor([ids]), mask, separator_id=9).tolist() == [expected]


def test_an_encoder_reads_the_reply_in_the_light_of_its_prompt(encoder: RewardModel) -> None:
    assert encoder.config.pooling == "reply"
    encoded = encoder.encoder.encode(PROMPTS[:3], REPLIES[:3])
    found = encoder.features([e.ids for e in encoded])
    with torch.inference_mode():
        for e, row in zip(encoded, found, strict=True):
            ids = torch.tensor([e.ids])
            states = encoder.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            reply = states[e.prompt_tokens :]
            np.testing.assert_allclose(row, [*reply.mean(0), COUNT_SCALE * math.log(len(reply) / 64)], atol=1e-6)
    a, b = encoder.score(["Name a sea.", "What is a bird?"], ["The Baltic."] * 2)
    assert abs(a - b) > 1e-4


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_reply_is_a_short_one(empty: str, encoder: RewardModel) -> None:
    (encoded,) = encoder.encoder.encode(["Tell me about one river, please."], [empty])
    ids = torch.tensor([encoded.ids])
    separator = encoder.config.separator_id
    assert separator is not None
    assert behind_separator(ids, torch.ones_like(ids), separator).sum() == len(encoded.ids) - encoded.prompt_tokens == 1
    np.testing.assert_allclose(encoder.features([encoded.ids])[0, -1], COUNT_SCALE * math.log(1 / 64))


def test_reply_pooling_where_nothing_marks_the_reply(tiny_encoder: Path, tiny_causal: Path) -> None:
    plain = create_reward_model(ModelOptions(backbone=str(tiny_encoder), template="plain"))
    assert (plain.config.pooling, plain.config.separator_id) == ("mean", None)
    native = create_reward_model(ModelOptions(backbone=str(tiny_encoder), layout="native"))
    assert (native.config.width, native.config.separator_id) == (plain.config.width - 1, None)
    for backbone, template in ((tiny_encoder, "plain"), (tiny_causal, "pair")):
        with pytest.raises(ModelError, match=r"where the reply begins(.|\n)*--pooling mean"):
            create_reward_model(ModelOptions(backbone=str(backbone), template=template, pooling="reply"))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("members", [1, 3])
def test_head_starts_at_zero(kind: Any, members: int) -> None:
    scores = make_head(kind, 4, members=members)(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert scores.shape == (5, members) and not scores.any()


def test_members_are_separate_heads() -> None:
    head = LinearHead(3, members=2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 0.5]]))
    assert head(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[7.0, -0.5]]


def test_mlp_head_by_hand() -> None:
    head = MLPHead(2, members=1, hidden=2).eval()
    with torch.no_grad():
        head.inner.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
        head.outer.copy_(torch.tensor([[2.0, -1.0]]))
    gelu = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in (0.5, -1.0)]
    assert head(torch.tensor([[0.5, -1.0]])).item() == pytest.approx(2 * gelu[0] - gelu[1], abs=1e-6)


def test_head_seed_decides_the_hidden_layer() -> None:
    assert torch.equal(MLPHead(4, seed=3).inner, MLPHead(4, seed=3).inner)
    assert not torch.equal(MLPHead(4, seed=3).inner, MLPHead(4, seed=4).inner)


@pytest.mark.parametrize(
    "options", [{}, {"head": "mlp"}, {"members": 3}, {"layout": "native"}, {"head": "mlp", "members": 2}]
)
def test_first_loss_is_log_two(options: dict[str, Any], tiny_causal: Path) -> None:
    model = create_reward_model(ModelOptions(backbone=str(tiny_causal), **options)).train()
    ids = torch.arange(10, 30).reshape(4, 5)
    margins = model(input_ids=ids, edges=torch.tensor([[0, 1], [3, 2]]))["margins"]
    assert margins.shape == ((2, options["members"]) if options.get("members", 1) > 1 else (2,))
    assert pairwise_loss(margins, 0.7, 0.0).item() == pytest.approx(math.log(2), abs=1e-7)


def test_margins_are_skew_and_follow_the_edges(causal: Any) -> None:
    ids = torch.arange(10, 30).reshape(4, 5)
    with torch.no_grad():
        states = causal.nodes(plain_batch(ids))
        values = causal.values(states)
        edges = torch.tensor([[0, 1], [1, 0], [3, 2]])
        margins = causal.edge_margins(states, edges)
    assert torch.equal(margins[0], -margins[1])
    assert torch.equal(margins[2], values[3] - values[2])


def test_one_member_is_kept(tiny_causal: Path, make: Any) -> None:
    for head in ("linear", "mlp"):
        model = make(tiny_causal, members=3, head=head)
        ids = [e.ids for e in model.encoder.encode(["Q", "Q"], ["A", "B"])]
        all_members = model.score_encoded(ids)
        with pytest.raises(IndexError):
            model.select_members(slice(3, 4))
        model.select_members(slice(1, 2))
        assert model.score_encoded(ids) == pytest.approx(all_members[:, 1], abs=1e-6)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_first_weights_are_drawn_where_wanted(kind: str) -> None:
    drawn = make_head(kind, 400, members=3, seed=5, options={"init_std": 0.1})
    again = make_head(kind, 400, members=3, seed=5, options={"init_std": 0.1})
    other = make_head(kind, 400, members=3, seed=6, options={"init_std": 0.1})
    last, same, else_ = (head.last_weights().detach() for head in (drawn, again, other))
    assert torch.equal(last, same) and not torch.equal(last, else_) and not torch.equal(last[0], last[1])
    assert last.std().item() == pytest.approx(0.1, rel=0.15)
    assert not make_head(kind, 400, members=3, seed=5).last_weights().any()
    if kind == "mlp":  # what else is drawn stays as it was
        assert torch.equal(drawn.inner, make_head(kind, 400, members=3, seed=5).inner)  # type: ignore[arg-type]


def test_balanced_labels_are_a_saddle_of_a_head_of_zeros() -> None:
    # what is right depends on the prompt alone, and each label is right as often: states of [prompt, label] in {-1, 1}
    corner = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])  # right, wrong, right, wrong
    for init_std, moves in ((0.0, False), (0.1, True)):
        inner = torch.eye(2).requires_grad_()
        head = LinearHead(2, init_std=init_std, seed=1)
        states = torch.tanh(corner @ inner.T + 0.3)
        scores = head(states)[:, 0]
        pairwise_loss(scores[0::2] - scores[1::2]).backward()
        assert inner.grad is not None and bool(inner.grad.abs().max() > 1e-4) is moves
        if not moves:
            assert head.weight.grad is not None and head.weight.grad.abs().max() < 1e-6
