"""vLLM's classification, ``POST /classify``, and embeddings as SGLang gives them: what verl's reward router reads.

A score of one label stands where a probability stands, raw with ``use_activation`` (or its older names ``activation``
and ``softmax``) false, else its logistic function, which is what vLLM makes of one label.
"""

from __future__ import annotations

import time
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from scipy.special import expit

from assay.scorers.scored import Conversation, Score
from assay.serving.formats.messages import Message, plain
from assay.serving.problems import BadRequest
from assay.serving.service import Service

#: Numbers come before texts: where a list holds numbers it is one text as token ids.
Texts = str | list[Annotated[int, Field(strict=True)]] | list[str] | list[list[Annotated[int, Field(strict=True)]]]


class Inputs(BaseModel):
    """What both routes are sent; fields that are not known are left alone."""

    model: str | None = Field(default=None, description="given back; none: the model's own name")
    input: Texts | None = Field(default=None, description="text, texts, token ids, or lists of token ids")
    messages: list[Message] | None = Field(default=None, description="or a conversation that ends with its reply")
    add_special_tokens: bool | None = Field(
        default=None, description="what begins and ends a text is added where it is missing, and never twice"
    )
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1, description="tokens that are read; -1: as usual")

    def conversations(self) -> list[Conversation]:
        """Return what is scored."""
        if (self.input is None) == (self.messages is None):
            raise BadRequest("a request has input or messages", expected="one of them", got="neither or both")
        limit = None if self.truncate_prompt_tokens in (None, -1) else self.truncate_prompt_tokens
        if self.messages is not None:
            if limit is not None:
                raise BadRequest("truncate_prompt_tokens goes with input", remedy="leave it out beside messages")
            if not self.messages or self.messages[-1].role != "assistant":
                raise BadRequest("a conversation ends with the reply that is scored", expected="an assistant message")
            *before, last = plain(self.messages)
            return [Conversation(prompt=before, response=[last])]
        given = self.input
        if isinstance(given, str):
            return [Conversation(text=given, limit=limit)]
        if given and isinstance(given[0], int):
            return [Conversation(ids=given, limit=limit)]
        return [
            Conversation(text=one, limit=limit) if isinstance(one, str) else Conversation(ids=one, limit=limit)  # type: ignore[arg-type]
            for one in given or []
        ]


class ClassifyRequest(Inputs):
    """What ``/classify`` is sent."""

    use_activation: bool | None = Field(
        default=None, description="logistic function of the score; false: the raw score; null: as if it were true"
    )
    activation: bool | None = Field(default=None, description="an older name of it")
    softmax: bool | None = Field(default=None, description="a still older one")

    @property
    def activates(self) -> bool:
        """The first of the three that is said."""
        said = [value for value in (self.use_activation, self.activation, self.softmax) if value is not None]
        return said[0] if said else True


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class Label(BaseModel):
    """Score of one text."""

    index: int
    label: str | None = "LABEL_0"
    probs: list[float]
    num_classes: int = 1


class ClassifyReply(BaseModel):
    """What ``/classify`` answers."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Label]
    usage: Usage


class Embedding(BaseModel):
    """Score of one text, as a vector of one number."""

    object: str = "embedding"
    index: int
    embedding: list[float]


class EmbeddingsReply(BaseModel):
    """What ``/v1/embeddings`` answers."""

    object: str = "list"
    model: str
    data: list[Embedding]
    usage: Usage


def _usage(scores: list[Score]) -> dict[str, Any]:
    tokens = sum(score.length for score in scores)
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
    }


def classified(model: str, scores: list[Score], *, activation: bool, number: str, created: int) -> dict[str, Any]:
    """Return the body of ``/classify``."""
    values = [score.value for score in scores]
    shown = expit(values).tolist() if activation else values
    data = [{"index": k, "label": "LABEL_0", "probs": [value], "num_classes": 1} for k, value in enumerate(shown)]
    return {
        "id": f"classify-{number}",
        "object": "list",
        "created": created,
        "model": model,
        "data": data,
        "usage": _usage(scores),
    }


def embedded(model: str, scores: list[Score]) -> dict[str, Any]:
    """Return the body of ``/v1/embeddings``."""
    data = [{"object": "embedding", "index": k, "embedding": [score.value]} for k, score in enumerate(scores)]
    return {"object": "list", "model": model, "data": data, "usage": _usage(scores)}


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["vLLM and SGLang"])

    @routes.post("/classify", response_model=ClassifyReply, summary="Classification of vLLM")
    async def classify(body: ClassifyRequest) -> JSONResponse:
        found = await service.score(body.conversations())
        return JSONResponse(
            classified(
                body.model or service.name,
                found,
                activation=body.activates,
                number=uuid4().hex,
                created=int(time.time()),
            )
        )

    @routes.post("/v1/embeddings", response_model=EmbeddingsReply, summary="Scores as embeddings of SGLang")
    async def embeddings(body: Inputs) -> JSONResponse:
        return JSONResponse(embedded(body.model or service.name, await service.score(body.conversations())))

    return routes
