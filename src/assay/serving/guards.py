"""What stands before every route: names of the host, the key, and a limit of size and time for bodies."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.serving.problems import problem

#: What is read and thrown away of a body that is too large, so that the client reads the answer: bytes and seconds.
_DRAINED, _DRAINING = 64 * 2**20, 5.0


class Keys:
    """Tells requests that hold the key: as a bearer token, ``X-API-Key``, a password, or a session's cookie.

    A password (``http://assay:KEY@host``) serves clients that can be told an address only. Comparisons take the same
    time whatever they compare.

    Parameters
    ----------
    key
        None: everybody may.
    """

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.strip().encode()
        self._session = secrets.token_urlsafe(32).encode()
        # browsers share cookies between all ports of a host: a server must not overwrite that of another
        self.cookie = f"assay_{hashlib.sha256(self._session).hexdigest()[:12]}"

    @property
    def needed(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def fits(self, key: str) -> bool:
        """Whether this is the key."""
        return self._key is None or hmac.compare_digest(key.encode("utf-8", "surrogatepass"), self._key)

    @property
    def session(self) -> str:
        """What the cookie of a session holds."""
        return self._session.decode()

    def allow(self, headers: Headers) -> bool:
        """Whether a request may."""
        if self._key is None:
            return True
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.fits(value.strip()):
            return True
        if kind.lower() == "basic" and self.fits(_password(value)):
            return True
        if "x-api-key" in headers and self.fits(headers["x-api-key"]):
            return True
        held = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return hmac.compare_digest(held.encode("utf-8", "surrogatepass"), self._session)


def _password(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


@dataclass(frozen=True)
class Rules:
    """What requests must keep to.

    Attributes
    ----------
    keys
        Of those who may.
    open_paths
        Answered without a key.
    hosts
        Names that the header ``Host`` may hold, without port; None: any. It keeps pages of other sites, whose names
        were pointed here, from reading what a server without a key answers.
    most_bytes
        Of a body.
    body_seconds
        Until it must be there.
    """

    keys: Keys
    open_paths: frozenset[str] = frozenset()
    hosts: Sequence[str] | None = None
    most_bytes: int = 8 * 2**20
    body_seconds: float = 30.0


class Guards:
    """Reads each body as a whole, within limits, before a route sees it.

    Parameters
    ----------
    app
        What comes behind.
    rules
        What requests must keep to.
    answered
        Called with route, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, rules: Rules, answered: Callable[[str, int, float], None]) -> None:
        self._app, self._rules, self._answered = app, rules, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._serve(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._answered(route, status, time.perf_counter() - start)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        rules, headers = self._rules, Headers(scope=scope)
        refusal = None
        if rules.hosts is not None and _host(headers.get("host", "")) not in rules.hosts:
            refusal = problem(
                403,
                "wrong_host",
                "this server does not answer under this name",
                expected=", ".join(rules.hosts),
                remedy="--allowed-hosts NAME where it is to be known by another one",
            )
        elif scope["path"] not in rules.open_paths and _of_another_site(headers):
            refusal = problem(403, "cross_site", "a page of another site asked this", expected="this server's own page")
        elif scope["path"] not in rules.open_paths and not rules.keys.allow(headers):
            refusal = problem(
                401,
                "no_key",
                "the key is missing or wrong",
                expected="Authorization: Bearer KEY, X-API-Key: KEY, or http://assay:KEY@host",
            )
        length = headers.get("content-length", "0")
        declared = int(length) if length.isdigit() else 0
        if refusal is not None or declared > rules.most_bytes:
            await _drain(receive)
            await (refusal or _too_large(rules.most_bytes))(scope, receive, send)
            return
        try:
            async with asyncio.timeout(rules.body_seconds):
                body = await _body(receive, rules.most_bytes)
        except TimeoutError:
            late = problem(408, "slow_body", f"the body was not there within {rules.body_seconds:g} seconds")
            late.headers["Connection"] = "close"
            await late(scope, receive, send)
            return
        if body is None:
            await _drain(receive)
            await _too_large(rules.most_bytes)(scope, receive, send)
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json" and not kind.endswith("+json"):
            wrong = problem(
                415,
                "no_json",
                "the body does not say that it is JSON",
                expected="Content-Type: application/json",
                got=kind or "nothing",
            )
            await wrong(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


def _of_another_site(headers: Headers) -> bool:
    """Whether a browser says that a page from elsewhere asks; programs say nothing of the kind."""
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _too_large(most: int) -> Any:
    found = problem(
        413, "too_large", "the body is too large", expected=f"at most {most:,} bytes", remedy="send several requests"
    )
    found.headers["Connection"] = "close"
    return found


def _host(name: str) -> str:
    """Return a host header without its port."""
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].lower()


async def _body(receive: Receive, most: int) -> bytes | None:
    """Read a body; None if it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client went away
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _drain(receive: Receive) -> None:
    """Throw away what is left of a body: a client that still writes would not read the answer."""
    left = _DRAINED
    try:
        async with asyncio.timeout(_DRAINING):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read before."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
