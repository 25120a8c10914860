"""The report of an online run: curves, warnings, and responses before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.config import dump_yaml
from assay.evaluation import figures
from assay.evaluation.heat import heat
from assay.evaluation.report import page_environment
from assay.output import write_atomic
from assay.workflows.online_settings import OnlineSettings

#: Title -> curves that share an axis, those that are there.
_FIGURES = {
    "Reward": ("reward", "gold"),
    "Divergence from the reference, nats a response": ("divergence",),
    "Entropy, nats a token": ("entropy",),
    "Length, tokens": ("length",),
    "Shares": ("cut", "clipped", "explained by the critic"),
}


def write_online_report(
    path: Path,
    settings: OnlineSettings,
    told: dict[str, Any],
    history: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    *,
    created: str,
) -> None:
    """Write one self-contained page."""
    drawn = {}
    for number, (title, names) in enumerate(_FIGURES.items()):
        curves = {
            name: [(float(entry["cycle"]), float(entry[name])) for entry in history if name in entry] for name in names
        }
        curves = {name: curve for name, curve in curves.items() if curve}
        if curves:
            drawn[title] = figures.curves(f"online{number}", curves, "cycle")
    largest = max((abs(c) for row in rows for side in ("before", "after") for c in row[side]["credit"]), default=0.0)
    samples = [
        {"prompt": row["prompt"]}
        | {
            side: {**row[side], "heat": heat("", row[side]["tokens"], _prefixes(row[side]["credit"]), largest)}
            for side in ("before", "after")
        }
        for row in rows
    ]
    page = page_environment().get_template("online.html.j2")
    write_atomic(
        path,
        page.render(
            told=told, settings=settings, config=dump_yaml(settings), figures=drawn, samples=samples, created=created
        ),
    )


def _prefixes(credit: list[float]) -> list[float]:
    found = [0.0]
    for each in credit:
        found.append(found[-1] + each)
    return found
