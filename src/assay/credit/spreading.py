"""A reward model's score, given to the tokens of a policy's response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from assay.credit.answers import Answers, Rewards
from assay.credit.links import Standard, Standardised
from assay.credit.redistribution import FirstToken, attention_credit, redistribute, terminal, uniform
from assay.scorers.attention import attending
from assay.scorers.conversation import Encoded, Prompt, warn_truncated
from assay.scorers.evaluating import evaluating
from assay.scorers.pieces import aligned, ends_in_text, pieces
from assay.scorers.prefixes import reply_end


class ServedTokens(Protocol):
    """What scores tokens elsewhere, such as `assay.scorers.served.ServedModel`."""

    def token_scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[tuple[list[str], np.ndarray]]:
        """Return for each response the text of its tokens, ``[S]``, and the score after each, float64 ``[S + 1]``."""
        ...


#: Where the change of a score is given: to each token, or to the one with which a word or sentence is known as whole.
Granularity = Literal["token", "word", "sentence"]
_ENDS_SENTENCE = (".", "!", "?")
_ENDS_AT_ONCE = ("\n", "。", "！", "？")


@dataclass
class Redistributed(Standardised):
    """A reward model's score, given to tokens by how each changed it (R3HF).

    The response is tokenised for the reward model anew; where its tokens are others than the policy's, scores of
    prefixes are read at the characters where the policy's tokens end.

    Attributes
    ----------
    name
        For reports.
    model
        A reward model with scores of prefixes, or `ServedTokens`.
    first_token, mix
        See `assay.credit.redistribute`.
    by
        `Granularity`.
    standard
        Brings the model's scores to scale; None: as they are.
    shuffle
        Seed by which a response's credit is put in random order: a control with the same sum. None: as it is.
    even
        Give each token the same share: another control.
    as_offset
        Leave the reward at the end, and let ``mix`` times the prefixes' scores be added to the critic instead. Where
        nothing is discounted that is the same thing (`tests/objectives/test_advantages.py`): the control that shows
        where gains come from.
    token_budget
        Of a forward pass.
    """

    name: str
    model: Any
    first_token: FirstToken = "subtract_prompt"
    mix: float = 1.0
    by: Granularity = "token"
    standard: Standard | None = None
    shuffle: int | None = None
    even: bool = False
    as_offset: bool = False
    token_budget: int = 8192

    def __call__(self, answers: Answers) -> Rewards:
        """Score all prefixes of the responses."""
        found = self._asked(answers) if hasattr(self.model, "token_scores") else self._read(answers)
        scores = [values for values, _ in found]
        last = np.array([values[-1] for values in scores], np.float64)
        if self.standard is not None:
            self.standard.see(last)
        tokens, offsets = [], []
        for row, (_, at) in enumerate(found):
            if self.standard is not None:
                at = self.standard(at)
            if self.by != "token":
                at = at[known_whole(answers.pieces(row), self.by)]
            tokens.append(self._credit(at, answers.cycle, row))
            offsets.append(self.mix * at[:-1])
        spread = np.array([np.diff(values).std() if len(values) > 1 else 0.0 for values in scores])
        parts = {self.name: last, f"{self.name}, spread of prefixes": spread}
        return Rewards(np.concatenate(tokens), parts, np.concatenate(offsets) if self.as_offset else None)

    def _read(self, answers: Answers) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return scores of prefixes by the model's tokens and by the policy's."""
        encoder = self.model.encoder
        encoded = encoder.encode(answers.prompts, answers.texts)
        warn_truncated(encoded)
        scores = self.model.prefix_scores_encoded(encoded, token_budget=self.token_budget)
        found = []
        for row, (one, given) in enumerate(zip(encoded, scores, strict=True)):
            values = given.astype(np.float64)
            found.append((values, at_policy_tokens(encoder, answers, row, one, values)))
        return found

    def _asked(self, answers: Answers) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the same of a model that is elsewhere: its tokens are known by their texts."""
        found = []
        for row, (own, values) in enumerate(self.model.token_scores(answers.prompts, answers.texts)):
            found.append((values, aligned(values, _ends(own, answers.texts[row]), answers.ends(row))))
        return found

    def _credit(self, at: np.ndarray, cycle: int, row: int) -> np.ndarray:
        if self.even:
            return np.asarray(uniform(redistribute(at, self.first_token, self.mix).sum(), len(at) - 1))
        found = np.asarray(redistribute(at, self.first_token, 0.0 if self.as_offset else self.mix), np.float64)
        return found if self.shuffle is None else np.random.default_rng((self.shuffle, cycle, row)).permutation(found)


def at_policy_tokens(encoder: Any, answers: Answers, row: int, encoded: Encoded, values: np.ndarray) -> np.ndarray:
    """Read values of a reward model's prefixes ``[S + 1]`` at the ends of the policy's tokens, ``[T + 1]``."""
    ids = np.asarray(encoded.ids[encoded.prompt_tokens :])
    if np.array_equal(ids, answers.ids(row)):
        return values
    count = reply_end(encoder, encoded) - encoded.prompt_tokens
    ends = encoder.reply_ends(answers.prompts[row], answers.texts[row])
    # without offsets the text of the tokens themselves has to do, which is another one where a tokenizer changes texts
    ends = _ends(pieces(encoder.tokenizer, ids[:count]), answers.texts[row]) if ends is None else ends[:count]
    return aligned(values, ends, answers.ends(row))


def _ends(own: Sequence[str], text: str) -> np.ndarray:
    """Return after how many characters of a response each of a model's tokens ends, int64."""
    # a template may write more before a response than a blank (an empty train of thought)
    before = max("".join(own).lstrip().find(text.strip()), 0)
    return ends_in_text(own) - before


