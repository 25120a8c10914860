"""The page: a few static files of this package; no build step, nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

_KINDS = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_FILES = ("index.html", "style.css", "app.js", "kit.js", "score.js", "data.js", "judge.js", "runs.js")
#: Paths that are answered without a key: they hold no data.
PATHS = ("/", *(f"/page/{name}" for name in _FILES[1:]))
#: Scripts and styles of our own only; texts of strangers can bring none, and nothing is sent elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def router() -> APIRouter:
    """Return the routes of the files."""
    routes = APIRouter(include_in_schema=False)
    place = files("assay.serving") / "inspector"
    for path, name in zip(PATHS, _FILES, strict=True):
        _add(routes, path, (place / name).read_bytes(), _KINDS[name.rpartition(".")[2]])
    return routes


def _add(routes: APIRouter, path: str, content: bytes, kind: str) -> None:
    @routes.get(path)
    async def file() -> Response:
        return Response(content, media_type=kind, headers=HEADERS | {"Content-Security-Policy": POLICY})
