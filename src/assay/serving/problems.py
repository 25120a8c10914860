"""Errors as HTTP answers: every one of them has the same shape, and says what to try."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from assay.errors import AssayError
from assay.scorers.scored import NoNumber
from assay.serving.batching import Closing, Full

#: Seconds after which a client may try again.
RETRY_AFTER = 1


class BadRequest(AssayError):
    """Raised when a request asks for what makes no sense."""


class TooMany(AssayError):
    """Raised when one request holds more than the queue ever takes."""


class NotThere(AssayError):
    """Raised when what a request names is not there."""


class Conflict(AssayError):
    """Raised when a request contradicts what was stored before."""


_STATUS: list[tuple[type[AssayError], int, str]] = [
    (TooMany, 413, "too_many"),
    (NotThere, 404, "not_there"),
    (Conflict, 409, "conflict"),
    (NoNumber, 500, "no_number"),
    (AssayError, 400, "invalid_request"),
]


def problem(status: int, kind: str, message: str, **more: str | None) -> JSONResponse:
    """Return an error: ``{"error": {"type", "message", …}}``."""
    told = {"type": kind, "message": message} | {name: text for name, text in more.items() if text}
    headers = {"Retry-After": str(RETRY_AFTER)} if status in (429, 503) else None
    return JSONResponse({"error": told}, status, headers)


def of_error(error: AssayError) -> JSONResponse:
    """Return one of our errors as an answer."""
    status, name = next((code, name) for kind, code, name in _STATUS if isinstance(error, kind))
    more = {part: getattr(error, part) for part in ("where", "expected", "got", "remedy")}
    return problem(status, name, error.problem, **more)


def full() -> JSONResponse:
    """Answer that too much is waiting."""
    return problem(
        429, "queue_full", "too much is waiting to be scored", remedy="try again in a second, or send fewer at once"
    )


def add_answers(app: FastAPI, seconds: float) -> None:
    """Let an app answer errors in this way; ``seconds`` is how long a request may take."""

    @app.exception_handler(AssayError)
    async def ours(_: Request, error: AssayError) -> JSONResponse:
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def shape(_: Request, error: RequestValidationError) -> JSONResponse:
        told = error.errors()[0]
        if told["type"] == "json_invalid":
            return problem(400, "malformed_json", f"the body is no JSON: {told.get('ctx', {}).get('error', '')}")
        where = ".".join(str(part) for part in told["loc"][1:])
        return problem(422, "invalid_request", str(told["msg"]), where=where or "body", got=_short(told.get("input")))

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "http", str(error.detail))

    @app.exception_handler(Full)
    async def too_full(_: Request, __: Full) -> JSONResponse:
        return full()

    @app.exception_handler(Closing)
    async def closing(_: Request, __: Closing) -> JSONResponse:
        return problem(503, "closing", "the server is shutting down", remedy="try again when it is back")

    @app.exception_handler(TimeoutError)
    async def late(_: Request, __: TimeoutError) -> JSONResponse:
        return problem(
            504,
            "timeout",
            f"not scored within {seconds:g} seconds",
            remedy="send fewer texts at once, or start the server with a longer --timeout-s",
        )

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "defect", f"{type(error).__name__}: see the server's log")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
