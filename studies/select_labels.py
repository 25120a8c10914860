"""What to judge next: whether pairs that `assay select` chooses teach more than pairs drawn at random.

Fixed before the run:
  * data: HH helpful-base and harmless-base, the two sets on which `few_labels` found that its baseline learns from more
    labels (on wmt_da_pairs, looked at before, random pairs teach next to nothing from 100 to 600). Each of 10 seeds is
    tested on a fifth of the groups; the judgements of the others are hidden until a pair is chosen.
  * 100 random pairs begin; 100 more are judged at a time, at most one of a prompt, until 900 are.
  * ways to choose: ``random``; ``margin`` (P nearest to one half) and ``bald`` (information gain under the posterior of
    the last layer), both spread out as `assay select` does by default; ``bald_alike``: the most telling, alike or not.
  * model: a linear head on the frozen MiniLM with `--laplace`, at most 1,500 steps, calibrated out of fold.
  * contrasts, accuracy at 300 and at 900 labels, smallest effect 1 point: margin above random, bald above random. And
    how many labels each needs for the accuracy that random ones reach with 900.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/select_labels.py --data DATA_FOLDER   # resumable
    python studies/select_labels.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from few_labels import SEEDS, STEPS, bench_of, cell_of
from few_labels_summary import Claim, write_methods

from assay.evaluation.acquisition import spread_out
from assay.feedback import pairs
from assay.feedback.pairs import Pairs
from assay.scorers import RewardModel
from assay.workflows.fitting_frozen import Vectors
from assay.workflows.select_verb import POOL, best_of_prompts, values_of
from assay.workflows.study_bench import Bench
from assay.workflows.study_methods import Method, methods_of
from assay.workflows.study_rounds import fit_on
from assay.workflows.study_settings import StudySettings
from assay.workflows.unjudged import Candidates

BATCH, LABELS = 100, 900
WAYS = ("random", "margin", "bald", "bald_alike")
SETS = ("helpful-base", "harmless-base")
CELLS = [f"{name}.{way}" for way in WAYS for name in SETS]
CLAIMS: tuple[Claim, ...] = (
    ("least certain pairs above random ones, 300", ("margin", 1 / 3), ("random", 1 / 3), 0.0),
    ("least certain pairs above random ones, 900", ("margin", 1.0), ("random", 1.0), 0.0),
    ("most telling pairs above random ones, 300", ("bald", 1 / 3), ("random", 1 / 3), 0.0),
    ("most telling pairs above random ones, 900", ("bald", 1.0), ("random", 1.0), 0.0),
)


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Choose and learn in one way with every seed."""
    name, way = cell.split(".")
    bench = bench_of(name, data)
    method = methods_of(StudySettings(data="-", out="-", methods=("laplace",), baseline="laplace"))[0]
    sizes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(SEEDS):
        for run in _run(bench, method, way, seed):
            sizes[run["judgements"]].append(run)
    cells = [{"method": way, "fraction": size / LABELS, "runs": runs} for size, runs in sorted(sizes.items())]
    return cell_of(bench, cells, with_test=True)


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
        found = fit_on(settings, whole, view.take(judged), model, STEPS, folds=3)
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


def set_of(cell: str) -> tuple[str, str]:
    """Return what a cell is compared within, and the baseline there."""
    return cell.split(".")[0], "random"


STUDY = Study(
    "select_labels",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="hh_rlhf",
    summarise=partial(write_methods, claims=CLAIMS, smallest=0.01, set_of=set_of),
)

if __name__ == "__main__":
    conduct(STUDY)
