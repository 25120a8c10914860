"""The table of study ``verifiable``."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from summary import RESULTS, machine

AIM, MOST = 0.95, 0.5


def write_verifiable(name: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write the result file and its page from the finished cells."""
    cells: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in planned:
        path = folder / f"{cell}.json.gz"
        if path.is_file():
            cells[cell.split(".")[0]].append(json.loads(gzip.decompress(path.read_bytes())))
    rows, verdicts, arms = [], [], {}
    for algorithm, runs in cells.items():
        before, after = [run["before"] for run in runs], [run["after"] for run in runs]
        reached = [
            next((run["every"] * (k + 1) for k, value in enumerate(run["curve"]) if value >= AIM), None) for run in runs
        ]
        good = sum(one <= MOST and other >= AIM for one, other in zip(before, after, strict=True))
        when = [cycles for cycles in reached if cycles is not None]
        arms[algorithm] = {"before": before, "after": after, "cycles_to_aim": reached}
        rows.append(
            f"| {algorithm} | {100 * min(before):.0f} to {100 * max(before):.0f} % | {100 * min(after):.1f} to "
            f"{100 * max(after):.1f} % | {int(np.median(when)) if when else '–'} | {good} of {len(runs)} |"
        )
        verdicts.append(
            {
                "claim": f"{algorithm}: from at most 50 % to at least 95 % on unseen prompts, every seed",
                "data": "reversed words",
                "verdict": "holds" if good == len(runs) else "does not hold",
                "effect": min(after) - AIM,
                "ci95": None,
                "smallest_effect": 0.0,
                "minimum_detectable_effect": None,
            }
        )
    result = {"name": name, "machine": machine(), "arms": arms, "verdicts": verdicts}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    missing = len(planned) - sum(map(len, cells.values()))
    page = [
        f"# {docstring.splitlines()[0]}",
        "",
        *docstring.strip().splitlines()[2:],
        "",
        "| algorithm | before | after | cycles to 95 % (median) | reached |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Greedy accuracy on 512 prompts that were never asked; lowest and highest of the seeds. Cycles: on 256 others.",
        "",
    ]
    if missing:
        page += [f"{missing} planned cells are missing.", ""]
    (RESULTS / f"{name}.md").write_text("\n".join(page), encoding="utf-8")
    print(f"{RESULTS / name}.md written; {missing} planned cells are missing")
