"""The application: routes of all wire formats over one service, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from assay import __version__
from assay.scorers.card import card_text
from assay.serving import page
from assay.serving.formats import llama_factory, native, openrlhf, vllm
from assay.serving.guards import Guards, Keys, Rules
from assay.serving.problems import add_answers, problem
from assay.serving.service import Service

#: Answered without a key: whether the server lives, and the page, which holds nothing before a key is given.
OPEN = frozenset({"/health", "/session", *page.PATHS})


class KeyIn(BaseModel):
    """The key, as the page sends it."""

    key: str


def create_app(
    service: Service, rules: Rules, more: Sequence[APIRouter] = (), closing: Sequence[Callable[[], None]] = ()
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    service
        The model behind its queue; it is closed when the application ends.
    rules
        What requests must keep to.
    more
        Further routes, such as those of the page.
    closing
        Called at the end.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()
        for close in closing:
            close()

    app = FastAPI(
        title="assay",
        version=__version__,
        description="Scores of a reward model, in the wire formats of those who train with them.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    add_answers(app, service.limits.timeout_s)
    for routes in (
        native.router(service),
        openrlhf.router(service),
        llama_factory.router(service),
        vllm.router(service),
        _about(service, _parts(more)),
        _sessions(rules.keys),
        page.router(),
        *more,
    ):
        app.include_router(routes)
    app.add_middleware(Guards, rules=rules, answered=service.counters.answered)
    return app


def _about(service: Service, parts: list[str]) -> APIRouter:
    routes = APIRouter(tags=["about"])

    @routes.get("/health", summary="Whether it lives")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": service.batcher.waiting}

    @routes.get("/metrics", summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.counters.text(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/model", summary="What is served, and its card")
    async def model() -> JSONResponse:
        return JSONResponse(described(service) | {"page": ["score", *parts]})

    return routes


def described(service: Service) -> dict[str, Any]:
    """Return what is served."""
    core, own = service.core, service.core.model
    record = own.record
    policy = bool(own.reads_replies)
    return {
        "name": service.name,
        "fingerprint": core.fingerprint,
        "kind": "policy" if policy else "ensemble" if own.config.members > 1 else "reward model",
        "backbone": record.policy.get("base") if policy else own.config.base_model,
        "head": None if policy else own.config.head,
        "members": own.config.members,
        "uncertain": bool(own.is_uncertain),
        "calibrated": core.calibrated,
        "calibration": _short(record.calibration),
        "token_scores": core.why_no_tokens is None,
        "why_no_token_scores": core.why_no_tokens,
        "prototypes": len(record.prototypes),
        "template": record.conversation.template,
        "max_length_tokens": record.conversation.max_length_tokens,
        "truncation": record.conversation.truncation,
        "score": record.score,
        "data": record.data,
        "versions": record.versions,
        "card": None if policy else card_text(own),
        "assay": __version__,
    }


def _parts(more: Sequence[APIRouter]) -> list[str]:
    """Return which parts of the page there are."""
    return [routes.prefix.strip("/") for routes in more]


def _short(calibration: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a calibration without the steps of an isotonic one."""
    if calibration is None:
        return None
    return {name: value for name, value in calibration.items() if not isinstance(value, list)}


def _sessions(keys: Keys) -> APIRouter:
    """Return the route by which the page gives the key once: links cannot carry it."""
    routes = APIRouter(tags=["about"])

    @routes.post("/session", summary="Give the key once, for a browser")
    async def session(body: KeyIn, request: Request) -> Response:
        if not keys.fits(body.key):
            return problem(401, "no_key", "this is not the key")
        found = JSONResponse({"ok": True})
        secure = request.url.scheme == "https"
        found.set_cookie(keys.cookie, keys.session, httponly=True, samesite="strict", secure=secure)
        return found

    return routes
