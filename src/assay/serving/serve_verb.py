"""``assay serve``: score over HTTP, in the wire formats of the peers, with a page to look inside."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.console import say, show
from assay.errors import ConfigError
from assay.scorers.scored import ScoringCore
from assay.serving.serve_settings import LOOPBACK, ServeSettings
from assay.workflows.judging import load_models

if TYPE_CHECKING:
    from fastapi import APIRouter

    from assay.serving.service import Service

_MISSING = "pip install 'assay[serve]'"


def serve(settings: ServeSettings) -> dict[str, Any]:
    """Run `assay serve` until it is told to stop; what was accepted is answered first.

    Raises
    ------
    ConfigError
        If the extra is not installed, the address cannot be used, or other machines would be served without a key.
    """
    _refuse_missing()
    key = _key(settings)
    from assay.serving.app import OPEN, create_app
    from assay.serving.guards import Keys, Rules
    from assay.serving.service import Limits, Service

    (model,) = load_models(settings, [settings.model])
    more, told = _page(settings, model)
    if settings.dry_run:
        return {"dry_run": True, "model": settings.model}
    listener = _listen(settings)
    limits = Limits(settings.timeout_s, settings.waiting, settings.wait_ms, settings.batch_tokens)
    service = Service(ScoringCore(model, settings.token_budget), settings.name or name_of(settings.model), limits)
    rules = Rules(Keys(key), OPEN, _hosts(settings), int(settings.body_mb * 2**20), settings.body_s)
    host, port = listener.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    show(f"{service.name} at {place} (fingerprint {service.core.fingerprint}); a page for people is at {place}/")
    say("a key is needed" if key else "no key is needed" + ("" if settings.host in LOOPBACK else ": anybody may ask"))
    if not service.core.calibrated:
        say("this model is not calibrated: probabilities are those of temperature 1 (assay calibrate)")
    for line in told:
        say(line)
    sys.stdout.flush()  # a program that waits for the address reads a pipe
    _run(create_app(service, rules, more(service)), listener, settings)
    return {"served": True}


def run_server(settings: ServeSettings) -> int:
    """Run the verb; return its exit code."""
    if serve(settings).get("dry_run"):
        show("everything is there; nothing was served")
    return 0


def name_of(model: str) -> str:
    """Return what a model is called: the last part of its place, that of the run for ``run/model``."""
    path = Path(model.rstrip("/"))
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _refuse_missing() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError("what serving needs is not installed", got=str(error), remedy=_MISSING) from error


def _key(settings: ServeSettings) -> str | None:
    """Return the key, and refuse to serve other machines without one."""
    key = os.environ.get(settings.key_variable) or None
    if key is None and settings.host not in LOOPBACK and not settings.open:
        raise ConfigError(
            "other machines would be served without a key",
            where=f"--host {settings.host}",
            expected=f"a key in the environment variable {settings.key_variable}",
            got="none",
            remedy=f"{settings.key_variable}=… assay serve …, or --open to let everybody ask",
        )
    return key


def _hosts(settings: ServeSettings) -> list[str] | None:
    if settings.allowed_hosts is not None:
        return [name.lower() for name in settings.allowed_hosts]
    return ["127.0.0.1", "localhost", "[::1]"] if settings.host in LOOPBACK else None


def _listen(settings: ServeSettings) -> socket.socket:
    """Open the address, before anything slow begins."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ConfigError(
            "this address cannot be used",
            where=f"--host {settings.host} --port {settings.port}",
            got=str(error),
            remedy="another --port (0: a free one), or an address of this machine",
        ) from error
    listener.listen(2048)
    return listener


def _page(settings: ServeSettings, model: Any) -> tuple[Callable[[Service], list[APIRouter]], list[str]]:
    """Read what the page shows; return what makes its routes, and what to say of it."""
    from assay.serving import browsing, reports
    from assay.serving.judging import routes as judging
    from assay.serving.judging.desk import Desk
    from assay.serving.judging.pairs import pairs_to_judge
    from assay.serving.judging.store import JudgementStore

    sources, told = browsing.read_sources(settings.data, settings.rows, settings.reading())
    against = load_models(settings, [settings.against])[0] if settings.against else None
    if settings.runs is not None and not Path(settings.runs).expanduser().is_dir():
        raise ConfigError("there is no such folder of runs", where=f"--runs {settings.runs}")
    desk = None
    if settings.judging.pairs is not None:
        pairs, how = pairs_to_judge(settings, model)
        told.append(how)
        if not settings.dry_run:
            desk = Desk(JudgementStore(settings.judging.database), settings.judging.votes)
            there = desk.store.bring(pairs, settings.judging.shared)
            told.append(f"judgements are kept in {desk.store.shown}, for {there:,} pairs in all")

    def make(service: Service) -> list[APIRouter]:
        found = []
        if sources:
            other = None if against is None else ScoringCore(against, settings.token_budget)
            found.append(browsing.router(browsing.Browser(service, sources, other)))
        if desk is not None:
            found.append(judging.router(desk))
        if settings.runs is not None:
            found.append(reports.router(settings.runs))
        return found

    return make, told


def _run(app: Any, listener: socket.socket, settings: ServeSettings) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.timeout_s) + 1,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
