"""``assay serve``: score over HTTP, in the wire formats of the peers, with a page to look inside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.console import say, show
from assay.errors import ConfigError
from assay.scorers.core import ScoringCore
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

    with _address(settings) as listener:  # before anything slow begins
        (model,) = load_models(settings, [settings.model])
        more, told, closing = _page(settings, model)
        if listener is None:
            return {"dry_run": True, "model": settings.model}
        limits = Limits(settings.timeout_s, settings.waiting, settings.wait_ms, settings.batch_tokens)
        service = Service(ScoringCore(model, settings.token_budget), settings.name or name_of(settings.model), limits)
        rules = Rules(Keys(key), OPEN, _hosts(settings), int(settings.body_mb * 2**20), settings.body_s)
        _announce(service, listener, [_who_may(settings, key), *told])
        _run(create_app(service, rules, more(service), closing), listener, settings)
    return {"served": True}


def _announce(service: Service, listener: socket.socket, told: list[str]) -> None:
    host, port = listener.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    show(f"{service.name} at {place} (fingerprint {service.core.fingerprint}); a page for people is at {place}/")
    sys.stdout.flush()  # a program that waits for the address reads a pipe
    if not service.core.calibrated:
        told = [*told, "this model is not calibrated: probabilities are those of temperature 1 (assay calibrate)"]
    for line in told:
        say(line)


def _who_may(settings: ServeSettings, key: str | None) -> str:
    if key:
        return "a key is needed"
    return "no key is needed" + ("" if settings.host in LOOPBACK else ": anybody may ask")


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
    key = os.environ.get(settings.key_variable, "").strip() or None
    if key is not None and not key.isascii():
        raise ConfigError(
            "this key cannot be sent in a header", where=settings.key_variable, expected="letters and digits of ASCII"
        )
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
        return [_host_of(name) for name in settings.allowed_hosts]
    return ["127.0.0.1", "localhost", "[::1]"] if settings.host in LOOPBACK else None


@contextlib.contextmanager
def _address(settings: ServeSettings) -> Iterator[socket.socket | None]:
    """Take the address for as long as it lasts; nobody is listened to yet. None where nothing is to be served."""
    if settings.dry_run:
        yield None
        return
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
    with listener:
        yield listener


def _page(settings: ServeSettings, model: Any) -> tuple[Callable[[Service], list[APIRouter]], list[str], list[Any]]:
    """Read what the page shows; return what makes its routes, what to say of it, and what to call at the end."""
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
            before = there - len(pairs)
            more = f", {before:,} of them from before, which come first" if before > 0 else ""
            told.append(f"judgements are kept in {desk.store.shown}, for {there:,} pairs in all{more}")

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

    return make, told, [] if desk is None else [desk.store.close]


def _host_of(name: str) -> str:
    """Return a host as the header holds it, without a port."""
    bare = name.strip().lower().removeprefix("[").partition("]")[0] if name.count(":") != 1 else name.partition(":")[0]
    return f"[{bare}]" if ":" in bare else bare.lower()


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
