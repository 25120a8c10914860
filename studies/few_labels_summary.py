"""From the cells of `few_labels` to its tables, verdicts and figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.efficiency import Comparison, HeldOut, Uncertain
from assay.evaluation.figures import data_efficiency
from assay.output import write_atomic, write_json
from assay.workflows.study_results import comparison_of, notes, results_of, table
from assay.workflows.study_settings import StudySettings

SMALLEST = 0.02
#: Claim, method and fraction, what it is compared with, and what it may lie below.
CLAIMS = (
    ("Proto-RM with 20 % of the labels is comparable with BT with all", ("prototypes", 0.2), ("bt", 1.0), SMALLEST),
    ("Proto-RM above BT at 5 %", ("prototypes", 0.05), ("bt", 0.05), 0.0),
    ("Proto-RM above an MLP of its size at 5 %", ("prototypes", 0.05), ("mlp_large", 0.05), 0.0),
)
COMBINED = (
    ("ours with 20 % of the labels reaches BT with all", ("ours", 0.2), ("bt", 1.0), 0.0),
    ("ours above SER at 20 %", ("ours", 0.2), ("ser", 0.2), 0.0),
)


def write_few_labels(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/few_labels.json``, ``.md`` and a figure per set."""
    cells = finished_cells(folder)
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[cell["cell"].split(".")[0]].append(cell)
    settings = StudySettings(data="-", out="-", folds=5, resamples=2000)
    sets: dict[str, Any] = {}
    verdicts: list[dict[str, Any]] = []
    for name, many in by_set.items():
        tested = next((cell["test"] for cell in many if "test" in cell), None)
        if tested is None:
            continue  # the baseline has not run yet
        given = [cell for each in many for cell in each["cells"]]
        held_out = HeldOut(
            np.array(tested["p"]), np.array(tested["w"]), np.array(tested["group"]), np.array(tested["part"])
        )
        comparison = comparison_of(settings, held_out, given)
        sets[name] = results_of(settings, held_out, given)
        gain = comparison.learns()
        informative = gain is not None and gain.value > 2 * gain.standard_error
        verdicts += [row | {"data": name, "informative": informative} for row in _verdicts(comparison)]
        points = {
            method: [(row["labels"], row["accuracy"]["value"], *row["accuracy"]["ci95"]) for row in rows]
            for method, rows in sets[name]["methods"].items()
        }
        write_atomic(RESULTS / f"{study}_{name}.svg", data_efficiency(points, "bt"))
    result = {"study": study, "verdicts": verdicts, "sets": sets, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _verdicts(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for claim, of, over, below in (*CLAIMS, *COMBINED):
        try:
            found = comparison.difference(of, over)
        except KeyError:
            continue
        rows.append({"claim": claim, "metric": "accuracy", **_row(found, below)})
    return rows


def _row(found: Uncertain, below: float) -> dict[str, Any]:
    """Judge a claim; one of being comparable holds where the interval lies above minus the smallest effect."""
    low, high = found.ci95
    verdict = (
        "holds" if low + below > 0 else "does not hold" if high + below < (SMALLEST if below == 0 else 0) else None
    )
    return {
        "verdict": verdict or "undecided",
        "negligible": max(abs(low), abs(high)) < SMALLEST,
        "effect": found.value,
        "ci95": list(found.ci95),
        "smallest_effect": SMALLEST,
        "minimum_detectable_effect": 2.8 * found.standard_error,
        "seeds": 10,
    }


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [f"# Study: {study.replace('_', ' ')}", "", "```text", docstring.strip(), "```", ""]
    if result["cells_missing"]:
        missing = result["cells_missing"]
        lines += [f"**Not finished:** {len(missing)} planned cells have not run: {', '.join(missing)}.", ""]
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    for name, found in result["sets"].items():
        columns, rows = table(found)
        lines += [f"## {name}", "", *(f"* {line}" for line in found["recommendation"]), ""]
        lines += [f"![accuracy by number of labels]({study}_{name}.svg)", ""]
        lines += [
            f"| {' | '.join(columns)} |",
            "|" + "---|" * len(columns),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        lines += ["", *notes(found), ""]
    seconds = sum(found["cell_seconds"] for found in result["sets"].values())
    return "\n".join(
        [*lines, f"Training took {seconds / 3600:.1f} hours of one thread in all, on {ran_on(result)}", ""]
    )
