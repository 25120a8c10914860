"""What an OpenAI-compatible server sends back, and the answer that is in it."""

from __future__ import annotations

import math
import re

from pydantic import BaseModel, Field

from assay.scorers.judges.asking import Answer

#: Least probability of both options together at which they are an answer at all.
LEAST_MASS = 0.01
_AROUND, _FLOOR = " \n\t\"'*`([", 1e-6
_THINKING = re.compile(r"\A\s*<think>.*?(</think>|\Z)", re.DOTALL)


class Alternative(BaseModel):
    """A token and the logarithm of its probability; None where the server does not say."""

    token: str = ""
    logprob: float | None = None

    @property
    def probability(self) -> float:
        """From 0 to 1; 0 where it is not known."""
        known = self.logprob is not None and not math.isnan(self.logprob)
        return math.exp(min(self.logprob, 0.0)) if known and self.logprob is not None else 0.0


class Token(Alternative):
    """A token of the reply, and what else was likely in its place."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(BaseModel):
    """The tokens of a reply."""

    content: list[Token] | None = None


class Message(BaseModel):
    """The words of a reply."""

    content: str | None = None


class Choice(BaseModel):
    """One reply."""

    message: Message | None = None
    logprobs: Logprobs | None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Reply(BaseModel):
    """A chat completion, as far as a judge needs it; what else is in it is not looked at."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


def read_answer(reply: Reply, options: tuple[str, str]) -> Answer:
    """Read the log-odds of two answers from a chat completion: from log-probabilities, else from the words.

    Of the first token that is neither space nor quote, the likeliest alternatives are added up by the option with which
    they begin. Where the server gives no alternatives, or the options have next to nothing of their probability, the
    words decide, after any thinking: plus or minus infinity. NaN where neither option is found.
    """
    choice = reply.choices[0]
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    first = next((token for token in tokens if token.token.strip(_AROUND)), None)
    said = None if first is None else _by_probabilities(first.top_logprobs or [], options)
    if said is not None:
        return said
    at = _option(without_thinking((choice.message.content if choice.message else None) or ""), options)
    return Answer(float("nan") if at is None else (math.inf, -math.inf)[at])


def without_thinking(text: str) -> str:
    """Return what follows a model's thinking aloud, ``<think>…</think>``; nothing, where it has not ended."""
    return _THINKING.sub("", text).strip()


def _by_probabilities(listed: list[Alternative], options: tuple[str, str]) -> Answer | None:
    mass = [0.0, 0.0]
    for each in listed:
        at = _option(each.token, options)
        if at is not None:
            mass[at] += each.probability
    if sum(mass) < LEAST_MASS:
        return None
    known = [each.probability for each in listed if each.probability > 0]
    # an option that is not listed is no likelier than the least likely one that is, nor than what is left
    most = max(min(*known, 1.0 - sum(known)), _FLOOR)
    one, other = (value or most for value in mass)
    return Answer(math.log(one) - math.log(other))


def _option(text: str, options: tuple[str, str]) -> int | None:
    """Return which option a text begins with, as a word of its own; None: neither."""
    said = text.strip(_AROUND).lower()
    for at, option in enumerate(options):
        name = option.lower()
        if said.startswith(name) and not said[len(name) : len(name) + 1].isalpha():
            return at
    return None
