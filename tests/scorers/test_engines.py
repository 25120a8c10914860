"""Engines that write: the greedy tokens of ``generate``, draws of the same distribution, weights as they are now."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ConfigError, ModelError
from assay.scorers import Policy, PolicyOptions, create_policy
from assay.scorers.adapters import LoraOptions
from assay.scorers.engines import Vllm, continuous, plain_weights
from assay.scorers.sampling import Sampling, by_generate, replies

PROMPTS = ["Name a sea.", "What is 2 + 2?", "Name a very long river of the north."]
BEGUN = [[5, 6, 7], [9, 4], [3, 8, 2, 11, 6]]


@pytest.fixture(scope="module")
def policy(tiny_causal: Path) -> Policy:
    return create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64))


def test_continuous_batching_writes_what_generate_writes(policy: Policy) -> None:
    how = Sampling(max_new_tokens=6, temperature=0)
    ids = torch.tensor([BEGUN[0]])
    before = policy.language_model(input_ids=ids).logits
    first, other = (replies(policy, PROMPTS, how, 0, writer) for writer in (by_generate, continuous))
    for (one,), (same,) in zip(first, other, strict=True):
        np.testing.assert_array_equal(one.ids, same.ids)
        assert (one.text, one.start, one.ended) == (same.text, same.start, same.ended)
    # and the model is left as it was
    torch.testing.assert_close(policy.language_model(input_ids=ids).logits, before)


def test_continuous_batching_ends_where_a_response_ends(policy: Policy) -> None:
    how = Sampling(max_new_tokens=8, temperature=0)
    whole = {row: new for row, new, _ in by_generate(policy.language_model, BEGUN, set(), 0, how, 0)}
    end = whole[0][2]
    found = {row: (new, ended) for row, new, ended in continuous(policy.language_model, BEGUN, {end}, 0, how, 0)}
    for row, new in whole.items():
        stop = new.index(end) + 1 if end in new else len(new)
        assert found[row] == (new[:stop], end in new)


@pytest.mark.slow
def test_continuous_batching_draws_from_the_distribution(policy: Policy) -> None:
    how = Sampling(responses=400, max_new_tokens=1)
    drawn = [
        [(row, new[0]) for row, new, _ in continuous(policy.language_model, BEGUN[:2], set(), 0, how, seed)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [row for row, _ in drawn[0]] == [0] * 400 + [1] * 400
    for row in (0, 1):
        with torch.no_grad():
            shares = policy.language_model(input_ids=torch.tensor(BEGUN[row : row + 1])).logits[0, -1].softmax(-1)
        counts = np.bincount([token for own, token in drawn[0] if own == row], minlength=len(shares)) / 400
        assert np.abs(counts - shares.numpy()).max() < 4 * np.sqrt(float(shares.max()) / 400)


def test_continuous_batching_that_loses_a_response_is_told() -> None:
    model = SimpleNamespace(device=torch.device("cpu"), generate_batch=lambda *_, **__: {})
    model.config, model.set_attn_implementation = SimpleNamespace(_attn_implementation="sdpa"), lambda _: None
    with pytest.raises(ModelError, match="did not write all responses"):
        list(continuous(model, BEGUN, {0}, 0, Sampling(), 0))


class FakeVllm:
    """Takes what vLLM takes, and answers in its shape."""

    def __init__(self, **given: Any) -> None:
        self.given, self.forgotten = given, 0
        self.loaded: dict[str, torch.Tensor] = {}
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        worker = SimpleNamespace(model_runner=runner)
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker))

    def _load(self, weights: Any) -> None:
        self.loaded = {name: own.clone() for name, own in weights}

    def reset_prefix_cache(self) -> None:
        self.forgotten += 1

    def generate(self, asked: Any, how: Any, use_tqdm: bool) -> Any:
        assert not use_tqdm and [each["prompt_token_ids"] for each in asked] == BEGUN
        self.how = how
        said = [((1, 2, 30), "stop", 30), ((4, 30), "stop", None), ((5, 6), "length", None), ((7,), "stop", 30)]
        kinds = [SimpleNamespace(token_ids=t, finish_reason=f, stop_reason=s) for t, f, s in said]
        return [SimpleNamespace(outputs=[kinds[row], kinds[3]]) for row in range(len(asked))]


def test_vllm_gets_tokens_and_weights(policy: Policy) -> None:
    made = Vllm("folder", memory=0.4, longest=99, engine=FakeVllm, options=SimpleNamespace)
    assert made.engine.given["model"] == "folder" and made.engine.given["max_model_len"] == 99
    how = Sampling(responses=2, max_new_tokens=5, temperature=0.7)
    found = list(made(policy.language_model, BEGUN, {30, 31}, 0, how, 7))
    assert found == [
        (0, [1, 2, 30], True),
        (0, [7, 30], True),
        (1, [4, 30], True),
        (1, [7, 30], True),
        (2, [5, 6], False),
        (2, [7, 30], True),
    ]
    one = made.engine.how[1]
    assert (one.n, one.temperature, one.top_k, one.max_tokens, one.seed) == (2, 0.7, -1, 5, 8)
    assert one.stop_token_ids == [30, 31] and one.detokenize is False
    assert made.engine.forgotten == 1
    kept = dict(policy.language_model.named_parameters())
    assert made.engine.loaded.keys() == kept.keys()
    for name, own in made.engine.loaded.items():
        torch.testing.assert_close(own, kept[name])


def test_an_adapter_is_handed_over_merged(tiny_causal: Path) -> None:
    plain = create_policy(PolicyOptions(str(tiny_causal)))
    adapted = create_policy(PolicyOptions(str(tiny_causal), lora=LoraOptions(rank=2)))
    for name, own in adapted.language_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(own)
    ids = torch.tensor(BEGUN[:1])
    wanted = adapted.language_model(input_ids=ids).logits
    with plain_weights(adapted.language_model) as weights:
        given = {name: own.clone() for name, own in weights}
    missing, unknown = plain.language_model.load_state_dict(given, strict=False)
    assert not unknown and all("lm_head" in name for name in missing)
    torch.testing.assert_close(plain.language_model(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapted.language_model(input_ids=ids).logits, wanted, rtol=1e-5, atol=1e-6)


def test_vllm_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "vllm":
            raise ImportError("No module named 'vllm'")
        return found(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        Vllm("folder")
