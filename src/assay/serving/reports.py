"""Reports of runs: which there are below a folder, and their pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from assay.serving.page import HEADERS
from assay.serving.problems import NotThere

_PAGE, _DEEPEST, _MOST = "report.html", 4, 500
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL | re.IGNORECASE)
# A report holds texts of strangers: it may run its own small scripts, in an origin of its own that reaches nothing.
_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class Report:
    """A page of a run.

    Attributes
    ----------
    name
        Its folder below that of all runs, with slashes.
    path
        Of the page.
    title
        As the page says it.
    changed
        When it was written, ISO 8601.
    figures
        Some of ``metrics.json`` beside it.
    """

    name: str
    path: Path
    title: str
    changed: str
    figures: dict[str, Any]


def reports(folder: Path) -> list[Report]:
    """Return the reports below a folder, the newest first; links out of it are not followed."""
    found = [_report(folder, page) for page in _pages(folder)]
    return sorted(found, key=lambda report: report.changed, reverse=True)[:_MOST]


def _pages(folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() or entry.name.startswith("."):
            continue
        if entry.is_file() and entry.name == _PAGE:
            yield entry
        elif entry.is_dir() and depth < _DEEPEST:
            yield from _pages(entry, depth + 1)


def _report(folder: Path, page: Path) -> Report:
    below = page.parent.relative_to(folder).as_posix()
    name = "-" if below == "." else below  # a browser would take a dot out of an address
    with page.open(encoding="utf-8", errors="replace") as file:
        title = _TITLE.search(file.read(20_000))
    changed = datetime.fromtimestamp(page.stat().st_mtime, UTC).isoformat(timespec="seconds")
    shown = unescape(title.group(1)).strip() if title else name
    return Report(name, page, shown, changed, _figures(page.with_name("metrics.json")))


def _figures(path: Path) -> dict[str, Any]:
    """Return accuracy and calibration error of a run, where its metrics tell them."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = held.get("evaluation") or {}
    except (OSError, ValueError, AttributeError):
        return {}
    figures = {"accuracy": found.get("accuracy"), "ece": (found.get("calibrated") or found).get("ece")}
    plain = {name: value.get("value") if isinstance(value, dict) else value for name, value in figures.items()}
    return {name: value for name, value in plain.items() if isinstance(value, int | float)}


def router(folder: str) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/runs", tags=["runs"])
    place = Path(folder).expanduser()

    @routes.get("", summary="Reports of runs")
    async def all_of_them() -> JSONResponse:
        found = await run_in_threadpool(reports, place)
        keys = ("name", "title", "changed", "figures")
        return JSONResponse([{key: getattr(report, key) for key in keys} for report in found])

    @routes.get("/{name:path}/report.html", summary="One report")
    async def one(name: str) -> Response:
        # only what was found is ever opened, so no name leads out of the folder
        page = next((report.path for report in await run_in_threadpool(reports, place) if report.name == name), None)
        if page is None:
            raise NotThere("there is no such report", got=name)
        content = await run_in_threadpool(page.read_bytes)
        headers = HEADERS | {"Content-Security-Policy": _POLICY}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    return routes
