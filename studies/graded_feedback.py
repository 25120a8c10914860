"""What graded feedback buys over plain Bradley-Terry, and whether the gaps or mere softness buy it.

Fixed before the run:
  * data: SummEval (grouped by document, mean of four dimensions), the three data-to-text sets of ratings together
    (by meaning representation, mean of three dimensions), TL;DR feedback (by post; the gap is the judge's confidence,
    |c - 5|). 5 folds by group; seed s tests on fold s mod 5; 10 seeds.
  * a linear head on the frozen MiniLM for all arms, calibrated by temperature on margins out of folds.
  * arms: plain Bradley-Terry (``bt``); an additive margin of half the gap (``margin``); MMPO with gamma of 0.1, 0.3,
    0.5, 1.1, 2.2 or 5, chosen by calibrated NLL out of folds of the training share (``mmpo``); three controls: the same
    targets with the sizes of the gaps in random order (``shuffled``), smoothing by their mean of 1 - p (``smooth``),
    weights in proportion to the gap (``weight``); PCRM by length (``pcrm``); the weakest tenth turned round
    (``cleaned``); on graded data lists (ListNet at the gamma of MMPO, ``listnet``) and regression to the standardised
    grade (``regression``); on TL;DR feedback MMPO with the gamma that fits the pairs judged twice (``mmpo_fit``). A
    tenth of the judgements (``bt_tenth``) shows whether there is anything to learn. All take as many steps.
  * contrasts: MMPO against plain Bradley-Terry, and against each control, on accuracy (smallest effect 2 points) and
    on calibrated NLL of the verdicts (0.005 nats); each other arm against plain Bradley-Terry on both.
    Only MMPO has something chosen for it; its controls take over what it chose.
  * a first run had gammas from 0.3 to 2.2, of which SummEval always took the least and TL;DR feedback often the
    greatest; it matched epochs, not steps, and gave gaps to ties when it shuffled. What that touched was run again.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/graded_feedback.py --data DATA_FOLDER   # resumable
    python studies/graded_feedback.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Study,
    conduct,
    cut_by_fold,
    graded_responses_of,
    judgements_of,
    matched_epochs,
    shares_for,
    train_and_judge,
)
from datasets import Dataset
from main_job import SETS as PAIRS
from summary import Contrast, cell_path, read_cell

from assay.evaluation import evaluate_rated
from assay.feedback import Pairs, pairs, split
from assay.feedback.changes import with_pairs
from assay.feedback.grades import grade_table
from assay.feedback.targets import margin_targets
from assay.workflows.options import EPOCHS_OF_HEADS

GRADED = {"prompt": "prompt", "responses": "response", "grades": "grades"}
TLDR = PAIRS["tldr_feedback"]
SETS: dict[str, dict[str, Any]] = {
    "summeval": {
        "path": "summeval/grades.jsonl.gz",
        "reading": {"mapping": GRADED | {"group": "doc_id"}},
        # 120 pairs a document: as many steps as the others take in 30 epochs
        "options": {"truncation": "right", "epochs": 3},
    },
    "d2t_ratings": {"path": "d2t_ratings", "reading": {"mapping": GRADED | {"group": "prompt"}}},
    "tldr_feedback": {**TLDR, "reading": {"mapping": {**TLDR["reading"]["mapping"], "confidence": "margin"}}},
}
SEEDS = 10
GAMMAS = (0.1, 0.3, 0.5, 1.1, 2.2, 5.0)
ON_GRADES, ON_REPEATS = ("listnet", "regression"), ("mmpo_fit",)
AFTER_MMPO = ("shuffled", "smooth", "listnet")
ARMS = ("mmpo", "bt", "margin", "weight", "pcrm", "cleaned", "regression", "bt_tenth", *ON_REPEATS, *AFTER_MMPO)
CONTROLS = ("bt", "shuffled", "smooth", "weight")
CONTRASTS = tuple(
    Contrast(f"{better} against {worse}", better, worse, size, metric)
    for metric, size in (("accuracy", 0.02), ("nll", 0.005))
    for better, worse in (
        *(("mmpo", control) for control in CONTROLS),
        *((arm, "bt") for arm in ARMS if arm not in (*CONTROLS, "mmpo", "bt_tenth")),
    )
)
# by arm, not by set: two cells run at a time, and some take what MMPO chose
NAMES = [
    f"{name}.{arm}.all"
    for arm in ARMS
    for name in SETS
    if arm not in (ON_GRADES if name == "tldr_feedback" else ON_REPEATS)
]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm on one set with all its seeds."""
    name, arm, _ = cell.rsplit(".", 2)
    source = SETS[name]
    chosen = chosen_gammas(name) if arm in AFTER_MMPO else {}
    report, folds = cut_by_fold(source, data)
    runs = []
    for seed in range(SEEDS):
        whole, test = folds[seed % len(folds)]
        train = split(whole, test=0.1, seed=seed)[1] if arm == "bt_tenth" else whole
        fixed = {"max_length_tokens": 256, "epochs": EPOCHS_OF_HEADS, **source.get("options", {})}
        fixed["epochs"] = matched_epochs(fixed["epochs"], items_of(arm, train), judgements_of(whole))
        options, train = options_of(arm, train, seed, chosen)
        run, values = train_and_judge(shares_for("frozen", train, test, seed), "frozen", seed, **fixed | options)
        runs.append(run | {"rank": rank_of(test, values)})
    return {"reading": report.to_dict() | {"source": name, "places": {}}, "runs": runs}


