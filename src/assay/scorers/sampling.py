"""What causal models write: continuations of token ids, and replies of policies to conversations."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig

from assay.errors import ModelError
from assay.scorers.batches import cut
from assay.scorers.conversation import Encoded, Prompt, chat_of, reply_of
from assay.scorers.evaluating import evaluating
from assay.scorers.policy import Policy


@dataclass(frozen=True)
class Sampling:
    """How is sampled.

    Attributes
    ----------
    responses
        To each prompt, at least 1.
    max_new_tokens
        Longest response.
    temperature
        Of the distribution over tokens; 0: the likeliest token, so one response.
    top_p
        Share of probability that is sampled from.
    top_k
        Tokens that are sampled from; 0: all.
    token_budget
        Tokens of a batch, prompts and responses.
    """

    responses: int = 1
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    token_budget: int = 16384

    def options(self) -> dict[str, Any]:
        """Return the options of ``generate``."""
        if self.temperature == 0:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}


@dataclass(frozen=True)
class Reply:
    """A response that a policy wrote.

    Attributes
    ----------
    text
        Without what ends it.
    ids
        Token ids of prompt and response, with the token that ended it, int64 ``[T]``.
    start
        Where the response begins in them.
    ended
        Whether it ended by itself.
    """

    text: str
    ids: np.ndarray
    start: int
    ended: bool


def continuations(
    model: Any, begun: Sequence[Sequence[int]], ends: Collection[int], pad_id: int, sampling: Sampling
) -> Iterator[tuple[int, list[int], bool]]:
    """Yield, for each of some beginnings, number, new token ids and whether they ended by themselves.

    Those of one beginning follow one another; beginnings come sorted by length. An ending token is the last of its ids.

    Parameters
    ----------
    model
        A causal language model, in the place where it is to compute.
    begun
        Token ids, at least one in each.
    ends
        Tokens that end a response.
    pad_id
        Fills up on the left.
    sampling
        How; draws are torch's, so seed them.
    """
    work = [(len(ids) + sampling.max_new_tokens) * sampling.responses for ids in begun]
    # every block takes as many steps as its longest response, so a block more costs more than what it would pad less
    for block in cut(work, sampling.token_budget, overhead_tokens=sampling.token_budget):
        rows = [int(k) for k in block]
        tokens, mask = (part.to(model.device) for part in _padded_on_the_left([begun[row] for row in rows], pad_id))
        with torch.inference_mode(), _only_as_told(model):
            out = model.generate(
                **_read_once(model, tokens, mask, sampling.responses),
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=pad_id,
                eos_token_id=sorted(ends) or None,
                use_cache=True,
                **sampling.options(),
            )
        for k, new in enumerate(out[:, tokens.shape[1] :].tolist()):
            yield rows[k // sampling.responses], *up_to_the_end(new, ends)


def _read_once(model: Any, tokens: torch.Tensor, mask: torch.Tensor, responses: int) -> dict[str, Any]:
    """Return what ``generate`` begins with: a beginning that several responses share is read once, and its keys copied.

    Models that keep a state other than keys and values read it once for each response.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if responses == 1 or tokens.shape[1] == 1 or getattr(inner, "_is_stateful", False):
        return {"input_ids": tokens, "attention_mask": mask, "num_return_sequences": responses}
    cache = DynamicCache(config=inner.config)
    given: dict[str, Any] = {"input_ids": tokens[:, :-1], "attention_mask": mask[:, :-1]}
    known = inspect.signature(inner.forward).parameters
    if "position_ids" in known:  # as `generate` counts them where the left is filled up
        given["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp_min(0)[:, :-1]
    if "logits_to_keep" in known:
        given["logits_to_keep"] = 1
    model(**given, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(responses)
    many = {
        name: part.repeat_interleave(responses, dim=0)
        for name, part in (("input_ids", tokens), ("attention_mask", mask))
    }
    return many | {"past_key_values": cache}


def up_to_the_end(new: Sequence[int], ends: Collection[int]) -> tuple[list[int], bool]:
    """Return new tokens up to the first that ends a response, and whether there is one."""
    tokens = [int(token) for token in new]
    end = next((place for place, token in enumerate(tokens) if token in ends), None)
    return (tokens, False) if end is None else (tokens[: end + 1], True)


def by_generate(
    model: Any, begun: Sequence[Sequence[int]], ends: Collection[int], pad_id: int, sampling: Sampling, seed: int
) -> Iterator[tuple[int, list[int], bool]]:
    """Yield `continuations` with seeded draws: the engine that is used where nothing else is said."""
    torch.manual_seed(seed)
    yield from continuations(model, begun, ends, pad_id, sampling)


#: What writes: `by_generate`, or one of `assay.scorers.engines`.
Writer = Callable[
    [Any, Sequence[Sequence[int]], Collection[int], int, Sampling, int], Iterator[tuple[int, list[int], bool]]
]


def replies(
    policy: Policy, prompts: Sequence[Prompt], sampling: Sampling, seed: int, writer: Writer = by_generate
) -> list[list[Reply]]:
    """Let a policy answer, in the template that it is scored in.

    Parameters
    ----------
    policy
        As it is; its reference takes no part.
    prompts
        Strings or message lists.
    sampling, seed
        How, and the seed of the draws, which depend on the batches too.
    writer
        The engine.

    Returns
    -------
    list
        Of each prompt ``sampling.responses`` replies.

    Raises
    ------
    ModelError
        If a prompt leaves no room for a response.
    """
    encoder, begun = policy.encoder, _begun(policy, prompts)
    room = encoder.settings.max_length_tokens - sampling.max_new_tokens
    too_long = next((row for row, ids in enumerate(begun) if not 0 < len(ids) <= room), None)
    if too_long is not None:
        raise ModelError(
            "a prompt leaves no room for a response" if begun[too_long] else "a prompt has no token to begin with",
            where=f"prompt {too_long + 1} of {len(begun)}",
            expected=f"1 to {room} tokens" if room > 0 else f"fewer than {sampling.max_new_tokens} new tokens",
            got=str(len(begun[too_long])),
            remedy="lower the number of new tokens, or leave the prompt out (`leave_room`)",
        )
    ends = ends_of_replies(policy)
    blanks = [adds_a_blank(policy, prompt, own) for prompt, own in zip(prompts, begun, strict=True)]
    found: list[list[Reply]] = [[] for _ in prompts]
    with evaluating(policy):
        for row, new, ended in writer(policy.language_model, begun, ends, encoder.pad_id, sampling, seed):
            text = encoder.tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
            if blanks[row] and text.startswith(" "):
                text = text[1:]  # the template writes it
            ids = np.array([*begun[row], *new], np.int64)
            found[row].append(Reply(text, ids, len(begun[row]), ended))
    return found


@contextlib.contextmanager
def _only_as_told(model: Any) -> Iterator[None]:
    """Leave out what a model's folder says of sampling (a repetition penalty), which log-probabilities do not know."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept, inner.generation_config = inner.generation_config, GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = kept


def adds_a_blank(policy: Policy, prompt: Prompt, begun: Sequence[int]) -> bool:
    """Tell whether the template writes a blank before a reply that is none of the tokens ``begun`` before it.

    Then what a policy says begins with it, and a text that is to be written in the template must not.
    """
    encoder = policy.encoder
    text, _, start = encoder.template.parts(chat_of(prompt), reply_of("."))
    written = text[:start].endswith(" ") or text[start:].startswith(" ")
    return written and not encoder.tokenizer.decode(list(begun)[-1:]).endswith(" ")


def leave_room(policy: Policy, prompts: Sequence[Prompt], new: int) -> np.ndarray:
    """Return which prompts have a token, are whole, and leave room for as many new ones, bool ``[prompts]``."""
    room = policy.encoder.settings.max_length_tokens - new
    encoded = _encoded(policy, prompts)
    return np.array([0 < one.prompt_tokens <= room and not one.cut_prompt for one in encoded], bool)


def no_room(prompts: int, new: int) -> ModelError:
    """Build the refusal of prompts none of which leaves room for an answer."""
    return ModelError(
        "no prompt leaves room for a response",
        expected=f"room for {new} new tokens behind one of them at least",
        got=f"{prompts} prompts",
        remedy="lower the number of new tokens, or raise --max-length-tokens where the policy can read more",
    )


def _begun(policy: Policy, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return what a reply to each prompt begins behind: token ids."""
    return [list(one.ids[: one.prompt_tokens]) for one in _encoded(policy, prompts)]


def _encoded(policy: Policy, prompts: Sequence[Prompt]) -> list[Encoded]:
    return policy.encoder.encode(list(prompts), ["."] * len(prompts))


def ends_of(tokenizer: Any, model: Any) -> set[int]:
    """Return the tokens that end a response, by the tokenizer or by the model's own settings."""
    listed = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])} - {None}


def ends_of_replies(policy: Policy) -> set[int]:
    """Return the tokens that end a policy's reply: those of its model, and what its template writes behind a reply.

    Of the latter the first special token, or the first one that is more than blanks: blanks stand in replies too.
    """
    tokenizer, tail = policy.encoder.tokenizer, policy.encoder.tail
    special = [token for token in tail if token in set(tokenizer.all_special_ids)]
    shown = [token for token in tail if tokenizer.decode([token]).strip()]
    return ends_of(tokenizer, policy.whole) | set((special or shown)[:1])


def _padded_on_the_left(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask, ``[n, L]`` int64, every beginning ending in the last column."""
    width = max(map(len, ids))
    tokens = [[pad_id] * (width - len(own)) + list(own) for own in ids]
    mask = [[0] * (width - len(own)) + [1] * len(own) for own in ids]
    return torch.tensor(tokens), torch.tensor(mask)
