"""What policies write: in the template they are scored in, ended where they end, the likeliest where asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.scorers import Policy, PolicyOptions, create_policy
from assay.scorers.adapters import LoraOptions
from assay.scorers.sampling import Sampling, continuations, ends_of, leave_room, replies

PROMPTS = ["Name a sea.", "What is 2 + 2?", "Name a very long river of the north."]


@pytest.fixture(scope="module")
def policy(tiny_causal: Path) -> Policy:
    return create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64))


def test_greedy_replies_are_the_likeliest_tokens(policy: Policy) -> None:
    found = replies(policy, PROMPTS, Sampling(max_new_tokens=6, temperature=0), 0)
    for prompt, (reply,) in zip(PROMPTS, found, strict=True):
        ids = list(policy.encoder.encode([prompt], ["."])[0].ids[: reply.start])
        np.testing.assert_array_equal(reply.ids[: reply.start], ids)
        for token in reply.ids[reply.start :]:
            with torch.no_grad():
                logits = policy.language_model(input_ids=torch.tensor([ids])).logits[0, -1]
            assert int(logits.argmax()) == token
            ids.append(int(token))
        assert reply.ended == (reply.ids[-1] in ends_of(policy.encoder.tokenizer, policy.whole))
        assert reply.text == policy.encoder.tokenizer.decode(reply.ids[reply.start :], skip_special_tokens=True)


def test_draws_follow_the_seed_and_the_distribution(policy: Policy) -> None:
    how = Sampling(responses=3, max_new_tokens=5, token_budget=64)
    first, again, other = ([r.text for own in replies(policy, PROMPTS, how, seed) for r in own] for seed in (0, 0, 1))
    assert first == again != other and len(first) == 9
    # one token after a beginning comes as often as it is likely
    begun = [[5, 6, 7]]
    torch.manual_seed(0)
    many = Sampling(responses=4000, max_new_tokens=1, token_budget=10**6)
    drawn = np.array([new[0] for _, new, _ in continuations(policy.language_model, begun, set(), 0, many)])
    with torch.no_grad():
        shares = policy.language_model(input_ids=torch.tensor(begun)).logits[0, -1].softmax(-1).numpy()
    counts = np.bincount(drawn, minlength=len(shares)) / 4000
    assert np.abs(counts - shares).max() < 4 * np.sqrt(shares.max() / 4000)


@pytest.mark.parametrize("lora", [False, True])
def test_a_beginning_that_is_read_once_is_continued_alike(tiny_causal: Path, lora: bool) -> None:
    """The same draws as where every response reads its beginning itself, also where the left is filled up."""
    options = LoraOptions() if lora else None
    policy = create_policy(PolicyOptions(str(tiny_causal), max_length_tokens=64, lora=options)).eval()
    begun = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14]]
    how = Sampling(responses=4, max_new_tokens=6, temperature=1.5)
    torch.manual_seed(3)
    found = [(row, new) for row, new, _ in continuations(policy.language_model, begun, set(), 0, how)]
    tokens = torch.tensor([[0] * (7 - len(own)) + own for own in begun])
    mask = torch.tensor([[0] * (7 - len(own)) + [1] * len(own) for own in begun])
    torch.manual_seed(3)
    expected = policy.language_model.generate(
        input_ids=tokens, attention_mask=mask, num_return_sequences=4, max_new_tokens=6, pad_token_id=0, do_sample=True,
        temperature=1.5, top_k=0, eos_token_id=None,
    )  # fmt: skip
    rows = [row for row, _ in found]
    assert rows == [0] * 4 + [1] * 4 + [2] * 4
    assert [new for _, new in found] == expected[:, 7:].tolist()


def test_prompts_without_room_are_refused(policy: Policy) -> None:
    with pytest.raises(ModelError, match="prompt 2 of 2"):
        replies(policy, ["Name a sea.", "word " * 80], Sampling(max_new_tokens=20), 0)


def test_a_prompt_that_is_cut_has_no_room_however_little_is_written(policy: Policy) -> None:
    """Cutting makes room for the reply, but the prompt is no longer what was asked."""
    assert leave_room(policy, ["Name a sea.", "word " * 200], 1).tolist() == [True, False]