@dataclass
class ByAttention(Standardised):
    """A reward model's score, given to tokens by what the last one looks at (ABC): a control.

    Attributes
    ----------
    name, model, standard
        As of `Redistributed`; any transformer that gives its attention, in one pass per response.
    mix
        See `assay.credit.attention_credit`.
    """

    name: str
    model: Any
    mix: float = 0.5
    standard: Standard | None = None

    def __call__(self, answers: Answers) -> Rewards:
        """Score the responses, and look at the last layer's attention."""
        encoder = self.model.encoder
        encoded = encoder.encode(answers.prompts, answers.texts)
        warn_truncated(encoded)
        found = np.asarray(self.model.score_conversations(encoded, answers.prompts), np.float64)
        if self.standard is not None:
            self.standard.see(found)
        used = found if self.standard is None else self.standard(found)
        tokens = []
        with evaluating(self.model), attending(self.model.backbone, "eager"):
            for row, one in enumerate(encoded):
                ids = torch.tensor([list(one.ids)], device=self.model.device)
                shown = self.model.backbone(input_ids=ids, output_attentions=True).attentions[-1]
                looked = shown[0, :, -1, one.prompt_tokens :].double().mean(dim=0).cpu().numpy()
                # shares add up along the text, so they are read at other tokens' ends like scores of prefixes
                at = at_policy_tokens(encoder, answers, row, one, np.concatenate([[0.0], np.cumsum(looked)]))
                shares = np.diff(at)
                # an empty response may have nothing of its own that was looked at
                own = attention_credit(used[row], shares, self.mix) if shares.sum() > 0 else None
                tokens.append(terminal(used[row], len(shares)) if own is None else own)
        return Rewards(np.concatenate(tokens), {self.name: found})


def known_whole(added: Sequence[str], by: Granularity) -> np.ndarray:
    """Return how many tokens belong to words or sentences that are known to be whole, after each token: int ``[T+1]``.

    That a word is whole shows where a blank ends it or the next one begins, and never before: what a token is paid must
    not depend on tokens behind it, or the expected gradient changes (R3HF's invariance holds for rewards of the past
    alone). After the last token all is whole.
    """
    found = np.arange(len(added) + 1)
    if by == "token":
        return found
    for place, piece in enumerate(added[:-1]):
        before = added[place - 1] if place else ""
        if by == "word":
            now, then = piece[-1:].isspace(), piece[:1].isspace()
        else:
            now = piece.rstrip(" ").endswith(_ENDS_AT_ONCE)
            then = piece[:1].isspace() and before.rstrip(" ").endswith(_ENDS_SENTENCE)
        found[place + 1] = place + 1 if now else place if then else found[place]
    return found
