"""From cells of policies to tables, verdicts and a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from summary import RESULTS, DataSet, circumstances, describe_arm, finished_cells, judged, verdict_row

from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

CLAIMS = (
    ("MMPO over DPO", "dpo"),
    ("MMPO over DPO with smoothed verdicts", "cdpo"),
    ("MMPO over shuffled gaps", "shuffled"),
)
SIZES = {"accuracy": 0.02, "nll": 0.01}
MMPO = "mmpo_1"
FIGURES = (
    ("nll_raw", "NLL raw"),
    ("nll_calibrated", "NLL calibrated"),
    ("ece_debiased_raw", "debiased ECE raw"),
    ("ece_debiased_calibrated", "debiased ECE calibrated"),
)


def write_policies(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/policies.json`` and ``policies.md``."""
    cells = finished_cells(folder)
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[cell["cell"].rsplit(".", 1)[0]].append(cell)
    verdicts: list[dict[str, Any]] = []
    sets: dict[str, Any] = {}
    for name, many in by_set.items():
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for cell in many:
            for arm, run in cell["arms"].items():
                runs[arm].append(run)
        data = DataSet(name, [{"cell": f"{name}.{_key(arm)}.all", "runs": own} for arm, own in runs.items()])
        verdicts += _verdicts(data, many)
        arms = {arm: describe_arm(data, _key(arm)) for arm in runs}
        sets[name] = {"arms": arms, "wins": _win_rates(many), "seconds": data.seconds}
    result = {"study": study, "verdicts": verdicts, "sets": sets, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _key(arm: str) -> str:
    """Name an arm without a full stop, which parts the names of cells."""
    return arm.replace(".", "_")


def _verdicts(data: DataSet, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for claim, other in CLAIMS:
        for metric, size in SIZES.items():
            terms = data.paired(f"{MMPO}@3", f"{other}@3", metric)
            if terms is not None:
                found.append(verdict_row(claim, metric, data.name, data, terms, size))
    rises = [data.paired(f"{arm}@3", f"{arm}@9", "nll") for arm in ("dpo", MMPO)]
    if rises[0] is not None and rises[1] is not None:
        claim = "MMPO over-fits less than DPO"
        found.append(verdict_row(claim, "rise of nll", data.name, data, rises[0] - rises[1], SIZES["nll"]))
    wins = _win_terms(cells, MMPO, "dpo")
    claim = "MMPO wins more often against where it began than DPO"
    found.append(judged(claim, "win rate", data.name, hierarchical_effect(*wins), SIZES["accuracy"]))
    return found


def _win_terms(cells: list[dict[str, Any]], arm: str, other: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return preferences (or their differences) ``[seeds, prompts]``, weights and groups; every seed has its own."""
    groups = [f"{cell['cell']} {group}" for cell in cells for group in cell["wins"]["group"]]
    terms, first = np.full((len(cells), len(groups)), np.nan), 0
    for row, cell in enumerate(cells):
        own = np.array(cell["wins"]["preferred"][arm])
        own = own - (0.0 if other is None else np.array(cell["wins"]["preferred"][other]))
        terms[row, first : first + len(own)] = own
        first += len(own)
    return terms, np.ones(len(groups)), np.array(groups, object)


def _win_rates(cells: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for arm in cells[0]["wins"]["preferred"]:
        effect = hierarchical_effect(*_win_terms(cells, arm, None))
        lengths = [
            np.mean(cell["wins"]["length"][arm]) / max(np.mean(cell["wins"]["length"]["sft"]), 1) for cell in cells
        ]
        found[arm] = {"win_rate": effect.value, "ci95": list(effect.ci95), "longer": float(np.mean(lengths))}
    return found


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    for name, found in result["sets"].items():
        lines += [
            f"## {name}",
            "",
            f"| arm and passes | accuracy | {' | '.join(title for _, title in FIGURES)} |",
        ]
        lines += ["|---" * (2 + len(FIGURES)) + "|"]
        for arm, row in found["arms"].items():
            lines.append(_line(arm, row))
        lines += ["", "| arm | win rate against where it began | length |", "|---|---|---|"]
        for arm, row in found["wins"].items():
            low, high = row["ci95"]
            lines.append(f"| {arm} | {row['win_rate']:.1%} ({low:.1%} to {high:.1%}) | {row['longer']:.2f} times |")
        lines.append("")
    seconds = sum(found["seconds"] for found in result["sets"].values())
    return "\n".join(
        [*lines, f"Training took {seconds / 60:.0f} minutes of one thread in all, on {ran_on(result)}", ""]
    )


def _line(arm: str, row: dict[str, Any]) -> str:
    low, high = row["accuracy"]["ci95"]
    cells = [f"{row['accuracy']['value']:.1%} ({low:.1%} to {high:.1%})"]
    return f"| {' | '.join([arm, *cells, *_figures(row)])} |"


def _figures(row: dict[str, Any]) -> list[str]:
    return [f"{row[name]:.3f}" if isinstance(row.get(name), float) else "–" for name, _ in FIGURES]
