"""From finished cells of ``token_credit`` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from story_summary import at_divergence, equal_divergence, means, median_of, seed_verdict, smooth, standardised
from summary import RESULTS, circumstances, finished_cells

from assay.output import write_atomic, write_json

FASTER = "redistributed PPO is ahead of sparse PPO whose critic begins as the reward model"
RLOO = "redistributed RLOO is ahead of RLOO"
#: What was published, and what tells credit from a head start; named after the run, so they decide nothing.
LATER = (("redistributed", "sparse"), ("redistributed", "uniform"), ("redistributed", "shuffled"))
SPARSE = ("sparse", "sparse_rm_critic")


def write_token_credit(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/token_credit.json`` and ``token_credit.md``."""
    cells = finished_cells(folder)
    worlds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        gold, kind, _ = cell["cell"].split(".")
        if kind != "tune":
            loss = "averaged over tokens" if kind == "tokens" else "at the end token"
            worlds[f"{gold} gold, loss {loss}"].append(cell)
    verdicts, tables = [], {}
    later: list[dict[str, Any]] = []
    for world, runs in worlds.items():
        tables[world] = {
            "accuracy": float(np.mean([run["accuracy"] for run in runs])),
            "arms": {arm: _described(runs, arm) for arm in runs[0]["arms"]},
        }
        for claim, better, worse in (
            (FASTER, "redistributed", "sparse_rm_critic"),
            (RLOO, "rloo_redistributed", "rloo"),
        ):
            areas = [_area(run, better) - _area(run, worse) for run in runs]
            verdicts.append(seed_verdict(claim, "mean over all cycles", world, areas))
            ends = [_end(run, better, worse) - _end(run, worse, better) for run in runs]
            verdicts.append(seed_verdict(claim, "at equal divergence", world, ends))
        for better, worse in LATER:
            gap = seed_verdict(
                f"{better} over {worse}",
                "mean over all cycles",
                world,
                [_area(run, better) - _area(run, worse) for run in runs],
            )
            later.append({name: gap[name] for name in ("claim", "metric", "data", "effect", "ci95", "unit")})
    result = {"study": study, "verdicts": verdicts, "later": later, "worlds": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _gold(run: dict[str, Any], arm: str) -> np.ndarray:
    begun = np.array([[row["gold"] for row in own["curve"][:3]] for own in run["arms"].values()])
    return standardised(run["arms"][arm]["curve"], float(begun[:, 0].mean()), run["deviation"])


def _area(run: dict[str, Any], arm: str) -> float:
    return float(_gold(run, arm).mean())


def _end(run: dict[str, Any], arm: str, other: str) -> float:
    """Return gold where both arms are as far from the reference as the one that stayed nearer."""
    curve = run["arms"][arm]["curve"]
    return at_divergence(curve, _gold(run, arm), equal_divergence(curve, run["arms"][other]["curve"]))


def _described(runs: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    """Return what an arm reached: gold over all cycles and in the last ten, and the curves' means."""
    curves = [run["arms"][arm]["curve"] for run in runs]
    return {
        "rate": runs[0]["arms"][arm]["rate"],
        "area": float(np.mean([_area(run, arm) for run in runs])),
        "steps_to_sparse": [_steps(run, arm) for run in runs],
        **means(curves),
        "first_spread": float(np.mean([curve[0].get("spread", np.nan) for curve in curves])),
    }


def _steps(run: dict[str, Any], arm: str) -> int | None:
    """Return the cycle at which an arm reaches the last level of the best sparse arm; None: never."""
    level = max(smooth(_gold(run, name))[-1] for name in SPARSE)
    reached = np.flatnonzero(smooth(_gold(run, arm)) >= level)
    return int(reached[0]) + 1 if len(reached) else None


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += ["Named after the run, so no verdicts (gold over all cycles, deviations; 95 % intervals over seeds):", ""]
    lines += ["| gap | data | effect | 95 % interval |", "|---|---|---|---|"]
    for gap in result["later"]:
        low, high = gap["ci95"]
        lines.append(f"| {gap['claim']} | {gap['data']} | {gap['effect']:+.2f} | {low:+.2f} to {high:+.2f} |")
    lines.append("")
    for world, found in result["worlds"].items():
        lines += [f"## {world}", "", f"Accuracy of the reward models: {100 * found['accuracy']:.1f} %.", ""]
        heads = ("arm", "rate", "gold, all cycles", "gold, last ten", "divergence", "length", "spread of advantages")
        lines += [f"| {' | '.join((*heads, 'cycles to sparse'))} |", "|---" * (len(heads) + 1) + "|"]
        for arm, row in found["arms"].items():
            lines.append(
                f"| {arm} | {row['rate']:g} | {row['area']:+.2f} | {row['gold']:+.2f} | {row['divergence']:.1f} | "
                f"{row['length']:.0f} | {row['spread']:.2f} | {median_of(row['steps_to_sparse'])} |"
            )
        lines.append("")
    told = "Gold over all cycles is in standard deviations over the start; cycles to sparse: until an arm is where "
    told += "the better of the two sparse arms ends."
    return "\n".join([*lines, f"{told} {ran_on(result)}", ""])
