"""From cells of methods on fractions to tables, verdicts and figures; for `few_labels` and its relatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.efficiency import HeldOut, Uncertain
from assay.evaluation.figures import data_efficiency
from assay.output import write_atomic, write_json
from assay.workflows.study_results import comparison_of, notes, results_of, table
from assay.workflows.study_settings import StudySettings

FOLDS = 5
#: A claim, a method and its fraction, what it is compared with, and by how much it may lie below that: where this is
#: above 0, the claim is that it is comparable.
Claim = tuple[str, tuple[str, float], tuple[str, float], float]


def write_methods(
    study: str,
    docstring: str,
    folder: Path,
    planned: Sequence[str],
    *,
    claims: Sequence[Claim],
    smallest: float = 0.02,
    seeds: int = 10,
    set_of: Callable[[str], tuple[str, str]] = lambda cell: (cell.split(".")[0], "bt"),
    joined: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None,
) -> None:
    """Write ``results/STUDY.json``, ``.md`` and a figure per set.

    Parameters
    ----------
    claims, smallest
        What is tested, and the smallest effect of interest.
    seeds
        How many there are.
    set_of
        What a cell is compared within, and the baseline there.
    joined
        Turns cells into ``method, fraction, runs``; None: they are kept like that.
    """
    cells = finished_cells(folder)
    by_set: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[set_of(cell["cell"])].append(cell)
    sets: dict[str, Any] = {}
    verdicts: list[dict[str, Any]] = []
    for (name, baseline), many in by_set.items():
        tested = next((cell["test"] for cell in many if "test" in cell), None)
        given = joined(many) if joined is not None else [cell for each in many for cell in each["cells"]]
        if tested is None or not any(cell["method"] == baseline for cell in given):
            continue  # the baseline has not run yet
        settings = StudySettings(data="-", out="-", folds=FOLDS, resamples=2000, baseline=baseline)
        held_out = HeldOut(*(np.array(tested[key]) for key in ("p", "w", "group", "part")))
        comparison = comparison_of(settings, held_out, given)
        sets[name] = results_of(settings, held_out, given)
        gain = comparison.learns()
        about = {"data": name, "seeds": seeds, "smallest_effect": smallest}
        about["informative"] = gain is not None and gain.value > 2 * gain.standard_error
        for claim, of, over, below in claims:
            try:
                found = comparison.difference(of, over)
            except KeyError:
                continue  # a method that this set has not, or not yet
            verdicts.append({"claim": claim, "metric": "accuracy", **_row(found, below, smallest), **about})
        points = {
            method: [(row["labels"], row["accuracy"]["value"], *row["accuracy"]["ci95"]) for row in rows]
            for method, rows in sets[name]["methods"].items()
        }
        write_atomic(RESULTS / figure_of(study, name), data_efficiency(points, baseline))
    result = {"study": study, "verdicts": verdicts, "sets": sets, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def figure_of(study: str, name: str) -> str:
    """Return the name of a set's figure."""
    return f"{study}_{name.replace(', ', '_')}.svg"


def _row(found: Uncertain, below: float, smallest: float) -> dict[str, Any]:
    """Judge a claim; one of being comparable holds where the interval lies above minus what it may lie below."""
    refuted = found.ci90[1] < (smallest if below == 0 else -below)
    return {
        "verdict": "holds" if found.ci95[0] + below > 0 else "does not hold" if refuted else "undecided",
        "negligible": below == 0 and max(map(abs, found.ci90)) < smallest,
        "effect": found.value,
        "ci95": list(found.ci95),
        "minimum_detectable_effect": 2.8 * found.standard_error,
    }


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    for name, found in result["sets"].items():
        columns, rows = table(found)
        lines += [f"## {name}", "", *(f"* {line}" for line in found["recommendation"]), ""]
        lines += [f"![accuracy by number of labels]({figure_of(study, name)})", ""]
        lines += [
            f"| {' | '.join(columns)} |",
            "|" + "---|" * len(columns),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        lines += ["", *notes(found), ""]
    seconds = sum(found["cell_seconds"] for found in result["sets"].values())
    took = f"Training took {seconds / 3600:.1f} hours of one thread in all, on" if seconds else "It ran on"
    return "\n".join([*lines, f"{took} {ran_on(result)}", ""])
