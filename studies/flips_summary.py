"""From the finished worlds of `flips` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on
from planted_summary import estimate, interval, judged, verdict_table
from summary import RESULTS, circumstances, finished_cells

from assay.output import write_atomic, write_json

OF_THE_ORACLE, COSTLY, WON_BACK, SMALLEST = 0.95, 0.03, 0.5, 0.01
BY = ("strength", "length apart")


def write_flips(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/flips.json`` and ``.md`` from the finished cells."""
    finished = finished_cells(folder)
    cells = {cell["cell"]: cell["found"] for cell in finished}
    worlds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, found in cells.items():
        worlds[name.split(".")[0]].append(found)
    result: dict[str, Any] = {
        "study": study,
        "verdicts": [row for kind, many in worlds.items() for row in verdicts_on(kind, many)],
        "found": {kind: finding(many) for kind, many in worlds.items()},
        "recovery": {kind: recovery(many) for kind, many in worlds.items()},
        **circumstances(planned, finished),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def verdicts_on(kind: str, many: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge the claims on one kind of flips; the second where flips cost enough."""
    rows = []
    for share in _shares(many):
        for by in BY:
            over = [world[share][by]["auc"] / world[share]["oracle"] - OF_THE_ORACLE for world in many]
            rows.append(
                judged(f"AUC of {by} above 95 % of the oracle's", f"{kind}, {float(share):.0%}", over, SMALLEST)
            )
    for learner in many[0]["as drawn"]:
        for share in _shares(many):
            lost = np.array([world["as drawn"][learner] - world[share]["flipped"][learner] for world in many])
            if lost.mean() < COSTLY:
                continue
            for by in BY:
                pairs = [(world[share][by]["accuracy"][learner], world[share]["flipped"][learner]) for world in many]
                won = np.array([cleaned - flipped for cleaned, flipped in pairs])
                claim = f"cleaning by {by} wins back more than half of what {learner} lost"
                rows.append(judged(claim, f"{kind}, {float(share):.0%}", won - WON_BACK * lost, SMALLEST))
    return rows


def finding(many: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum up how well flips are found: a row for each share and strength."""
    return [
        {
            "share": float(share),
            "by": by,
            "auc": estimate([world[share][by]["auc"] for world in many]),
            "of_the_oracle": estimate([world[share][by]["auc"] / world[share]["oracle"] for world in many]),
            "turned_rightly": estimate([world[share][by]["turned_rightly"] for world in many]),
        }
        for share in _shares(many)
        for by in BY
    ]


def recovery(many: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum up what flips cost and cleaning wins back: a row for each learner, share and strength."""
    rows = []
    for learner in many[0]["as drawn"]:
        drawn = np.array([world["as drawn"][learner] for world in many])
        for share in _shares(many):
            flipped = np.array([world[share]["flipped"][learner] for world in many])
            for by in BY:
                cleaned = np.array([world[share][by]["accuracy"][learner] for world in many])
                rows.append(
                    {
                        "learner": learner,
                        "share": float(share),
                        "by": by,
                        "as_drawn": estimate(drawn),
                        "flipped": estimate(flipped),
                        "cleaned": estimate(cleaned),
                        "lost": estimate(drawn - flipped),
                        # of means: single worlds may lose next to nothing
                        "won_back": float((cleaned - flipped).mean() / (drawn - flipped).mean()),
                    }
                )
    return rows


def _shares(many: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in many[0] if name != "as drawn"]


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), "", "## Flips found", ""]
    lines += ["| flips | share | by | AUC | of the oracle's | turned rightly |", "|---|---|---|---|---|---|"]
    for kind, rows in result["found"].items():
        for row in rows:
            told = [interval(row[name]) for name in ("auc", "of_the_oracle", "turned_rightly")]
            lines.append(f"| {kind} | {row['share']:.0%} | {row['by']} | {' | '.join(told)} |")
    lines += ["", "## Accuracy lost and won back", ""]
    lines += ["| learner | flips | share | as drawn | flipped | cleaned by | cleaned | won back |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for kind, rows in result["recovery"].items():
        for row in rows:
            told = [row["learner"], kind, f"{row['share']:.0%}", interval(row["as_drawn"]), interval(row["flipped"])]
            won = f"{row['won_back']:.0%}" if row["lost"]["value"] >= COSTLY else "(little lost)"
            lines.append(f"| {' | '.join([*told, row['by'], interval(row['cleaned']), won])} |")
    return "\n".join([*lines, "", ran_on(result), ""])
