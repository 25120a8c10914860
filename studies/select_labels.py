"""What to judge next: whether pairs that `assay select` chooses teach more than pairs drawn at random.

Fixed before the run:
  * data: HH helpful-base, and wmt_da_pairs (gu-en, 5,000 pairs of 256 sentences). Each of 10 seeds is tested on a fifth
    of the groups; the judgements of the others are hidden until a pair is chosen.
  * 100 random pairs begin; 100 more are judged at a time, at most one of a prompt, until 600 are.
  * ways to choose: ``random``; ``margin`` (P nearest to one half) and ``bald`` (information gain under the posterior of
    the last layer), both spread out as `assay select` does by default; ``bald_alike``: the most telling, alike or not.
  * model: a linear head on the frozen MiniLM with `--laplace`, at most 1,500 steps, calibrated out of fold.
  * contrasts, accuracy at 600 labels, smallest effect 1 point: margin above random, bald above random. And how many
    labels each needs for the accuracy that random ones reach with 600.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/select_labels.py --data DATA_FOLDER   # resumable
    python studies/select_labels.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct, short_key
from few_labels import FOLDS, SEEDS, STEPS, bench_of
from few_labels_arms import fit_on
from page import ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.acquisition import spread_out
from assay.evaluation.efficiency import HeldOut
from assay.evaluation.figures import data_efficiency
from assay.feedback import pairs
from assay.feedback.pairs import Pairs
from assay.output import write_atomic, write_json
from assay.scorers import RewardModel
from assay.workflows.fitting_frozen import Vectors
from assay.workflows.select_verb import POOL, best_of_prompts, values_of
from assay.workflows.study_bench import Bench
from assay.workflows.study_methods import Method, methods_of
from assay.workflows.study_results import comparison_of, results_of, table
from assay.workflows.study_settings import StudySettings
from assay.workflows.unjudged import Candidates

BATCH, LABELS, SMALLEST = 100, 600, 0.01
WAYS = ("random", "margin", "bald", "bald_alike")
SETS = ("helpful-base", "wmt")
CELLS = [f"{name}.{way}" for way in WAYS for name in SETS]
CLAIMS = (("least certain pairs above random ones", "margin"), ("most telling pairs above random ones", "bald"))


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Choose and learn in one way with every seed."""
    name, way = cell.split(".")
    bench = bench_of(name, data)
    method = methods_of(StudySettings(data="-", out="-", methods=("laplace",), baseline="laplace"))[0]
    sizes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(SEEDS):
        for run in _run(bench, method, way, seed):
            sizes[run["judgements"]].append(run)
    view = pairs(bench.data)
    return {
        "reading": {"records": len(bench.data), "edges": len(view), "dropped": {}},
        "cells": [{"method": way, "fraction": size / LABELS, "runs": runs} for size, runs in sorted(sizes.items())],
        "test": {
            "p": view.p.tolist(),
            "w": view.w.tolist(),
            "group": [short_key(group) for group in view.group],
            "part": bench.part[view.row].tolist(),
        },
    }


def _run(bench: Bench, method: Method, way: str, seed: int) -> list[dict[str, Any]]:
    settings = method.settings.model_copy(update={"seed": seed})
    model = bench.model_for(settings)
    whole = bench.vectors_for(settings, model)
    view, random = whole.records.pairs, np.random.default_rng([seed, 7])
    pool = np.flatnonzero(np.isin(view.row, bench.learned(seed, 1.0)))
    judged = np.sort(random.choice(pool, BATCH, replace=False))
    test = whole.select(bench.tested(seed))
    runs: list[dict[str, Any]] = []
    while True:
        found = fit_on(settings, whole, view.take(judged), STEPS, model, folds=3)
        evidence = found.score_features(test.features, test.records.prompt_of, native=True)
        calibration = found.record.calibration or {}
        runs.append(
            {
                "seed": seed,
                "judgements": len(judged),
                "seconds": 0.0,
                "temperature": calibration.get("temperature"),
                "margins": np.round(test.records.margins(evidence, pairs(test.data)), 4).tolist(),
            }
        )
        if len(judged) >= LABELS:
            return runs
        left = np.setdiff1d(pool, judged)
        judged = np.sort(
            np.concatenate([judged, left[_chosen(found, whole, view.take(left), way, seed + len(judged))]])
        )


def _chosen(model: RewardModel, whole: Vectors, left: Pairs, way: str, seed: int) -> np.ndarray:
    """Return which of the pairs that are left are judged next."""
    given = Candidates(left.row, left.a, left.b)
    value, _ = values_of(model, way.split("_")[0], whole.records, whole.features, given, seed)
    first = best_of_prompts(given, value, 1)
    if way in ("random", "bald_alike"):
        return first[np.argsort(-value[first], kind="stable")[:BATCH]]
    a, b = given.take(first).texts(whole.records)
    away = whole.features[a] - whole.features[b]
    return first[spread_out(away, value[first], BATCH, min(POOL * BATCH, len(first) // 2))]


def write_select_labels(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/select_labels.json``, ``.md`` and a figure per set."""
    cells = finished_cells(folder)
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[cell["cell"].split(".")[0]].append(cell)
    settings = StudySettings(data="-", out="-", folds=FOLDS, resamples=2000, baseline="random")
    sets: dict[str, Any] = {}
    verdicts = []
    for name, many in by_set.items():
        given = [cell for each in many for cell in each["cells"]]
        if not any(cell["method"] == "random" for cell in given):
            continue
        tested = {key: np.array(value) for key, value in many[0]["test"].items()}
        held_out = HeldOut(tested["p"], tested["w"], tested["group"], tested["part"])
        comparison = comparison_of(settings, held_out, given)
        sets[name] = results_of(settings, held_out, given)
        for claim, way in CLAIMS:
            if way not in comparison.curves:
                continue
            found = comparison.difference((way, 1.0), ("random", 1.0))
            low, high = found.ci95
            verdict = "holds" if low > 0 else "does not hold" if high < SMALLEST else "undecided"
            verdicts.append(
                {"claim": claim, "metric": "accuracy", "data": name, "verdict": verdict, "effect": found.value}
                | {"ci95": [low, high], "smallest_effect": SMALLEST, "seeds": SEEDS}
                | {"negligible": False, "minimum_detectable_effect": 2.8 * found.standard_error}
            )
        points = {
            way: [(row["labels"], row["accuracy"]["value"], *row["accuracy"]["ci95"]) for row in rows]
            for way, rows in sets[name]["methods"].items()
        }
        write_atomic(RESULTS / f"{study}_{name}.svg", data_efficiency(points, "random"))
    result = {"study": study, "verdicts": verdicts, "sets": sets, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    lines = [f"# Study: {study.replace('_', ' ')}", "", "```text", docstring.strip(), "```", ""]
    if result["cells_missing"]:
        lines += [f"**Not finished:** {', '.join(result['cells_missing'])}.", ""]
    lines += ["## Verdicts", "", *verdict_table(verdicts), ""]
    for name, found in sets.items():
        columns, rows = table(found)
        lines += [f"## {name}", "", f"![accuracy by number of labels]({study}_{name}.svg)", ""]
        lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [
        "In brackets the points over random pairs, * where the 95 % interval lies above 0 for all ways together; "
        "labels needed for the accuracy of 600 random ones.",
        "",
        f"On {ran_on(result)}",
        "",
    ]
    write_atomic(RESULTS / f"{study}.md", "\n".join(lines))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


STUDY = Study(
    "select_labels",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="hh_rlhf and wmt_da_pairs",
    summarise=write_select_labels,
)

if __name__ == "__main__":
    conduct(STUDY)
