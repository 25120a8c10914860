"""A policy as a scorer: its scores against whole logits, its references, and its folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM

from assay.errors import ModelError
from assay.objectives.policy import harmonic_reference, log_odds
from assay.scorers import LoraOptions, ModelOptions, create_reward_model
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.likelihood_cache import LikelihoodCache
from assay.scorers.policy import Policy
from assay.scorers.policy_loading import PolicyOptions, create_policy, load_policy
from assay.scorers.references import AdapterOff, FrozenReference, MixedReference, refuse_other_vocabulary
from assay.workflows.token_counts import tokens_only
from tests.training.support import planted

PROMPTS = ["Name a sea.", "Name a sea.", "What is 2 + 2?", "Name a sea."]
REPLIES = ["The Baltic, I think.", "No.", "It is four.", ""]


def policy_of(folder: Path, **options: Any) -> Policy:
    return create_policy(PolicyOptions(str(folder), **options))


def shaken(policy: Policy, seed: int = 1, by: float = 0.1) -> Policy:
    """Move all weights that train, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=draw))
    return policy


def said_alone(model: Any, policy: Policy, prompts: list[str], replies: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probability of each reply from all logits of each text alone, and its number of tokens."""
    found, counts = [], []
    for encoded in policy.encoder.encode(prompts, replies):
        ids = torch.tensor(encoded.ids)
        with torch.no_grad():
            each = model(input_ids=ids[None]).logits[0].float().log_softmax(-1)
        start = max(encoded.prompt_tokens, 1)
        chosen = each[start - 1 : -1].gather(1, ids[start:, None])[:, 0]
        found.append(float(chosen.sum()))
        counts.append(len(chosen))
    return np.array(found), np.array(counts)


def test_a_tokenizer_without_an_end_is_refused(tiny_causal: Path, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(tiny_causal, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="never learn to stop"):
        policy_of(folder)
    assert policy_of(folder, end_token="</s>").encoder.tail


def test_scores_are_those_of_whole_logits(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, beta=0.3)
    policy.reference = FrozenReference.of(policy)
    base = AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    shaken(policy)
    own, tokens = said_alone(policy.language_model.eval(), policy, PROMPTS, REPLIES)
    other, _ = said_alone(base, policy, PROMPTS, REPLIES)
    assert np.abs(own - other).max() > 1
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), 0.3 * (own - other), rtol=1e-4, atol=1e-4)
    policy.config.form = "mean"
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), 0.3 * (own - other) / tokens, rtol=1e-4, atol=1e-4)
    policy.config.form = "odds"
    odds = log_odds(torch.from_numpy(own / tokens)).numpy()
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), 0.3 * odds, rtol=1e-4, atol=1e-4)
    policy.config.form, policy.reference = "sum", None
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), 0.3 * own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"lora": LoraOptions(rank=2)}], ids=["whole", "lora"])
def test_at_its_reference_every_score_is_zero(tiny_causal: Path, options: dict[str, Any]) -> None:
    policy = policy_of(tiny_causal, **options)
    policy.reference = AdapterOff(policy) if options else FrozenReference.of(policy)
    assert np.abs(policy.score(PROMPTS, REPLIES)).max() == 0


def test_a_policy_without_its_adapter_is_its_base(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, lora=LoraOptions(rank=2), beta=1.0)
    copied = FrozenReference.of(policy)
    shaken(policy)
    policy.reference = AdapterOff(policy)
    found = policy.score(PROMPTS, REPLIES)
    assert np.abs(found).max() > 0.1
    policy.reference = copied
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), found, rtol=1e-4, atol=1e-4)
    # the copy of a policy with an adapter is a plain model, and stays as it was
    later = FrozenReference.of(policy)
    shaken(policy, seed=2)
    policy.reference = later
    assert not later.model.config.adapter and np.abs(policy.score(PROMPTS, REPLIES)).max() > 0.1


def test_a_mixture_of_references(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, beta=1.0)
    parts = [FrozenReference(shaken(policy_of(tiny_causal), seed)) for seed in (1, 2)]
    policy.reference = MixedReference(parts, [1, 3])
    found = policy.score(PROMPTS, REPLIES)
    said = np.stack(
        [said_alone(m.language_model.eval(), policy, PROMPTS, REPLIES)[0] for m in (p.model for p in parts)]
    )
    own, _ = said_alone(policy.language_model.eval(), policy, PROMPTS, REPLIES)
    mixed = harmonic_reference(torch.from_numpy(said), torch.tensor([0.25, 0.75])).numpy()
    np.testing.assert_allclose(found, own - mixed, rtol=1e-4, atol=1e-4)
    policy.reference = MixedReference([parts[0], parts[0]], [0.5, 0.5])
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), own - said[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="each reference needs a weight"):
        MixedReference(parts, [1.0])


def test_records_are_scored_alike_live_and_with_what_was_computed_before(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    policy.reference = FrozenReference.of(policy)
    shaken(policy)
    data = planted(12)
    records = encode_records(data, policy.encoder)
    live = score_records(policy, records, texts_at_once=7)
    one_by_one = [policy.score([row["prompt"]], [reply])[0] for row in data for reply in row["responses"]]
    np.testing.assert_allclose(live, one_by_one, rtol=1e-4, atol=1e-4)
    known = policy.reference.model.features(
        [records.text(i) for i in range(len(records.lengths))], records.reply_starts
    )[:, 0]
    policy.reference = None
    np.testing.assert_allclose(score_records(policy, records, reference=known), live, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"lora": LoraOptions(rank=2)}], ids=["whole", "lora"])
def test_a_folder_is_a_plain_one_and_gives_the_same_scores(
    tiny_chat: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    policy = shaken(policy_of(tiny_chat, beta=0.2, **options)).eval()
    policy.save_pretrained(tmp_path / "policy")
    again = load_policy(str(tmp_path / "policy"))
    assert again.config.beta == 0.2 and again.config.adapter == bool(options)
    np.testing.assert_array_equal(again.score(PROMPTS, REPLIES), policy.score(PROMPTS, REPLIES))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    own, _ = said_alone(plain, policy, PROMPTS, REPLIES)
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), 0.2 * own, rtol=1e-4, atol=1e-4)
    fresh = policy_of(tiny_chat, beta=0.2, **options).eval()
    fresh.load_weights(tmp_path / "policy")
    np.testing.assert_array_equal(fresh.score(PROMPTS, REPLIES), policy.score(PROMPTS, REPLIES))


def test_a_reference_of_another_layout_is_asked_in_its_own(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_causal, beta=1.0)
    tokenizer = policy.encoder.tokenizer
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=2, n_head=2, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    tokenizer.save_pretrained(tmp_path / "bloom")
    other = policy_of(tmp_path / "bloom")
    assert policy.shares_prefixes and not other.shares_prefixes
    policy.reference = FrozenReference(other)
    own, _ = said_alone(policy.language_model.eval(), policy, PROMPTS, REPLIES)
    said, _ = said_alone(other.language_model.eval(), policy, PROMPTS, REPLIES)
    np.testing.assert_allclose(policy.score(PROMPTS, REPLIES), own - said, rtol=1e-4, atol=1e-4)


def test_what_a_reference_says_is_kept(tiny_causal: Path, tmp_path: Path) -> None:
    policy = policy_of(tiny_causal)
    records = encode_records(planted(8), policy.encoder)
    first = LikelihoodCache(policy, tmp_path)
    found = first.of(records)
    assert first.store.computed > 0 and first.store.reused == 0
    expected = policy.map_batches(
        [records.text(i) for i in range(len(found))], policy.likelihoods, 8192, None, records.reply_starts
    )
    np.testing.assert_array_equal(found, expected)
    again = LikelihoodCache(policy_of(tiny_causal), tmp_path)
    np.testing.assert_array_equal(again.of(records), found)
    assert again.store.computed == 0
    # an adapter takes no part, whatever it has become
    adapted = LikelihoodCache(shaken(policy_of(tiny_causal, lora=LoraOptions(rank=2))), tmp_path)
    np.testing.assert_array_equal(adapted.of(records), found)
    assert adapted.store.folder == first.store.folder
    # other weights, another precision, and replies that begin elsewhere are other numbers
    moved, half = LikelihoodCache(shaken(policy), tmp_path), LikelihoodCache(policy, tmp_path, dtype=torch.bfloat16)
    assert len({cache.store.folder for cache in (first, moved, half)}) == 3
    later = replace(records, reply_starts=records.reply_starts + 1)
    assert again.of(later).sum() > found.sum()
    adapted_alone = policy_of(tiny_causal, lora=LoraOptions(rank=2))
    np.testing.assert_allclose(LikelihoodCache(adapted_alone, tmp_path / "new").of(records), found, atol=1e-4)


def test_replies_of_no_token_have_no_mean(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, form="mean", end_token="none", template="plain")
    assert np.isfinite(policy.score(["Name a sea."], ["The Baltic."])).all()
    with pytest.raises(ModelError, match="no mean over its tokens"):
        policy.score(["Name a sea."], [""])


def test_other_weights_under_a_policy_are_refused(tiny_causal: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_causal, base)
    for name, options in (("adapter", {"lora": LoraOptions(rank=2)}), ("whole", {})):
        policy = policy_of(base, **options)
        policy.record.policy["reference"] = "start"
        policy.save_pretrained(tmp_path / name)
        assert load_policy(str(tmp_path / name)).reference is not None
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.add_(0.1)
    model.save_pretrained(base)
    for name in ("adapter", "whole"):
        with pytest.raises(ModelError, match="is not the one this model was trained with"):
            load_policy(str(tmp_path / name))


def test_swapping_the_responses_negates_the_margin(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    states = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) - 5
    states[:, 2] = 3
    edges = torch.tensor([[0, 1], [2, 3]])
    assert torch.equal(policy.edge_margins(states, edges), -policy.edge_margins(states, edges.flip(1)))


def test_what_cannot_be_is_refused(tiny_causal: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="beta must be above 0"):
        policy_of(tiny_causal, beta=0.0)
    with pytest.raises(ModelError):
        policy_of(tiny_encoder)
    policy = policy_of(tiny_causal)
    with pytest.raises(ModelError, match="nothing can be switched off"):
        AdapterOff(policy)
    other = policy_of(tiny_causal)
    refuse_other_vocabulary(policy, other, "other")
    other.encoder.tokenizer.add_tokens(["<new>"])
    with pytest.raises(ModelError, match="another vocabulary") as error:
        refuse_other_vocabulary(policy, other, "other")
    assert "<new>" in str(error.value)
    policy.save_pretrained(tmp_path)
    (tmp_path / "assay.json").unlink()
    with pytest.raises(ModelError, match=r"assay\.json is missing"):
        load_policy(str(tmp_path))


def test_a_reply_of_nothing_has_the_token_that_ends_it(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, beta=1.0)
    alone = policy.encoder.encode(["Name a sea."], [""])[0]
    assert len(alone.ids) > alone.prompt_tokens and np.isfinite(policy.score(["Name a sea."], [""])).all()


def test_what_is_built_on_a_policy_reads_as_it_was_taught(tiny_causal: Path, tmp_path: Path) -> None:
    assert policy_of(tiny_causal).encoder.settings.template == "hh"
    custom = tmp_path / "lines.jinja"
    custom.write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    for given, kept in (("plain", "plain"), (str(custom), "custom")):
        folder = tmp_path / kept
        taught = policy_of(tiny_causal, template=given, end_token="none" if kept == "custom" else "auto")
        taught.save_pretrained(folder / "model")
        wanted = taught.encoder.encode(PROMPTS, REPLIES)
        built = create_reward_model(ModelOptions(backbone=str(folder / "model")))
        counted = tokens_only(str(folder / "model"), "auto", None)
        # a run folder and its model alike
        for encoder in (policy_of(folder).encoder, policy_of(folder / "model").encoder, built.encoder, counted):
            assert encoder.settings.template == kept
            assert encoder.encode(PROMPTS, REPLIES) == wanted
        assert policy_of(folder, template="hh").encoder.settings.template == "hh"
    (folder / "model" / "assay.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        policy_of(folder)
