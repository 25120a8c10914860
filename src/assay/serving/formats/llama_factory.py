"""LLaMA-Factory's score evaluation: ``POST /v1/score/evaluation``.

Its PPO client sends the literal model name ``model``, no key and no time limit, and looks for ``scores`` without
looking at the status: no name is refused here, and no error has such a field.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from assay.scorers.scored import Conversation, Score
from assay.serving.problems import BadRequest
from assay.serving.service import Service


class ScoreRequest(BaseModel):
    """What is sent; fields that are not known are left alone."""

    model: str = Field(default="model", description="given back as it came")
    messages: list[str] = Field(description="texts that are templated already; one or more")
    max_length: int | None = Field(default=None, description="tokens that are read, where that is less than usual")


class ScoreReply(BaseModel):
    """What comes back."""

    id: str
    object: str = "score.evaluation"
    model: str
    scores: list[float]


def reply(model: str, scores: list[Score], number: str) -> dict[str, Any]:
    """Return the body of a reply."""
    return {
        "id": f"scoreval-{number}",
        "object": "score.evaluation",
        "model": model,
        "scores": [score.value for score in scores],
    }


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["LLaMA-Factory"])

    @routes.post("/v1/score/evaluation", response_model=ScoreReply, summary="Score evaluation of LLaMA-Factory")
    async def evaluation(body: ScoreRequest) -> JSONResponse:
        if not body.messages:
            raise BadRequest("there is nothing to score", expected="one text or more in messages", got="none")
        found = await service.score([Conversation(text=text, limit=body.max_length) for text in body.messages])
        return JSONResponse(reply(body.model, found, uuid4().hex))

    return routes
