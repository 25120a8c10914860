"""OpenRLHF's remote reward: ``POST /get_reward`` with queries that are templated already.

Clients with several servers cut a batch into equal parts, so the last server may be sent nothing at all. Single-turn
rollouts send one query a request; what makes them fast is that the server scores requests together.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from scipy.special import expit

from assay.scorers.scored import Conversation, Score
from assay.serving.service import Service


class Query(BaseModel):
    """What is sent; fields that are not known are left alone."""

    query: str | list[str] = Field(description="prompt and response together, with their special tokens")
    prompts: list[Any] | str | None = Field(default=None, description="not read: the query holds the prompt")
    labels: list[Any] | str | None = Field(default=None, description="not read")


class Rewards(BaseModel):
    """What comes back: one number for each query."""

    rewards: list[float] = Field(description="raw scores")
    scores: list[float] = Field(description="their logistic function, from 0 to 1, by which OpenRLHF filters")
    extra_logs: dict[str, list[float]] = Field(description="name -> numbers that OpenRLHF logs")


def reply(scores: list[Score]) -> dict[str, Any]:
    """Return the body of a reply; of no query all three are empty."""
    values = [score.value for score in scores]
    logs = {
        "assay_truncated": [float(score.truncated) for score in scores],
        "assay_tokens": [float(score.length) for score in scores],
    }
    return {"rewards": values, "scores": expit(values).tolist(), "extra_logs": logs if scores else {}}


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["OpenRLHF"])

    @routes.post("/get_reward", response_model=Rewards, summary="Remote reward of OpenRLHF")
    async def get_reward(body: Query) -> JSONResponse:
        queries = [body.query] if isinstance(body.query, str) else body.query
        return JSONResponse(reply(await service.score([Conversation(text=text) for text in queries])))

    return routes
