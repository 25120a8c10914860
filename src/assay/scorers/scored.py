"""What scorers are asked about and what they say: conversations in three forms, scores with all that is known of them.

`assay.scorers.core` makes the one of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.errors import ModelError
from assay.scorers.batches import TokenIds
from assay.scorers.conversation import Encoded, Prompt, Reply
from assay.scorers.uncertainty import Spread


class NoNumber(ModelError):
    """Raised when a model gives a score that is no number."""


@dataclass(frozen=True)
class Conversation:
    """What is scored, in one of three forms: ``prompt`` and ``response``, or ``text``, or ``ids``.

    Attributes
    ----------
    prompt, response
        Strings or message lists, which the model's own template writes.
    text
        Templated already: scored as it stands.
    ids
        Tokens of such a text.
    limit
        Cut text or ids to so many tokens, if that is less than the model's own length.
    group
        Names the prompt, where prompts that are written alike are different ones; None: what is written tells.
    """

    prompt: Prompt | None = None
    response: Reply | None = None
    text: str | None = None
    ids: Sequence[int] | None = None
    limit: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class Item:
    """A conversation as token ids, ready to be scored.

    Attributes
    ----------
    conversation
        As it came.
    encoded
        Its tokens.
    alone
        Those of its prompt alone, where the head reads them.
    """

    conversation: Conversation
    encoded: Encoded
    alone: TokenIds | None = None


@dataclass(frozen=True)
class Score:
    """What a scorer says of one conversation.

    Attributes
    ----------
    value
        Raw score; the mean of several members. Differences are log-odds, the zero has no meaning.
    std
        Standard deviation of the value against other responses to the same prompt in the same call, or against
        training responses where there is none; None where the model does not tell.
    lowest
        What the member that thinks least of it says, seen like ``std``; of a posterior it means nothing.
    cut_prompt, cut_response
        Tokens that truncation took.
    length
        Tokens that were read.
    fingerprint
        Of the model (`assay.scorers.provenance.model_fingerprint`).
    tokens, prefix_scores
        On request: the text of each token of the response, ``[T]``, and the score after each, ``[T + 1]``, that of the
        bare prompt first.
    prototypes
        On request: those that weigh most in the score (`RewardModel.explain`).
    read
        On request: the text that was read, template and marks included.
    evidence, spread
        What margins and their deviations are computed from.
    """

    value: float
    std: float | None
    lowest: float | None
    cut_prompt: int
    cut_response: int
    length: int
    fingerprint: str
    tokens: list[str] | None = None
    prefix_scores: list[float] | None = None
    prototypes: list[dict[str, Any]] | None = None
    read: str | None = None
    evidence: np.ndarray = field(default_factory=lambda: np.zeros(()), repr=False, compare=False)
    spread: Spread | None = field(default=None, repr=False, compare=False)

    @property
    def truncated(self) -> bool:
        """Whether anything was cut."""
        return bool(self.cut_prompt or self.cut_response)


@dataclass(frozen=True)
class Preference:
    """What a scorer says of two responses to one prompt.

    Attributes
    ----------
    margin
        Of the first over the second.
    probability
        Calibrated probability that the first is better.
    std
        Standard deviation of the margin; None where the model does not tell.
    """

    margin: float
    probability: float
    std: float | None


@dataclass(frozen=True)
class Measured:
    """Raw numbers of some items: what a forward pass gives, before they are seen against each other.

    Attributes
    ----------
    values
        float32 ``[n]``.
    evidence
        ``[n]`` or ``[n, members, c]``.
    spread
        Of models that tell how sure they are.
    """

    values: np.ndarray
    evidence: np.ndarray
    spread: Spread | None = None

    def __getitem__(self, part: slice) -> Measured:
        """Return those of some items."""
        spread = None if self.spread is None else Spread(self.spread.vectors[part], self.spread.apart)
        return Measured(self.values[part], self.evidence[part], spread)

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """Return several as one."""
        first, *rest = parts
        if not rest:
            return first
        spread = None
        if first.spread is not None:
            spread = first.spread.joined(*(part.spread for part in rest if part.spread is not None))
        values, evidence = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "evidence"))
        return cls(values, evidence, spread)
