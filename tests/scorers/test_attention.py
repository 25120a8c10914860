"""Attention in two parts: equal to one part under the whole mask, used where it may be and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from assay.errors import ModelError
from assay.scorers import ModelOptions, RewardModel, attention, create_reward_model
from assay.scorers.attention import TREES, attend, prefer_trees, trunk_of
from assay.scorers.backbones import choose_attention
from assay.scorers.calling import states_in_trees
from assay.scorers.layout import Layout
from assay.scorers.masks import visible
from tests.scorers.test_equivalence import FAMILIES, make


def rows_of(trunks: list[int], *, seed: int = 0) -> tuple[list[np.ndarray], Any]:
    """Return texts, two to each trunk, and one block with all of them."""
    draw = np.random.default_rng(seed)
    texts = []
    for trunk in trunks:
        begun = draw.integers(3, 200, trunk)
        texts += [np.concatenate([begun, [number], draw.integers(3, 200, 9 * number)]) for number in (1, 2)]
    layout = Layout(shares=True, at_once=True)
    (rows,), order = layout.lay(texts, layout.trees(texts), 10**6, 0)
    assert (order.sort().values == torch.arange(len(texts))).all()
    return texts, rows


@pytest.mark.parametrize("heads", [4, 2], ids=["own keys", "shared keys"])
@pytest.mark.parametrize("trunk", [1, 30, 70])
def test_two_parts_equal_one_under_the_mask(trunk: int, heads: int) -> None:
    _, rows = rows_of([80, 70, 91])
    mask, module = visible(rows), SimpleNamespace(num_key_value_groups=4 // heads, is_causal=True)
    draw = torch.Generator().manual_seed(0)
    length = mask.shape[-1]
    made: Any = [torch.randn(3, count, length, 8, generator=draw, requires_grad=True) for count in (4, heads, heads)]
    query, key, value = made
    whole, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask)
    parts, nothing = attend(module, query, key, value, mask, trunk=trunk)
    assert nothing is None
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    weight = torch.randn(whole.shape, generator=draw)
    for a, b in zip(torch.autograd.grad(parts, made, weight), torch.autograd.grad(whole, made, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("trunk", [0, 70])
def test_bfloat16_on_a_processor_is_attended_to_in_float32(trunk: int) -> None:
    _, rows = rows_of([80, 91])
    mask, module = visible(rows), SimpleNamespace(num_key_value_groups=1, is_causal=True)
    draw = torch.Generator().manual_seed(0)
    given: Any = [torch.randn(2, 2, mask.shape[-1], 8, generator=draw).bfloat16() for _ in range(3)]
    query, key, value = given
    exact, _ = attend(module, query.float(), key.float(), value.float(), mask, trunk=trunk)
    additive = torch.where(mask, 0.0, torch.finfo(torch.bfloat16).min).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for seen in (mask, additive):
            found, _ = attend(module, query, key, value, seen, trunk=trunk)
            assert found.dtype == torch.bfloat16
            assert torch.equal(found, exact.bfloat16())
        # positions may have made queries and keys float32
        found, _ = attend(module, query.float(), key.float(), value, mask, trunk=trunk)
        assert torch.equal(found, exact.bfloat16())


def test_one_column_too_many_would_be_wrong() -> None:
    _, rows = rows_of([70, 91])
    module, draw = SimpleNamespace(is_causal=True), torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, rows["branch"].shape[1], 8, generator=draw) for _ in range(3))
    whole, _ = attend(module, query, key, value, visible(rows))
    # behind its trunk of 70, the second branch of the first row must not see the first
    wrong, _ = attend(module, query, key, value, visible(rows), trunk=91)
    assert rows["trunk"] == 70 and float((wrong - whole).abs().max()) > 0.1


@pytest.mark.parametrize("trunks", [[64, 200], [63, 200]], ids=["long", "short"])
def test_the_shortest_trunk_of_a_block_decides(trunks: list[int]) -> None:
    assert rows_of(trunks)[1]["trunk"] == (64 if trunks[0] == 64 else 0)


def test_a_row_without_branches_is_under_its_mask() -> None:
    text = np.arange(100)
    layout = Layout(shares=True)
    (rows,), _ = layout.lay([text, text], layout.trees([text, text]), 10**6, 0)
    assert rows["trunk"] == 0


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "gemma3_text", "mistral"])
def test_layers_are_told_the_trunk_unless_they_have_a_window(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = set()

    def spy(*given: Any, trunk: int = 0, **options: Any) -> Any:
        told.add(trunk)
        inner: Any = attend
        return inner(*given, trunk=trunk, **options)

    backbone = make(kind, **FAMILIES[kind])
    prefer_trees(backbone)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, TREES, spy)
    texts, rows = rows_of([70])
    with torch.no_grad():
        found = states_in_trees(backbone, rows, {"input_ids": rows["input_ids"]})
        alone = [backbone(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0, -1] for text in texts]
    torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=1e-5)
    windowed = "sliding_window" in FAMILIES[kind]
    assert told == ({0} if windowed else {0, 70})  # texts alone have no trunk


def test_other_attention_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = make("llama", attn_implementation="eager")
    prefer_trees(eager)
    assert eager.config._attn_implementation == "eager"
    _, rows = rows_of([70])
    assert trunk_of(eager.config, rows) == {}
    strict = make("llama")
    inner = strict.forward
    monkeypatch.setattr(strict, "forward", lambda input_ids, attention_mask=None: inner(input_ids, attention_mask))
    prefer_trees(strict)
    assert strict.config._attn_implementation == "sdpa"


def test_loaded_models_use_it_and_stored_ones_do_not_name_it(causal: RewardModel, tmp_path: Path) -> None:
    assert causal.backbone.config._attn_implementation == TREES
    causal.save_pretrained(tmp_path)
    for file in tmp_path.rglob("*.json"):
        assert TREES not in json.dumps(json.loads(file.read_text(encoding="utf-8"))), file
    assert RewardModel.from_pretrained(tmp_path).backbone.config._attn_implementation == TREES


def test_the_name_is_known_to_transformers() -> None:
    assert ALL_ATTENTION_FUNCTIONS[TREES] is attention.attend


def test_attention_can_be_chosen(tiny_causal: Path, causal: RewardModel) -> None:
    eager = create_reward_model(ModelOptions(str(tiny_causal), attention="eager"))
    assert eager.attention == "eager" and eager.row_layout.shares
    chosen = create_reward_model(ModelOptions(str(tiny_causal)))
    assert chosen.attention == TREES
    ids = [np.arange(5, 5 + count) for count in (9, 3, 80)]
    np.testing.assert_allclose(eager.features(ids), chosen.features(ids), rtol=0, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it works")
def test_flex_attention_is_refused_without_a_gpu(tiny_causal: Path) -> None:
    with pytest.raises(ModelError, match="no backward pass on CPUs"):
        create_reward_model(ModelOptions(str(tiny_causal), attention="flex_attention"))


def test_attention_that_a_backbone_does_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot attend by no_such_thing"):
        choose_attention(make("llama"), "no_such_thing")
    with pytest.raises(ModelError, match="does not let it be chosen"):
        choose_attention(make("bloom", n_head=4, n_layer=2), "sdpa")
