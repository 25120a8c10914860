"""A model that `assay serve` serves, asked from elsewhere."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from pydantic import BaseModel, Field

from assay.errors import ConfigError, ModelError
from assay.feedback.records import as_chat, as_messages
from assay.scorers.conversation import Prompt, Reply, same_length
from assay.scorers.posting import Postman

_LARGEST = 4 * 2**20  # bytes of a request: half of what a server takes by default


class _Score(BaseModel):
    value: float = Field(allow_inf_nan=False)
    std: float | None = None
    truncated: bool = False
    tokens: list[str] | None = None
    prefix_scores: list[float] | None = None


class _Scores(BaseModel):
    model: str
    fingerprint: str
    calibrated: bool
    scores: list[_Score]


class _Pair(BaseModel):
    probability_a: float = Field(ge=0, le=1)


class _List(BaseModel):
    scores: list[_Score]
    margins: list[list[float]]


class _Lists(BaseModel):
    fingerprint: str
    lists: list[_List]


class _Pairs(BaseModel):
    fingerprint: str
    calibrated: bool
    pairs: list[_Pair]


class ServedModel:
    """A model behind the JSON API of `assay serve`.

    Replies are looked at: as many scores as were asked for, each a finite number, all of one model. Waiting is bounded,
    and so are tries.

    Parameters
    ----------
    url
        Address of the server, such as ``http://localhost:8000``.
    key_variable
        Environment variable that holds the key.
    timeout
        Seconds until a reply must be there.
    tries, wait
        How often a request is sent when the server fails, and the seconds before the second time, doubled each time.
    at_once
        Conversations in a request.

    Raises
    ------
    ConfigError
        If the address is none.
    ModelError
        If the server does not answer as it should.
    """

    def __init__(
        self,
        url: str,
        *,
        key_variable: str = "ASSAY_SERVE_KEY",
        timeout: float = 60.0,
        tries: int = 5,
        wait: float = 1.0,
        at_once: int = 128,
    ) -> None:
        if not is_address(url):
            raise ConfigError("a server's address is a URL", expected="http://… or https://…", got=url)
        parts = urlsplit(url.rstrip("/"))
        # a key that stands in the address is sent as one, and told nowhere
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._at_once = at_once
        self._postman = Postman(
            "the scoring server",
            "assay serve, at this address",
            f"look whether it runs, and at the key in {key_variable}",
            key_variable,
            tries,
            wait,
            timeout,
            key=unquote(parts.password) if parts.password else None,
        )
        self.fingerprint: str | None = None
        told = self._score([])
        self.name, self.calibrated = told.model, told.calibrated

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Reply], **_: Any) -> np.ndarray:
        """Return scores of responses, float32 ``[n]``; as `RewardModel.score`."""
        return self.asked(prompts, responses)[0]

    def asked(self, prompts: Sequence[Prompt], responses: Sequence[Reply]) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, float32 ``[n]``, and whether truncation cut anything, bool ``[n]``."""
        found = self._ask(prompts, responses)
        return np.array([one.value for one in found], np.float32), np.array([one.truncated for one in found], bool)

    def _ask(self, prompts: Sequence[Prompt], responses: Sequence[Reply], *, tokens: bool = False) -> list[_Score]:
        same_length(prompts, responses)
        bodies = [
            {"prompt": _json(prompt), "response": _json(said)} for prompt, said in zip(prompts, responses, strict=True)
        ]
        found = [one for some in self._parts(bodies) for one in self._score(some, tokens=tokens).scores]
        self._warn_truncated(found)
        return found

    def score_text(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        """Return scores of text that is templated already, float32 ``[n]``; as `RewardModel.score_text`."""
        found = [one for some in self._parts([{"text": text} for text in texts]) for one in self._score(some).scores]
        self._warn_truncated(found)
        return np.array([one.value for one in found], np.float32)

    def probability(self, prompts: Sequence[Prompt], a: Sequence[Reply], b: Sequence[Reply]) -> np.ndarray:
        """Return the calibrated probability that a is better than b, float64 ``[n]``."""
        same_length(prompts, a, b)
        sides = zip(prompts, a, b, strict=True)
        bodies = [{"prompt": _json(prompt), "a": _json(one), "b": _json(other)} for prompt, one, other in sides]
        if not self.calibrated:
            warnings.warn("this model is not calibrated: temperature 1 is used; run `assay calibrate`", stacklevel=2)
        found: list[float] = []
        for some in self._parts(bodies):
            reply: _Pairs = self._send("/v1/pairs", {"pairs": some}, _Pairs)
            self._refuse_number(len(reply.pairs), len(some))
            found += [pair.probability_a for pair in reply.pairs]
        return np.array(found, np.float64)

    def token_scores(self, prompts: Sequence[Prompt], responses: Sequence[Reply]) -> list[tuple[list[str], np.ndarray]]:
        """Return for each response the text of its tokens, ``[T]``, and the score after each, float64 ``[T + 1]``.

        The bare prompt's score comes first; the model is one with scores of tokens in one pass.
        """
        found = []
        for one in self._ask(prompts, responses, tokens=True):
            if one.tokens is None or one.prefix_scores is None or len(one.prefix_scores) != len(one.tokens) + 1:
                raise ModelError(
                    "the scoring server gave no scores of tokens",
                    where=self.url,
                    expected="tokens, and one more prefix_scores",
                )
            found.append((one.tokens, np.array(one.prefix_scores, np.float64)))
        return found

    def ranked(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[Reply]]
    ) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Compare the responses to each prompt.

        Returns
        -------
        list
            Of each prompt the scores ``[k]``, the margins, row over column, ``[k, k]``, and how many were truncated.
        """
        same_length(prompts, responses)
        bodies = [
            {"prompt": _json(prompt), "responses": [_json(one) for one in some]}
            for prompt, some in zip(prompts, responses, strict=True)
        ]
        found = []
        start = 0
        while start < len(bodies):  # as many lists as make up one request, one at least
            end, texts = start, 0
            while end < len(bodies) and (end == start or texts + len(bodies[end]["responses"]) <= self._at_once):
                texts += len(bodies[end]["responses"])
                end += 1
            reply: _Lists = self._send("/v1/lists", {"lists": bodies[start:end]}, _Lists)
            self._refuse_number(len(reply.lists), end - start)
            self._warn_truncated([score for one in reply.lists for score in one.scores])
            for one, body in zip(reply.lists, bodies[start:end], strict=True):
                values, margins = np.array([score.value for score in one.scores]), np.array(one.margins, np.float64)
                self._refuse_number(len(values), len(body["responses"]))
                if margins.shape != (len(values), len(values)):
                    raise ModelError("the scoring server gave no margins", where=self.url)
                found.append((values, margins, sum(score.truncated for score in one.scores)))
            start = end
        return found

    def _parts(self, bodies: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        some: list[dict[str, Any]] = []
        size = 0
        for body in bodies:
            length = len(json.dumps(body))
            if some and (len(some) == self._at_once or size + length > _LARGEST):
                yield some
                some, size = [], 0
            some.append(body)
            size += length
        if some:
            yield some

    def _score(self, some: list[dict[str, Any]], *, tokens: bool = False) -> _Scores:
        reply: _Scores = self._send("/v1/score", {"conversations": some, "tokens": tokens}, _Scores)
        self._refuse_number(len(reply.scores), len(some))
        return reply

    def _send(self, path: str, body: dict[str, Any], shape: Any) -> Any:
        reply = self._postman.send(self.url + path, lambda: body, shape.model_validate_json)
        if self.fingerprint not in (None, reply.fingerprint):
            raise ModelError(
                "the server serves another model than before; its scores mean something else",
                where=self.url,
                expected=f"fingerprint {self.fingerprint}",
                got=reply.fingerprint,
                remedy="serve the model of before, or begin anew",
            )
        self.fingerprint = reply.fingerprint
        return reply

    def _refuse_number(self, got: int, expected: int) -> None:
        if got != expected:
            raise ModelError(
                "the scoring server gave another number of scores",
                where=self.url,
                expected=str(expected),
                got=str(got),
            )

    @staticmethod
    def _warn_truncated(scores: Sequence[_Score]) -> None:
        cut = sum(score.truncated for score in scores)
        if cut:
            warnings.warn(f"{cut} of {len(scores)} texts were longer than the maximum length and cut", stacklevel=4)


def _json(given: Prompt | Reply) -> Any:
    """Return a text or messages as JSON values."""
    if isinstance(given, str):
        return given
    return json.loads(json.dumps(as_chat(as_messages(given)), default=str))


def is_address(where: Any) -> bool:
    """Whether a name is that of a server."""
    return isinstance(where, str) and where.startswith(("http://", "https://"))
