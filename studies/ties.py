"""Ties and lists: does it help to learn from ties, and to learn from a list at once rather than pair by pair.

Fixed before the run:
  * data: the 500 questions of fine_grained_rlhf, four answers each, six verdicts, 384 of the 3,000 ties; without the
    passages, which are longer than the encoder reads. 5 folds by question; seed s tests on fold s mod 5; 10 seeds.
  * a linear head on the frozen MiniLM, calibrated by temperature on margins out of folds.
  * arms: Bradley-Terry with ties as p = 0.5 (``ties_kept``), and without them (``ties_dropped``); each answer's number
    of wins over the other three, ties half, as its grade: ListNet with gamma 1 (``listnet``) and ListMLE by order
    alone, equal ones tied (``listmle``). A tenth of the judgements (``ties_kept_tenth``) shows whether there is
    anything to learn. All take as many steps (a first run of the lists and of the tenth matched epochs instead).
  * contrasts: ties kept against dropped, on accuracy of the decided test judgements (smallest effect 2 points) and on
    the calibrated NLL of all of them, a tie being half a win of each (0.005 nats); either list against ties kept, on
    both.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/ties.py --data DATA_FOLDER   # resumable
    python studies/ties.py --summary            # tables from the committed cells only
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
from summary import Contrast

from assay.feedback import pairs, split
from assay.feedback.changes import with_pairs
from assay.workflows.options import EPOCHS_OF_HEADS

SOURCE: dict[str, Any] = {
    "path": "fine_grained_rlhf/dev_feedback.jsonl.gz",
    "reading": {
        "mapping": {
            "prompt": "question",
            "responses": [f"prediction {number}" for number in (1, 2, 3, 4)],
            "preference": "preference",
            "group": "question",
        }
    },
}
SEEDS = 10
LOSSES: dict[str, dict[str, Any]] = {
    "listnet": {"objective": {"kind": "listnet", "gamma": 1.0}},
    "listmle": {"objective": {"kind": "listmle"}},
}
ARMS = ("ties_kept", "ties_dropped", *LOSSES, "ties_kept_tenth")
NAMES = [f"fine_grained_rlhf.{arm}.all" for arm in ARMS]
CONTRASTS = tuple(
    Contrast(f"{better} against {worse}", better, worse, size, metric)
    for metric, size in (("accuracy", 0.02), ("nll_with_ties", 0.005))
    for better, worse in (("ties_kept", "ties_dropped"), *((arm, "ties_kept") for arm in LOSSES))
)


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm with all its seeds."""
    arm = cell.split(".")[1]
    report, folds = cut_by_fold(SOURCE, data)
    runs = []
    for seed in range(SEEDS):
        whole, test = folds[seed % len(folds)]
        train = split(whole, test=0.1, seed=seed)[1] if arm == "ties_kept_tenth" else whole
        if arm == "ties_dropped":
            view = pairs(train)
            train = with_pairs(train, view.take(view.p != 0.5))
        if arm in LOSSES:
            train = graded_by_wins(train)
        items = np.maximum(graded_responses_of(train) - 1, 0) if arm in LOSSES else judgements_of(train)
        epochs = matched_epochs(EPOCHS_OF_HEADS, items, judgements_of(whole))
        options = {"max_length_tokens": 256, "epochs": epochs, **LOSSES.get(arm, {})}
        runs.append(train_and_judge(shares_for("frozen", train, test, seed), "frozen", seed, **options)[0])
    return {"reading": report.to_dict() | {"source": "fine_grained_rlhf", "places": {}}, "runs": runs}


def graded_by_wins(data: Dataset) -> Dataset:
    """Return the records with each response's number of wins as its grade; a tie is half a win of each."""

    def grade(row: dict[str, Any]) -> dict[str, Any]:
        wins = np.zeros(len(row["responses"]))
        for edge in row["edges"]:
            wins[edge["a"]] += edge["p"]
            wins[edge["b"]] += 1.0 - edge["p"]
        return {"grades": [[{"dimension": "wins", "value": float(value)}] for value in wins]}

    return data.map(grade, features=data.features)


STUDY = Study("ties", __doc__ or "", NAMES, CONTRASTS, run_cell, data="fine_grained_rlhf")

if __name__ == "__main__":
    conduct(STUDY)
