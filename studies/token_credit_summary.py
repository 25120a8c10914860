"""From finished cells of ``token_credit`` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.verdicts import hierarchical_effect, verdict_on
from assay.output import write_atomic, write_json

SMALLEST = 0.1
FASTER = "redistributed PPO is ahead of sparse PPO whose critic begins as the reward model"


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
    for world, runs in worlds.items():
        tables[world] = {arm: _described(runs, arm) for arm in runs[0]["arms"]}
        sides = "redistributed", "sparse_rm_critic"
        verdicts.append(_verdict(FASTER, world, runs, *sides, "mean over all cycles", _area))
        verdicts.append(_verdict(FASTER, world, runs, *sides, "at equal divergence", _at_equal(*sides)))
        claim, other = "redistributed RLOO is ahead of RLOO", ("rloo_redistributed", "rloo")
        verdicts.append(_verdict(claim, world, runs, *other, "mean over all cycles", _area))
    result = {"study": study, "verdicts": verdicts, "worlds": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _gold(run: dict[str, Any], arm: str) -> np.ndarray:
    """Return gold by cycle, in standard deviations over what all arms begin with."""
    begin = [own["curve"][0]["gold"] for own in run["arms"].values()]
    everything = np.array([row["gold"] for own in run["arms"].values() for row in own["curve"][:3]])
    return (np.array([row["gold"] for row in run["arms"][arm]["curve"]]) - np.mean(begin)) / max(everything.std(), 1e-9)


def _area(run: dict[str, Any], arm: str) -> float:
    return float(_gold(run, arm).mean())


def _at_equal(one: str, other: str) -> Any:
    """Return gold where both arms are as far from the reference as the one that stayed nearer."""

    def found(run: dict[str, Any], arm: str) -> float:
        ends = [max(row["divergence"] for row in run["arms"][name]["curve"]) for name in (one, other)]
        away = np.array([row["divergence"] for row in run["arms"][arm]["curve"]])
        order = np.argsort(away)
        return float(np.interp(min(ends), away[order], _smooth(_gold(run, arm)[order])))

    return found


def _smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    padded = np.pad(values, width // 2, mode="edge")
    found: np.ndarray = np.convolve(padded, np.ones(width) / width, mode="valid")
    return found


def _verdict(
    claim: str, world: str, runs: list[dict[str, Any]], better: str, worse: str, metric: str, of: Any
) -> dict[str, Any]:
    gaps = np.array([[of(run, better) - of(run, worse)] for run in runs])
    effect = hierarchical_effect(gaps, np.ones(1), np.array(["all"], object))
    return {
        "claim": claim,
        "metric": metric,
        "data": world,
        "verdict": verdict_on(effect, SMALLEST),
        "negligible": max(abs(end) for end in effect.ci90) < SMALLEST,
        "effect": effect.value,
        "ci95": list(effect.ci95),
        "smallest_effect": SMALLEST,
        "minimum_detectable_effect": 2.8 * effect.standard_error,
        "seeds": len(runs),
    }


def _described(runs: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    """Return what an arm reached: gold over all cycles and in the last ten, and the curves' means."""
    curves = [run["arms"][arm]["curve"] for run in runs]
    last = {
        name: float(np.mean([[row[name] for row in curve[-10:]] for curve in curves]))
        for name in curves[0][-1]
        if all(name in row for curve in curves for row in curve[-10:])
    }
    return {
        "rate": runs[0]["arms"][arm]["rate"],
        "area": float(np.mean([_area(run, arm) for run in runs])),
        "steps_to_sparse": [_steps(run, arm) for run in runs],
        **last,
        "first_spread": float(np.mean([curve[0].get("spread", np.nan) for curve in curves])),
    }


def _steps(run: dict[str, Any], arm: str) -> int | None:
    """Return the cycle at which an arm reaches the last level of the best sparse arm; None: never."""
    level = max(_smooth(_gold(run, name))[-1] for name in ("sparse", "sparse_rm_critic"))
    reached = np.flatnonzero(_smooth(_gold(run, arm)) >= level)
    return int(reached[0]) + 1 if len(reached) else None


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [f"# Study: {study}", "", "```text", docstring.strip(), "```", ""]
    if result["cells_missing"]:
        missing = result["cells_missing"]
        lines += [f"**Not finished:** {len(missing)} planned cells have not run: {', '.join(missing)}.", ""]
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    for world, arms in result["worlds"].items():
        lines += [f"## {world}", ""]
        heads = ("arm", "rate", "gold, all cycles", "gold, last ten", "divergence", "length", "spread of advantages")
        lines += [f"| {' | '.join((*heads, 'cycles to sparse'))} |", "|---" * (len(heads) + 1) + "|"]
        for arm, row in arms.items():
            reached = [step for step in row["steps_to_sparse"] if step is not None]
            when = f"{np.median(reached):.0f} ({len(reached)} of {len(row['steps_to_sparse'])})" if reached else "never"
            lines.append(
                f"| {arm} | {row['rate']:g} | {row['area']:+.2f} | {row['gold']:+.2f} | {row['divergence']:.1f} | "
                f"{row['length']:.0f} | {row['spread']:.2f} | {when} |"
            )
        lines.append("")
    return "\n".join([*lines, f"Gold over all cycles is in standard deviations over the start. {ran_on(result)}", ""])
