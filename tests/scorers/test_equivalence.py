"""The gate of every claim of speed: whatever the layout, scores, losses, gradients and training are the same.

The reference calls the backbone with one text at a time, and shares no code with the layouts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

from assay.objectives import pairwise_loss
from assay.scorers import RewardModel, calling
from assay.scorers import layout as layouts
from assay.scorers.attention import prefer_trees
from assay.scorers.calling import states_of_blocks
from assay.scorers.heads import LinearHead
from assay.scorers.layout import Layout, plain_batch
from assay.scorers.masks import masks_for, visible, visible_blocks
from assay.scorers.traits import reads_vectors, shares_prefixes
from tests.scorers.conftest import PROMPTS, REPLIES

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "resid_pdrop": 0, "embd_pdrop": 0}
    | {"attn_pdrop": 0},
    "gemma3_text": GROUPED | {"sliding_window": 4},  # sliding and full layers
    "gemma2": GROUPED | {"sliding_window": 4},  # eager attention
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4},  # sliding layers only
}


def make(kind: str, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **SHAPE | options))


CAUSAL = sorted(FAMILIES)
FAMILIES["bert"] = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
LAYOUTS = {
    "bucketed": Layout(overhead_tokens=64),
    "bucketed at once": Layout(at_once=True),
    "shared": Layout(shares=True, overhead_tokens=64),
    "shared at once": Layout(shares=True, at_once=True),
    "packed": Layout(packed=True),
    "packed and shared": Layout(shares=True, packed=True),
}
BUDGET = 150
CELLS = [(kind, layout) for kind in CAUSAL for layout in LAYOUTS] + [
    ("bert", "bucketed"),
    ("bert", "bucketed at once"),
]


@pytest.fixture(autouse=True)
def short_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attend to trunks causally though they are short."""
    monkeypatch.setattr(layouts, "_LEAST_TRUNK", 3)


