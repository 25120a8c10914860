"""Our own API: conversations, pairs and lists, with all that is known of each score."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assay.errors import ModelError
from assay.scorers.scored import Conversation, Preference, Score
from assay.serving.formats.messages import Message, plain
from assay.serving.problems import TooMany
from assay.serving.service import Service

_ROUND = 9  # decimals: a float32 has fewer
#: Responses of a list, whose comparisons grow with the square.
LONGEST_LIST = 256


class _Strict(BaseModel):
    """A field that is not known is a mistake, and told as one."""

    model_config = ConfigDict(extra="forbid")


class Wanted(_Strict):
    """What to tell beside the scores."""

    tokens: bool = Field(default=False, description="the score after each token of the response")
    truncated: bool = Field(
        default=False, description="with tokens: of the response cut after each token, one pass for each; any model"
    )
    prototypes: int = Field(default=0, ge=0, le=100, description="how many of those that weigh most to name")
    read: bool = Field(default=False, description="the text that was read, with template and marks")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Wanted:
        if self.truncated and not self.tokens:
            raise ValueError("truncated goes with tokens")
        return self

    def wanted(self) -> dict[str, Any]:
        """Return these options."""
        return {name: getattr(self, name) for name in ("tokens", "truncated", "prototypes", "read")}


class OneConversation(_Strict):
    """A prompt and a response, or text that is templated already, or its token ids."""

    prompt: str | list[Message] | None = None
    response: str | list[Message] | None = None
    text: str | None = None
    ids: list[int] | None = None
    limit: int | None = Field(default=None, description="cut text or ids to so many tokens")

    def conversation(self) -> Conversation:
        """Return what is scored."""
        given = None if self.prompt is None else plain(self.prompt)
        said = None if self.response is None else plain(self.response)
        return Conversation(given, said, self.text, self.ids, self.limit)


class ScoreRequest(Wanted):
    """Conversations to score."""

    conversations: list[OneConversation]


class Pair(_Strict):
    """Two responses to one prompt."""

    prompt: str | list[Message]
    a: str | list[Message]
    b: str | list[Message]


class PairsRequest(Wanted):
    """Pairs to compare."""

    pairs: list[Pair]


class OneList(_Strict):
    """Several responses to one prompt."""

    prompt: str | list[Message]
    responses: list[str | list[Message]]


class ListsRequest(Wanted):
    """Lists to rank."""

    lists: list[OneList]


class ScoreOut(BaseModel):
    """What is known of one score; what was not asked for, or what the model does not tell, is absent."""

    value: float = Field(description="raw score: differences are log-odds, the zero has no meaning")
    std: float | None = Field(default=None, description="its standard deviation, of models that tell how sure they are")
    truncated: bool
    cut_prompt_tokens: int
    cut_response_tokens: int
    tokens_read: int
    tokens: list[str] | None = None
    prefix_scores: list[float] | None = Field(
        default=None, description="one more than tokens: the bare prompt's comes first"
    )
    prototypes: list[dict[str, Any]] | None = None
    read: str | None = None


class _Reply(BaseModel):
    model: str
    fingerprint: str = Field(description="tells models apart; the same as long as scores mean the same")
    calibrated: bool = Field(description="whether probabilities were calibrated; else a temperature of 1 is used")


class ScoresReply(_Reply):
    """Scores in the order of the conversations."""

    scores: list[ScoreOut]


class PairOut(BaseModel):
    """A pair compared."""

    probability_a: float = Field(description="calibrated probability that a is better than b")
    margin: float = Field(description="raw, a over b")
    std: float | None = Field(default=None, description="standard deviation of the margin")
    a: ScoreOut
    b: ScoreOut


class PairsReply(_Reply):
    """Pairs in the order they came."""

    pairs: list[PairOut]


class ListOut(BaseModel):
    """A list ranked."""

    scores: list[ScoreOut]
    order: list[int] = Field(description="numbers of the responses, best first; equal ones in the order they came")
    probabilities: list[list[float]] = Field(description="row over column: that the one is better than the other")
    margins: list[list[float]]
    stds: list[list[float]] | None = None


class ListsReply(_Reply):
    """Lists in the order they came."""

    lists: list[ListOut]


def shown(score: Score) -> dict[str, Any]:
    """Return a score as JSON values.

    Raises
    ------
    ModelError
        If values of tokens were asked for behind a prompt without a token, which has none.
    """
    if score.prefix_scores and not math.isfinite(score.prefix_scores[0]):
        raise ModelError("the prompt has no token, so the bare prompt has no score", remedy="leave tokens out")
    found: dict[str, Any] = {
        "value": score.value,
        "truncated": score.truncated,
        "cut_prompt_tokens": score.cut_prompt,
        "cut_response_tokens": score.cut_response,
        "tokens_read": score.length,
    }
    more = {name: getattr(score, name) for name in ("std", "tokens", "prefix_scores", "prototypes", "read")}
    return found | {name: value for name, value in more.items() if value is not None}


def ranked(service: Service, scores: list[Score]) -> dict[str, Any]:
    """Return what a list of scores of responses to one prompt says of their order."""
    margins, probabilities, stds = service.core.prefer_all(scores)
    found: dict[str, Any] = {
        "scores": [shown(score) for score in scores],
        "order": sorted(range(len(scores)), key=lambda k: -scores[k].value),
        "probabilities": probabilities.round(_ROUND).tolist(),
        "margins": margins.tolist(),
    }
    return found if stds is None else found | {"stds": stds.tolist()}


def compared(found: Preference, a: Score, b: Score) -> dict[str, Any]:
    """Return a pair as JSON values."""
    told = {"probability_a": found.probability, "margin": found.margin, "a": shown(a), "b": shown(b)}
    return told if found.std is None else told | {"std": found.std}


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["assay"])

    def told(**found: Any) -> JSONResponse:
        head = {"model": service.name, "fingerprint": service.core.fingerprint, "calibrated": service.core.calibrated}
        return JSONResponse(head | found)

    @routes.post("/v1/score", response_model=ScoresReply, response_model_exclude_none=True, summary="Score each")
    async def score(body: ScoreRequest) -> JSONResponse:
        given = [one.conversation() for one in body.conversations]
        return told(scores=[shown(one) for one in await service.score(given, **body.wanted())])

    @routes.post("/v1/pairs", response_model=PairsReply, response_model_exclude_none=True, summary="Compare pairs")
    async def pairs(body: PairsRequest) -> JSONResponse:
        given = [Conversation(plain(pair.prompt), plain(side)) for pair in body.pairs for side in (pair.a, pair.b)]
        found = await service.score(given, **body.wanted())
        sides = list(zip(found[::2], found[1::2], strict=True))
        return told(pairs=[compared(service.core.prefer(a, b), a, b) for a, b in sides])

    @routes.post("/v1/lists", response_model=ListsReply, response_model_exclude_none=True, summary="Rank lists")
    async def lists(body: ListsRequest) -> JSONResponse:
        longest = max((len(one.responses) for one in body.lists), default=0)
        if longest > LONGEST_LIST:
            raise TooMany(
                "a list is too long to compare all its responses with each other",
                expected=f"at most {LONGEST_LIST} responses",
                got=str(longest),
                remedy="score them by /v1/score, which compares nothing",
            )
        given = [Conversation(plain(one.prompt), plain(said)) for one in body.lists for said in one.responses]
        found = iter(await service.score(given, **body.wanted()))
        own = [[next(found) for _ in one.responses] for one in body.lists]
        return await service.aside(lambda: told(lists=[ranked(service, scores) for scores in own]))

    return routes
