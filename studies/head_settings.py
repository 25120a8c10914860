"""How fast heads should learn on a frozen backbone, and how Proto-RM's bank should begin: a look, not a test.

What was looked at:
  * data that `few_labels` does not test on: HH train-1pct, wmt_da_pairs lt-en (a tenth of its sentences), and ratings
    of generated descriptions (d2t_ratings, as pairs of one prompt). MiniLM frozen.
  * settings: learning rates of each kind of head a factor of about three apart; of prototypes also whether the share
    omega of the prototypes is learned, and a bank of 140 prototypes of each class, each one response, with the class
    term.
  * 10 and 100 % of the training judgements of a fold in five; 3 seeds; 1,000 steps. What counts is the NLL out of fold
    (3 folds), calibrated; nothing is tested.
  * use: what was better than the usual settings on five of the six sets and fractions, and by a thousandth of a nat on
    average, took their place: the rate of `preference`, 1e-4 where it had been 3e-4. The others stay as they were.

    python studies/head_settings.py --data DATA_FOLDER   # resumable
    python studies/head_settings.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from graded_feedback import GRADED
from page import page_head, ran_on
from summary import RESULTS, circumstances, finished_cells

from assay.config import build
from assay.feedback import pairs, read, split
from assay.feedback.splitting import fold_of_rows
from assay.output import write_atomic, write_json
from assay.workflows.settings import TrainSettings
from assay.workflows.study_bench import Bench
from assay.workflows.study_cells import run_cell as run_fraction
from assay.workflows.study_methods import Method

FOLDS, SEEDS, STEPS, FRACTIONS = 5, 3, 1000, (0.1, 1.0)
SETS = ("hh", "wmt_lt", "d2t")
FULL = {"per_class": 140, "builders": 1, "class_weight": 1.0}
#: Of each kind: its heads, and the rates they are tried at.
HEADS: dict[str, list[tuple[str, dict[str, Any], tuple[float, ...]]]] = {
    "linear": [
        ("linear", {"kind": "linear"}, (3e-4, 1e-3, 3e-3)),
        ("linear, normalised", {"kind": "linear", "normalise": True}, (1e-4, 3e-4, 1e-3)),
    ],
    "mlp": [("mlp", {"kind": "mlp"}, (1e-4, 3e-4, 1e-3))],
    "kernel": [("kernel", {"kind": "kernel"}, (3e-3, 1e-2, 3e-2))],
    "preference": [("preference", {"kind": "preference"}, (1e-4, 3e-4, 1e-3))],
    "prototypes": [
        ("omega 0.5", {"kind": "prototypes", "omega_schedule": "constant"}, (3e-4, 1e-3, 3e-3)),
        ("omega learned", {"kind": "prototypes", "omega_schedule": "learned"}, (3e-4, 1e-3, 3e-3)),
        ("full bank", {"kind": "prototypes", "omega_schedule": "constant", **FULL}, (3e-4, 1e-3)),
        ("full bank, omega learned", {"kind": "prototypes", "omega_schedule": "learned", **FULL}, (3e-4, 1e-3)),
    ],
}
NAMES = [f"{name}.{kind}" for kind in HEADS for name in SETS]
KEPT = ("seed", "judgements", "nll", "temperature", "seconds")
REFERENCE = "linear, 1e-03"


@cache
def bench_of(name: str, data: Path) -> Bench:
    """Return a set in five parts."""
    if name == "hh":
        records = read(str(data / "hh_rlhf" / "train-1pct.jsonl.gz"), "hh")
    elif name == "wmt_lt":
        records = split(read(str(data / "wmt_da_pairs" / "lt-en.jsonl.gz")), test=0.1, seed=0)[1]
    else:
        records = read(str(data / "d2t_ratings"), mapping=GRADED | {"group": "prompt"})
    return Bench(records, fold_of_rows(records, FOLDS, 0), FOLDS, 0)


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all settings of one kind of head on one set."""
    name, kind = cell.split(".")
    bench = bench_of(name, data)
    runs = []
    for arm, head, rates in HEADS[kind]:
        for rate in rates:
            given = {"head": head, "head_learning_rate": rate}
            settings = build(TrainSettings, {"data": "-", "out": "-", "freeze_backbone": True, **given})
            for fraction in FRACTIONS:
                found = run_fraction(bench, Method(arm, given, settings), fraction, range(SEEDS), STEPS)["runs"]
                kept = [{key: run[key] for key in KEPT} for run in found]
                runs.append({"arm": f"{arm}, {rate:.0e}", "given": given, "fraction": fraction, "runs": kept})
    view = pairs(bench.data)
    return {"reading": {"records": len(bench.data), "edges": len(view), "dropped": {}}, "cells": runs}


def write_head_settings(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/head_settings.json`` and ``.md``."""
    cells = finished_cells(folder)
    nll: dict[str, dict[tuple[str, float], float]] = defaultdict(dict)
    kind_of: dict[str, str] = {}
    for cell in cells:
        name, kind = cell["cell"].split(".")
        for each in cell["cells"]:
            kind_of[each["arm"]] = kind
            nll[each["arm"]][name, each["fraction"]] = float(np.mean([run["nll"] for run in each["runs"]]))
    places = [(name, fraction) for name in SETS for fraction in FRACTIONS if (name, fraction) in nll[REFERENCE]]
    arms: dict[str, Any] = {}
    for arm, found in nll.items():
        less = {
            f"{name}, {100 * fraction:g} %": found[name, fraction] - nll[REFERENCE][name, fraction]
            for name, fraction in places
            if (name, fraction) in found
        }
        arms[arm] = {"kind": kind_of[arm], "over_reference": less, "mean": float(np.mean(list(less.values())))}
    seconds = sum(run["seconds"] for cell in cells for each in cell["cells"] for run in each["runs"])
    reference = {f"{name}, {100 * f:g} %": nll[REFERENCE][name, f] for name, f in places}
    result = {"study": study, "reference": reference, "arms": arms, "training_seconds": seconds}
    result |= circumstances(planned, cells)
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = page_head(study, docstring, result)
    places = list(result["reference"])
    lines += [
        f"Calibrated NLL out of fold, in thousandths of a nat above that of {REFERENCE} (whose own NLL is in the first "
        "row); less is better.",
        "",
        f"| settings | {' | '.join(places)} | mean |",
        "|" + "---|" * (2 + len(places)),
        f"| {REFERENCE}, NLL | {' | '.join(f'{value:.4f}' for value in result['reference'].values())} | |",
    ]
    for kind in HEADS:
        of_kind = {arm: found for arm, found in result["arms"].items() if found["kind"] == kind}
        best = min(of_kind, key=lambda arm: of_kind[arm]["mean"], default=None)
        for arm, found in of_kind.items():
            each = [
                f"{1000 * found['over_reference'][p]:+.1f}" if p in found["over_reference"] else "–" for p in places
            ]
            name = arm if arm.startswith(kind) else f"{kind}, {arm}"
            name = f"**{name}**" if arm == best else name
            lines.append(f"| {name} | {' | '.join(each)} | {1000 * found['mean']:+.1f} |")
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, "", f"{took}, on {ran_on(result)}", ""])


STUDY = Study(
    "head_settings",
    __doc__ or "",
    NAMES,
    (),
    run_cell,
    data="hh_rlhf, wmt_da_pairs and d2t_ratings",
    summarise=write_head_settings,
)

if __name__ == "__main__":
    conduct(STUDY)
