"""From finished cells of ``better_reward`` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from story_summary import at_divergence, equal_divergence, seed_verdict, standardised
from summary import RESULTS, circumstances, finished_cells, judged

from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

POLICY, CHOICE = "PPO on Proto-RM is ahead of PPO on Bradley-Terry", "best of 16 by Proto-RM is ahead"
ACCURATE = "Proto-RM prefers what gold prefers more often"


def write_better_reward(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/better_reward.json`` and ``better_reward.md``."""
    cells = finished_cells(folder)
    worlds: defaultdict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    scale: dict[int, tuple[float, float]] = {}
    for cell in cells:
        for fraction in sorted({run["fraction"] for run in cell["runs"]}):
            sides = {run["head"]: run for run in cell["runs"] if run["fraction"] == fraction}
            worlds[f"{cell['cell'].split('.')[0]} gold, {100 * fraction:g} %"].append(
                (sides["prototypes"], sides["bt"])
            )
            scale |= {id(side): (cell["start"], cell["deviation"]) for side in sides.values()}
    verdicts, tables = [], {}
    for world, many in sorted(worlds.items()):
        gaps = np.array([[ours["accuracy"] - theirs["accuracy"]] for ours, theirs in many])
        effect = hierarchical_effect(gaps, np.ones(1), np.array(["all"], object))
        verdicts.append(judged(ACCURATE, "accuracy", world, effect, 0.02))
        for claim, metric, of in ((POLICY, "at equal divergence", _policy), (CHOICE, "gold", _choice)):
            values = [of(ours, theirs, scale) - of(theirs, ours, scale) for ours, theirs in many]
            verdicts.append(seed_verdict(claim, metric, world, values))
        tables[world] = [_described([pair[side] for pair in many], scale) for side in (1, 0)]
    result = {"study": study, "verdicts": verdicts, "worlds": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _policy(run: dict[str, Any], other: dict[str, Any], scale: dict[int, tuple[float, float]]) -> float:
    away = equal_divergence(run["curve"], other["curve"])
    return at_divergence(run["curve"], standardised(run["curve"], *scale[id(run)]), away)


def _choice(run: dict[str, Any], _: dict[str, Any], scale: dict[int, tuple[float, float]]) -> float:
    start, deviation = scale[id(run)]
    return float((run["best_of"]["16"] - start) / deviation)


def _described(runs: list[dict[str, Any]], scale: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """Return what the reward models of one head made of it."""
    golds = [standardised(run["curve"], *scale[id(run)]) for run in runs]
    return {
        "head": runs[0]["head"],
        "labels": float(np.mean([run["labels"] for run in runs])),
        "accuracy": float(np.mean([run["accuracy"] for run in runs])),
        "ppo_last_ten": float(np.mean([gold[-10:] for gold in golds])),
        "ppo_highest": float(np.mean([gold.max() for gold in golds])),
        "divergence": float(np.mean([row["divergence"] for run in runs for row in run["curve"][-10:]])),
        "best_of": {
            n: float(np.mean([(run["best_of"][n] - scale[id(run)][0]) / scale[id(run)][1] for run in runs]))
            for n in runs[0]["best_of"]
        },
    }


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    columns = ("gold and labels", "head", "judgements", "accuracy", "PPO, last ten cycles", "divergence")
    counts = list(next(iter(result["worlds"].values()))[0]["best_of"])
    lines += [f"| {' | '.join(columns)} | {' | '.join(f'best of {n}' for n in counts)} |"]
    lines += ["|---" * (len(columns) + len(counts)) + "|"]
    for world, sides in result["worlds"].items():
        for row in sides:
            chosen = " | ".join(f"{row['best_of'][n]:+.2f}" for n in counts)
            lines.append(
                f"| {world} | {row['head']} | {row['labels']:.0f} | {100 * row['accuracy']:.1f} % | "
                f"{row['ppo_last_ten']:+.2f} | {row['divergence']:.1f} | {chosen} |"
            )
    told = "Gold is in standard deviations over the policy's samples at the start."
    return "\n".join([*lines, "", f"{told} {ran_on(result)}", ""])
