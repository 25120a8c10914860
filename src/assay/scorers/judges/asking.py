"""What judges are asked, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_COMPARE = """You compare two responses to the same request.

[Request]
{prompt}
[End of request]

[Response A]
{first}
[End of response A]

[Response B]
{second}
[End of response B]

{principle}
Answer with one letter, A or B, and nothing else."""

_CHECK = """You check one response to a request.

[Request]
{prompt}
[End of request]

[Response]
{response}
[End of response]

{criterion}
Answer with one word, Yes or No, and nothing else."""


@dataclass(frozen=True)
class Question:
    """One question with two possible answers.

    Attributes
    ----------
    text
        What a judge reads, as one user message.
    options
        The two answers, as the text asks for them.
    """

    text: str
    options: tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """What a judge said.

    Attributes
    ----------
    log_odds
        log P(first option) - log P(second option); +-infinity where only the words are known; NaN where the judge gave
        neither option.
    """

    log_odds: float


class Judge(Protocol):
    """Anybody who answers questions."""

    name: str

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return an answer to each question, in order.

        Raises
        ------
        ModelError
            If the judge cannot be reached or does not work.
        """
        ...

    def costs(self) -> dict[str, Any]:
        """Return what was asked so far and what it cost: plain numbers, for reports."""
        ...


def comparison(prompt: str, first: str, second: str, principle: str) -> Question:
    """Ask which of two responses is better by a principle; the first option is the response shown first."""
    return Question(_COMPARE.format(prompt=prompt, first=first, second=second, principle=principle), ("A", "B"))


def check(prompt: str, response: str, criterion: str) -> Question:
    """Ask a yes-or-no question about one response; the first option is yes."""
    return Question(_CHECK.format(prompt=prompt, response=response, criterion=criterion), ("Yes", "No"))


def as_array(answers: Sequence[Answer]) -> np.ndarray:
    """Return the log-odds, float64 ``[n]``."""
    return np.array([answer.log_odds for answer in answers], np.float64)
