"""Scores of all prefixes of a response: one pass of a causal model, or one text for each prefix where that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from assay.errors import ModelError
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET
from assay.scorers.conversation import ConversationEncoder, Encoded, Prompt, Reply, warn_truncated
from assay.scorers.encoding import mean_of_members


def why_no_prefix_scores(model: Any) -> str | None:
    """Return why a model has no score per token, or None where it has."""
    if model.reads_replies:
        return "a policy's score is that of a whole response"
    if not model.config.causal:
        return "its backbone sees the whole text at every token"
    if model.config.layout == "native":
        return "a plain classifier gives the last token's score only"
    if model.reads_prompts:
        return "its head reads the prompt beside each text"
    return None if model.config.pooling == "last" else f"{model.config.pooling} pooling mixes all tokens"


def reply_end(encoder: ConversationEncoder, encoded: Encoded) -> int:
    """Return where a reply's own tokens end, before what ends every conversation."""
    tail = encoder.tail
    return len(encoded.ids) - (len(tail) if tail and list(encoded.ids[-len(tail) :]) == tail else 0)


class PrefixMixin:
    """For reward models."""

    def prefix_scores(self, prompt: Prompt, response: Reply) -> np.ndarray:
        """Return the score after each token of a response, float32 ``[T+1]``.

        Entry 0 is the bare prompt; the last one equals `score`. One forward pass, since a causal state never changes
        when text follows.

        Raises
        ------
        ModelError
            If the backbone is not causal: every earlier state would have seen the whole response.
        """
        encoded = cast(Any, self).encoder.encode([prompt], [response])
        warn_truncated(encoded)
        return self.prefix_scores_encoded(encoded)[0]

    def truncated_scores(self, prompt: Prompt, response: Reply) -> np.ndarray:
        """Return the score of the response cut after each of its tokens, float32 ``[T+1]``.

        Each prefix is a text of its own, with what ends a text behind it: any model can do that, at the cost of one
        pass for each token. T counts the response's own tokens, and not what ends it.
        """
        encoded = cast(Any, self).encoder.encode([prompt], [response])
        warn_truncated(encoded)
        return self.truncated_scores_encoded(encoded[0], prompt)

    def truncated_scores_encoded(
        self, encoded: Encoded, prompt: Prompt, *, token_budget: int = DEFAULT_TOKEN_BUDGET
    ) -> np.ndarray:
        """Return the same for a conversation that was encoded before."""
        model = cast(Any, self)
        tail, end = model.encoder.tail, reply_end(model.encoder, encoded)
        texts = [[*encoded.ids[:stop], *tail] for stop in range(min(encoded.prompt_tokens, end), end + 1)]
        alone = model.prompt_ids([prompt])
        found = model.score_encoded(texts, None if alone is None else alone * len(texts), token_budget=token_budget)
        return np.asarray(mean_of_members(found), np.float32)

    def prefix_scores_encoded(
        self,
        encoded: Sequence[Encoded],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> list[np.ndarray]:
        """Return the same for conversations that were encoded before, of each float32 ``[T+1]``.

        The first entry is NaN where a prompt has no token: nothing was read that could have a score.

        Raises
        ------
        ModelError
            As `prefix_scores`.
        """
        model = cast(Any, self)
        reason = why_no_prefix_scores(model)
        if reason is not None:
            raise ModelError(
                f"this model has no scores of prefixes: {reason}",
                expected="a causal backbone whose last token is pooled, and a head of one score",
                remedy="train with a causal --backbone, or score truncated texts, one pass for each token: --truncated",
            )

        def scored(states: Tensor, _: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
            # what is scored before a token is the prefix without it; behind the last one it is the text
            return model.values(states.float()), model.values(ends.float())

        starts = np.array([max(e.prompt_tokens, 1) for e in encoded], np.int64)
        found = model.map_tokens([e.ids for e in encoded], scored, token_budget, dtype, starts)
        scores = [mean_of_members(np.concatenate([before, whole[None]])) for before, whole in found]
        return [
            own if one.prompt_tokens else np.concatenate([np.full(1, np.nan, own.dtype), own])
            for one, own in zip(encoded, scores, strict=True)
        ]