class Small(nn.Module):
    """A backbone and a head, without what surrounds them."""

    def __init__(self, kind: str, *, lora: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        backbone = make(kind, **FAMILIES[kind])
        prefer_trees(backbone)
        if checkpointing:
            getattr(backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable)()
        if lora:
            with torch.random.fork_rng():
                torch.manual_seed(1)
                options = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
                backbone = peft.get_peft_model(backbone, options)
        self.backbone: Any = backbone
        causal = kind != "bert"
        self.config = SimpleNamespace(
            layout="assay", causal=causal, pooling="last" if causal else "mean", segments=False, separator_id=None
        )
        self.head = LinearHead(32 if causal else 33)
        nn.init.normal_(self.head.weight, std=0.3, generator=torch.Generator().manual_seed(1))

    def score(self, texts: list[np.ndarray], layout: Layout) -> Tensor:
        blocks, order = layout.lay(texts, layout.trees(texts, BUDGET), BUDGET, pad_id=0)
        states = states_of_blocks(self.backbone, blocks, self.config, together=True)
        return self.head(states[order].float())[:, 0]

    def reference(self, texts: list[np.ndarray]) -> Tensor:
        states = []
        for text in texts:
            hidden = self.backbone(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0].float()
            count = 12 * np.log(len(text) / 64)
            states.append(
                hidden[-1] if self.config.causal else torch.cat([hidden.mean(0), torch.tensor([count]).float()])
            )
        return self.head(torch.stack(states))[:, 0]


def ragged() -> tuple[list[np.ndarray], Tensor]:
    """Six prompts with two to five replies: empty prompts and replies, replies that begin alike, long and short."""
    draw = np.random.default_rng(1)
    texts: list[np.ndarray] = []
    edges = []
    for number, length in enumerate([0, 3, 20, 9, 1, 40]):
        first, count = len(texts), 2 + number % 4
        begun = draw.integers(3, 200, 1 + length + (2 if number % 2 else 0))
        replies = [draw.integers(3, 200, draw.integers(1, 12) if j else 0) for j in range(count)]
        texts += [np.concatenate([begun, reply]) for reply in replies]
        edges += [(first + i, first + j) for i in range(count) for j in range(i)]
    return texts, torch.tensor(edges)


def outcome(model: Small, values: Tensor, edges: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return scores, loss and the gradient of every parameter."""
    loss = pairwise_loss(values[edges[:, 0]] - values[edges[:, 1]])
    model.zero_grad()
    loss.backward()
    return values.detach(), loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]


def same_gradients(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Demand the same of every parameter, so that a small one cannot hide behind large ones."""
    whole = float(torch.stack([g.norm() for g in expected]).norm())
    assert len(found) == len(expected) > 10
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= tolerance * max(float(b.norm()), 1e-2 * whole)


@cache
def small(kind: str, lora: bool, checkpointing: bool) -> Small:
    """Return a model that tests share: none of them may change its weights."""
    return Small(kind, lora=lora, checkpointing=checkpointing).train()


@cache
def expected_outcome(kind: str, lora: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the reference, without recomputed activations."""
    model = small(kind, lora, False)
    texts, edges = ragged()
    return outcome(model, model.reference(texts), edges)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(("kind", "layout"), CELLS)
def test_every_layout_equals_one_text_at_a_time(kind: str, layout: str, lora: bool, checkpointing: bool) -> None:
    model = small(kind, lora, checkpointing)
    texts, edges = ragged()
    expected, found = expected_outcome(kind, lora), outcome(model, model.score(texts, LAYOUTS[layout]), edges)
    assert float(expected[0].std()) > 0.5
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-5)
    same_gradients(found[2], expected[2], 1e-4)


@pytest.mark.parametrize(("kind", "layout"), CELLS)
def test_in_bf16_they_differ_by_rounding(kind: str, layout: str) -> None:
    model = Small(kind).train()
    texts, edges = ragged()
    with torch.no_grad():
        model.head.weight.div_(model.reference(texts).std())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = model.reference(texts), model.score(texts, LAYOUTS[layout])
    expected, found = (outcome(model, each, edges) for each in values)
    assert float((found[0] - expected[0]).square().mean().sqrt()) < 2e-2
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (found[2], expected[2]))
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.99


@pytest.mark.parametrize(("lora", "frozen"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_blocks_add_to_the_gradients_as_each_is_done(kind: str, lora: bool, frozen: bool) -> None:
    """So nothing keeps the gradients of all blocks at once, which would be as large as the weights."""
    texts, edges = ragged()
    counts = []
    found = []
    for apart in (True, False):
        model = Small(kind, lora=lora).train()
        model.backbone.get_input_embeddings().requires_grad_(not (frozen or lora))
        added: list[int] = []
        weight = next(p for name, p in model.backbone.named_parameters() if p.requires_grad and "layer" in name)
        weight.register_post_accumulate_grad_hook(lambda _, added=added: added.append(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calling, "_distributed", lambda apart=apart: not apart)
            found.append(outcome(model, model.score(texts, LAYOUTS["bucketed"]), edges))
        counts.append(len(added))
    blocks = LAYOUTS["bucketed"].blocks(np.array([len(text) for text in texts]), BUDGET)
    assert counts == [len(blocks), 1] and len(blocks) > 3
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0)
    same_gradients(found[0][2], found[1][2], 1e-6)


@cache
def curve(kind: str, layout: str) -> list[float]:
    """Return the losses of 50 steps on the first prompts."""
    texts, edges = ragged()
    texts, edges = texts[:9], edges[(edges < 9).all(dim=1)]
    model = Small(kind).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(50):
        values = model.reference(texts) if layout == "reference" else model.score(texts, LAYOUTS[layout])
        losses.append(float(outcome(model, values, edges[step % 3 :: 3])[1]))
        optimizer.step()
    return losses


@pytest.mark.parametrize(("kind", "layout"), [("llama", name) for name in LAYOUTS] + [("bert", "bucketed")])
def test_fifty_steps_have_one_loss_curve(kind: str, layout: str) -> None:
    expected, found = curve(kind, "reference"), curve(kind, layout)
    assert expected[-1] < 0.5 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_trunks_were_attended_to_causally() -> None:
    texts, _ = ragged()
    laid = LAYOUTS["shared"]
    blocks, _ = laid.lay(texts, laid.trees(texts, BUDGET), BUDGET, 0)
    assert {rows.get("trunk", 0) > 0 for rows in blocks} == {True, False}


def test_layouts_compute_fewer_tokens() -> None:
    texts, _ = ragged()

    def tokens(layout: Layout) -> int:
        lengths = np.array([tree.length for tree in layout.trees(texts)])
        return layout.tokens(lengths, layout.blocks(lengths, 10**6))

    one_block, alone = len(texts) * max(map(len, texts)), sum(map(len, texts))
    assert tokens(LAYOUTS["packed"]) == tokens(Layout()) == alone < tokens(LAYOUTS["bucketed"]) < 0.7 * one_block
    # so the comparisons above meet padding in plain rows and in trees
    shared = tokens(Layout(shares=True))
    assert tokens(LAYOUTS["packed and shared"]) == shared < 0.6 * alone
    assert shared < tokens(LAYOUTS["shared"]) < tokens(LAYOUTS["shared at once"])


@pytest.mark.parametrize("kind", CAUSAL)
def test_what_can_share_is_found_out(kind: str) -> None:
    backbone = make(kind, **FAMILIES[kind])
    assert shares_prefixes(backbone) and reads_vectors(backbone)


CANNOT: dict[str, dict[str, Any]] = {
    "bert": {},
    "bloom": {"n_head": 4, "n_layer": 2},  # positions by distance in the row
    "mamba": {"state_size": 4},  # states run through the row
    # windows that show in long texts only: one of its own kind, and one that the backbone does not heed
    "llama": {"sliding_window": 20},
    "gpt_neo": {"attention_types": [[["global", "local", "local"], 1]], "window_size": 30},
}


@pytest.mark.parametrize("kind", CANNOT)
def test_what_cannot_share_is_found_out(kind: str) -> None:
    assert not shares_prefixes(make(kind, **CANNOT[kind]))


def test_a_pattern_of_layers_in_the_configuration_does_not_hinder() -> None:
    assert shares_prefixes(make("gemma3_text", **FAMILIES["gemma3_text"], sliding_window_pattern=6))


def test_another_implementation_of_attention_is_tried_anew(
    causal: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert causal.row_layout.shares
    config = causal.backbone.config
    monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_2")
    assert not causal.row_layout.shares
    with pytest.raises(ValueError, match="flash_attention_2"):
        masks_for(config, {})
    monkeypatch.undo()
    assert causal.row_layout.shares


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_the_model_itself_gives_states_as_if_alone(kind: str, request: pytest.FixtureRequest) -> None:
    """Through `RewardModel.nodes`, with the vectors of several blocks looked up together."""
    model: RewardModel = request.getfixturevalue(kind)
    texts = [np.array(e.ids) for e in model.encoder.encode(PROMPTS, REPLIES)]
    layout = replace(model.row_layout, overhead_tokens=4)
    blocks, order = layout.lay(texts, layout.trees(texts), 40, model.encoder.pad_id)
    assert len(blocks) > 1 and model.reads_vectors and layout.shares == (kind == "causal")
    found = model.nodes({"rows": blocks, "order": order})
    assert found.requires_grad
    with torch.inference_mode():
        alone = torch.cat([model.nodes(plain_batch(torch.from_numpy(text)[None])) for text in texts])
    torch.testing.assert_close(found.detach(), alone, rtol=0, atol=1e-5)


def test_a_backbone_that_needs_token_ids_is_found_out() -> None:
    backbone = make("llama")
    inner = backbone.forward
    backbone.forward = lambda input_ids: inner(input_ids=input_ids)
    assert not reads_vectors(backbone)
    # it takes vectors, and does something else with them
    backbone.forward = lambda input_ids=None, inputs_embeds=None: inner(
        input_ids=input_ids, inputs_embeds=None if inputs_embeds is None else 2 * inputs_embeds + 1
    )
    assert not reads_vectors(backbone)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("layout", ["shared", "packed", "packed and shared"])
def test_block_masks_are_the_dense_masks(layout: str, window: int | None) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    texts, _ = ragged()
    laid = LAYOUTS[layout]
    (rows, *_), _ = laid.lay(texts, laid.trees(texts), 10**6, 0)
    shape = (3, len(rows["branch"]), 2, rows["branch"].shape[1], 16)
    query, key, value = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = flex_attention(query, key, value, block_mask=visible_blocks(rows, window))
    expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible(rows, window))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
