"""From the finished sets of `label_models` to its result file and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells, judged

from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

#: (claim, peer, metric, smallest effect)
CONTRASTS = (
    ("the default against snorkel", "snorkel", "nll", 0.002),
    ("the default against Dawid-Skene with judgements", "dawid_skene_taught", "nll", 0.002),
    ("the default against a majority of votes", "majority", "accuracy", 0.01),
)
DEFAULT = "correlated"
MEANS = ("nll_raw", "nll_temperature", "ece", "in_null_band", "sure")
COLUMNS = (
    "label model", "accuracy", "95 % interval", "the default is better by", "NLL raw", "temperature", "Platt",
    "the default saves", "ECE", "in null band", "above 95 %",
)  # fmt: skip
NAMES = {
    "correlated": "correlated (default)",
    "symmetric": "symmetric, from judgements",
    "confusion": "confusion tables, from judgements",
    "logistic": "logistic",
    "em": "symmetric, EM",
    "triplets": "symmetric, triplets",
    "majority": "majority",
    "length": "length alone",
    "snorkel": "snorkel LabelModel",
    "dawid_skene": "crowd-kit Dawid-Skene",
    "dawid_skene_taught": "crowd-kit Dawid-Skene, with judgements",
    "bradley_terry": "crowd-kit noisy Bradley-Terry",
}


def write_label_models(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/label_models.json`` and ``.md`` from the finished cells."""
    cells = finished_cells(folder)
    order = {name: place for place, name in enumerate(planned)}
    cells.sort(key=lambda cell: order[cell["cell"]])
    result = {
        "study": study,
        "verdicts": [row for cell in cells for row in verdicts_on(cell)],
        "sets": {cell["cell"]: cell["about"] | {"arms": arms_of(cell)} for cell in cells},
        **circumstances(planned, cells),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def terms(cell: dict[str, Any], arm: str, metric: str) -> np.ndarray:
    """Return means by seed and group, ``[seeds, groups]``, where more is better; NaN: not tested with this seed."""
    name, sign = ("hits", 1.0) if metric == "accuracy" else ("nll", -1.0)
    return sign * np.array([run["arms"][arm][name] for run in cell["runs"]], np.float64)


def verdicts_on(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge the claims on one set."""
    rows = []
    weight, group = sizes(cell), np.array(cell["group"])
    for claim, peer, metric, smallest in CONTRASTS:
        effect = hierarchical_effect(terms(cell, DEFAULT, metric) - terms(cell, peer, metric), weight, group)
        rows.append(judged(claim, metric, cell["cell"], effect, smallest))
    return rows


def sizes(cell: dict[str, Any]) -> np.ndarray:
    """Return the judged pairs of each group, ``[groups]``: a group is tested on whole or not at all."""
    counts = [next(iter(run["arms"].values()))["count"] for run in cell["runs"]]
    return np.max(np.array(counts, np.float64), axis=0)


def arms_of(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is told of each arm: accuracy and NLL with intervals, and means over seeds."""
    weight, group = sizes(cell), np.array(cell["group"])
    found = {}
    for arm in cell["runs"][0]["arms"]:
        runs = [run["arms"][arm] for run in cell["runs"]]
        found[arm] = {
            "accuracy": hierarchical_effect(terms(cell, arm, "accuracy"), weight, group).to_dict(),
            "nll_platt": -hierarchical_effect(terms(cell, arm, "nll"), weight, group).value,
            "default_over_this": {
                metric: hierarchical_effect(
                    terms(cell, DEFAULT, metric) - terms(cell, arm, metric), weight, group
                ).to_dict()
                for metric in ("accuracy", "nll")
            },
            **{name: float(np.mean([run[name] for run in runs])) for name in MEANS},
            "temperature": float(np.median([run["temperature"] for run in runs])),
        }
    return found


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"])]
    for name, about in result["sets"].items():
        lines += ["", f"## {name}", ""]
        lines += [f"{about['judged']:,} judged pairs with votes of {len(about['functions'])} functions.", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for arm in (each for each in NAMES if each in about["arms"]):
            told = about["arms"][arm]
            low, high = told["accuracy"]["ci95"]
            points, nats = (told["default_over_this"][metric]["ci95"] for metric in ("accuracy", "nll"))
            lines.append(
                f"| {NAMES[arm]} | {100 * told['accuracy']['value']:.1f} % | {100 * low:.1f} to {100 * high:.1f} | "
                f"{_between(points, 100, 1)} | {told['nll_raw']:.4f} | {told['nll_temperature']:.4f} | "
                f"{told['nll_platt']:.4f} | {_between(nats, 1, 4)} | {told['ece']:.3f} | "
                f"{100 * told['in_null_band']:.0f} % | {100 * told['sure']:.0f} % |"
            )
    lines += [
        "",
        "Intervals are of 95 %; differences in points, and in nats after Platt. ECE, and whether it lies in the "
        "band of a perfectly calibrated model: after Platt. Above 95 %: share of pairs that the raw model "
        "claims to know so surely.",
        "",
        f"Peers: {', '.join(sorted({told for about in result['sets'].values() for told in about['peers']}))}.",
        "",
        ran_on(result),
        "",
    ]
    return "\n".join(lines)


def _between(interval: Sequence[float], times: float, digits: int) -> str:
    low, high = (times * end for end in interval)
    return f"{low:+.{digits}f} to {high:+.{digits}f}" if low or high else "–"
