"""What a policy wrote, and the rewards of its tokens: the two things that every link of credit joins."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from assay.credit.redistribution import CreditError
from assay.scorers.conversation import Prompt
from assay.scorers.pieces import ends_in_text, pieces


@dataclass(frozen=True)
class Answers:
    """Responses of one cycle, those to one prompt next to each other.

    Attributes
    ----------
    prompts, texts
        Of each of n responses.
    sequences, starts
        Token ids of prompt and response of each, int64 ``[L]``, and where the response begins in them; it has at least
        one token, the one that ended it among them.
    ended
        bool ``[n]``: ended by itself.
    groups
        int64 ``[n]``: number of the prompt, from 0.
    tokenizer
        Of the policy.
    columns
        Name -> one value of each response: what the data say of its prompt, such as ``ground_truth``.
    cycle
        How many cycles were before.
    """

    prompts: list[Prompt]
    texts: list[str]
    sequences: list[np.ndarray]
    starts: np.ndarray
    ended: np.ndarray
    groups: np.ndarray
    tokenizer: Any
    columns: dict[str, list[Any]] = field(default_factory=dict)
    cycle: int = 0

    def __post_init__(self) -> None:
        if (self.lengths < 1).any():
            raise CreditError("a response has no token", expected="at least that which ends it")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each, int64 ``[n]``."""
        return np.array([len(own) for own in self.sequences], np.int64) - self.starts

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where the tokens of each begin among all of them, int64 ``[n + 1]``."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @cached_property
    def last(self) -> np.ndarray:
        """Place of each response's last token, int64 ``[n]``."""
        return self.offsets[1:] - 1

    def ids(self, row: int) -> np.ndarray:
        """Return the tokens of a response, int64 ``[T]``."""
        return self.sequences[row][self.starts[row] :]

    def pieces(self, row: int) -> list[str]:
        """Return the text that each token of a response adds."""
        return pieces(self.tokenizer, self.ids(row), special=False)

    def ends(self, row: int) -> np.ndarray:
        """Return after how many characters each token of a response ends, int64 ``[T]``."""
        return ends_in_text(self.pieces(row))

    def sums(self, tokens: np.ndarray) -> np.ndarray:
        """Add up a value of each token by response, float64 ``[n]``."""
        return np.add.reduceat(tokens, self.offsets[:-1]) if len(self) else np.zeros(0)

    def at_the_end(self, values: np.ndarray) -> np.ndarray:
        """Give each response's value to its last token, float64 ``[tokens]``."""
        found = np.zeros(int(self.offsets[-1]), np.float64)
        found[self.last] = values
        return found


@dataclass
class Rewards:
    """Rewards of tokens.

    Attributes
    ----------
    tokens
        float64 ``[tokens]``, response after response.
    parts
        Name -> float64 ``[n]``: what each part gave each response, as it came (before weights); NaN: nothing.
    critic_offset
        float64 ``[tokens]``, or None: what is added to the critic's value of the state before each token.
    """

    tokens: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    critic_offset: np.ndarray | None = None

    def known(self, answers: Answers) -> np.ndarray:
        """Say which responses have a finite reward, bool ``[n]``; others are left out of training, and counted."""
        return np.isfinite(answers.sums(self.tokens))