def items_of(arm: str, train: Dataset) -> np.ndarray:
    """Return what a step counts of each record: the comparisons of a list, graded responses, or judgements."""
    if arm not in ON_GRADES:
        return judgements_of(train)
    graded = graded_responses_of(train)
    return np.maximum(graded - 1, 0) if arm == "listnet" else graded


def rank_of(test: Dataset, values: np.ndarray) -> float | None:
    """Return the mean rank correlation of scores with grades within a prompt."""
    table = grade_table(test)
    if not table.dimensions:
        return None
    record = np.repeat(np.arange(len(test)), np.diff(table.offsets))
    found = evaluate_rated(values, table.combined(), record, record, resamples=100)
    return found.rank_within.value if found is not None else None


def chosen_gammas(name: str) -> dict[int, float]:
    """Return the gamma that MMPO chose for each seed, from its finished cell."""
    path = cell_path(STUDY.folder, f"{name}.mmpo.all")
    if path is None:
        raise SystemExit(f"{name}.mmpo.all must have run before: the other arms take its gamma")
    return {run["seed"]: float(run["gamma"]) for run in read_cell(path)["runs"]}


def options_of(arm: str, train: Dataset, seed: int, chosen: dict[int, float]) -> tuple[dict[str, Any], Dataset]:
    """Return the settings of an arm, and its training share."""
    swept = {"target": {"kind": "mmpo", "sweep": GAMMAS}}
    plain: dict[str, dict[str, Any]] = {
        "bt": {},
        "bt_tenth": {},
        "margin": {"target": {"kind": "margin", "factor": 0.5}},
        "mmpo": swept,
        "mmpo_fit": {"target": {"kind": "mmpo", "gamma": "fit"}},
        "weight": {"target": {"kind": "weight"}},
        "pcrm": {"target": {"kind": "pcrm"}},
        "cleaned": {"clean": {"kind": "flip", "share": 0.1}},
        "regression": {"objective": {"kind": "regression"}},
    }
    if arm in plain:
        return plain[arm], train
    gamma = chosen[seed]
    if arm == "listnet":
        return {"objective": {"kind": "listnet", "gamma": gamma}}, train
    view, gap = gaps_of(train)
    if arm == "smooth":
        p = margin_targets(gap, gamma)[view.p != 0.5]
        return {"target": {"kind": "smooth", "epsilon": float(np.minimum(p, 1 - p).mean())}}, train
    moved, decided = np.abs(gap), view.p != 0.5
    # among what was decided: a tie has no sign to give a gap to, and would leave its own 0 to a decided pair
    moved[decided] = np.random.default_rng(seed).permutation(moved[decided])
    shuffled = with_pairs(train, Pairs(**{**vars(view), "confidence": moved}))
    return {"target": {"kind": "mmpo", "gamma": gamma, "signal": "confidence"}}, shuffled


def gaps_of(train: Dataset) -> tuple[Pairs, np.ndarray]:
    """Return the judgements and their gaps: of grades, or the judge's confidence."""
    view, table = pairs(train), grade_table(train)
    by_grades = table.gaps(view) if table.dimensions else np.full(len(view), np.nan)
    return view, np.where(np.isfinite(by_grades), by_grades, np.sign(view.p - 0.5) * view.confidence)


STUDY = Study(
    "graded_feedback", __doc__ or "", NAMES, CONTRASTS, run_cell, data="summeval, d2t_ratings and tldr_feedback"
)

if __name__ == "__main__":
    conduct(STUDY)
