"""From finished cells of ``safety`` to its result file and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from story_summary import means, seed_verdict
from summary import RESULTS, circumstances, finished_cells

from assay.output import write_atomic, write_json

ARMS = ("redistributed", "sparse", "reward_only")


def write_safety(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/safety.json`` and ``safety.md``."""
    cells = finished_cells(folder)
    ends = {arm: [_end(cell, arm) for cell in cells] for arm in ARMS}
    claims = {
        "redistributed keeps to the budget": ("cost", [one["budget"] - one["cost"] for one in ends["redistributed"]]),
        "sparse keeps to the budget": ("cost", [one["budget"] - one["cost"] for one in ends["sparse"]]),
        "redistributed earns more than sparse": ("reward", _gaps(ends, "reward", "redistributed", "sparse")),
        "redistributed costs less than the reward alone": ("cost", _gaps(ends, "cost", "reward_only", "redistributed")),
    }
    verdicts = [seed_verdict(claim, metric, "hh_rlhf", gaps) for claim, (metric, gaps) in claims.items()]
    arms = {arm: {name: float(np.mean([one[name] for one in many])) for name in many[0]} for arm, many in ends.items()}
    accuracy = {role: float(np.mean([cell["accuracy"][role] for cell in cells])) for role in ("reward", "cost")}
    told = {"study": study, "verdicts": verdicts, "arms": arms, "accuracy": accuracy}
    result = {**told, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _end(cell: dict[str, Any], arm: str) -> dict[str, float]:
    """Return where an arm ends, in deviations over the start."""
    last = means([cell["arms"][arm]["curve"]])
    (reward, spread), (cost, wide) = cell["scale"]["reward"], cell["scale"]["cost"]
    # what watches is the cost model, also where it takes no part
    found = {
        "reward": (last["reward"] - reward) / spread,
        "cost": (last["gold"] - cost) / wide,
        "budget": (cell["budget"] - cost) / wide,
        "multiplier": last.get("multiplier", 0.0),
        "divergence": last["divergence"],
        "length": last["length"],
    }
    begun = cell["arms"]["begun"]
    return found | {role: cell["arms"][arm][role] - begun[role] for role in ("help", "harm")}


def _gaps(ends: dict[str, list[dict[str, float]]], name: str, more: str, less: str) -> list[float]:
    return [one[name] - other[name] for one, other in zip(ends[more], ends[less], strict=True)]


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    columns = ("reward", "cost", "budget", "multiplier", "divergence", "length", "help", "harm")
    lines += [f"| arm, last ten cycles | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for arm, row in result["arms"].items():
        lines.append(f"| {arm} | {' | '.join(f'{row[name]:.2f}' for name in columns)} |")
    accuracy = " and ".join(f"{100 * result['accuracy'][role]:.1f} % ({role})" for role in ("reward", "cost"))
    told = "Reward, cost and budget are in deviations over the start; help and harm are the judges' mean scores of "
    told += f"answers to held-out prompts, above what they were. Accuracy on the other halves: {accuracy}."
    return "\n".join([*lines, "", f"{told} {ran_on(result)}", ""])
