"""Routes of judging."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from assay.serving.judging.desk import Desk
from assay.serving.problems import problem


class JudgementIn(BaseModel):
    """A judgement of the pair as it was shown."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(description="made by the client; sent again it counts once")
    pair: str
    annotator: str
    strength: int | None = Field(description="3: the first one much better, 0: a tie, -3; null: passed over")
    turned: bool | None = Field(default=None, description="as the pair came, to be compared with what was shown")
    seconds: float | None = Field(default=None, ge=0)


class UndoIn(BaseModel):
    """A judgement to withdraw."""

    model_config = ConfigDict(extra="forbid")

    token: str
    annotator: str


def router(desk: Desk) -> APIRouter:
    """Return the routes; a database that is lost meanwhile is answered with 503, and the client tries again."""
    routes = APIRouter(prefix="/judge", tags=["judging"])

    async def answered(function: Any, *given: Any) -> Response:
        try:
            found = await run_in_threadpool(function, *given)
            return found if isinstance(found, Response) else JSONResponse(found)
        except SQLAlchemyError as error:
            return problem(
                503,
                "database",
                "the database of judgements does not answer",
                got=type(error).__name__,
                remedy="nothing that was acknowledged is lost: send what was not again",
            )

    @routes.get("/next", summary="The next pair for an annotator")
    async def following(annotator: str = Query()) -> Response:
        return await answered(desk.next, annotator)

    @routes.post("", summary="Judge a pair")
    async def judge(body: JudgementIn) -> Response:
        def keep() -> dict[str, Any]:
            new = desk.judge(
                body.token, body.pair, body.annotator, body.strength, turned=body.turned, seconds=body.seconds
            )
            return {"kept": True, "new": new}

        return await answered(keep)

    @routes.post("/undo", summary="Withdraw a judgement")
    async def undo(body: UndoIn) -> Response:
        return await answered(lambda: {"undone": True, "stood": desk.undo(body.token, body.annotator)})

    @routes.get("/status", summary="Progress and agreement")
    async def status() -> Response:
        return await answered(desk.status)

    @routes.get("/export", summary="All judgements as comparisons, JSON Lines that every verb reads")
    async def export() -> Response:
        def written() -> Response:
            # whole before it is sent: a reader that is slow holds no connection to the database
            lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in desk.store.export())
            headers = {"Content-Disposition": 'attachment; filename="comparisons.jsonl"'}
            return Response(lines, media_type="application/x-ndjson", headers=headers)

        return await answered(written)

    return routes
