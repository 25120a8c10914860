"""Few labels: which head on a frozen backbone, and how many labels it saves.

Fixed before the run:
  * question: is Proto-RM comparable or better with far less data, and is any other method?
  * data, whole grid: HH helpful-base, wmt_da_pairs (gu-en, 5,000 pairs of 256 sentences) and SummEval (pairs of graded
    summaries). Four methods (bt, mlp, prototypes, ensemble): HH harmless-base and helpful-online, MT-bench human
    judgements, TL;DR feedback, UltraFeedback (ub and ubp).
  * MiniLM frozen; 5, 10, 20, 50 and 100 % of the training judgements, each fraction within the next; 10 seeds, each
    tested on a fifth of the groups (seed mod 5); at most 1,500 steps; calibrated out of fold (3 folds).
  * methods: those of `assay study` (docs/few_labels.md; Laplace changes no score, so it would be ``bt``). Of them
    ``ser`` labels the rest of the training pairs for itself, whose judgements are hidden, a fifth of the known ones
    saying when to end. And ``ours``: prototypes, three members, soft weak labels (all general functions, a label model
    that the known judgements taught) and soft self-labels, at 5, 10 and 20 %, on the two sets where bt alone, which ran
    first, was found to learn from more labels: helpful-base and harmless-base.
    The usual learning rates of the kinds of heads, which all methods keep, were chosen by NLL out of fold on training
    shares of helpful-base and helpful-online; test judgements had no part in it.
  * the peer: the MLP ensemble of rewarduq (20 heads) with its own trainer and defaults on the same features, at least
    as many steps (batches of 16 judgements, where ours may hold whole records), at its usual rate (``rewarduq``, 1e-4)
    and, where bt learns from more labels, a higher one (``rewarduq_fast``, 1e-3, helpful-base only); without
    calibration, which it has not. It runs where `.venv-rewarduq` has it (CONTRIBUTING.md); at 5, 20 and 100 %, since
    each of its trainings takes about a minute.
  * contrasts, accuracy: Proto-RM with 20 % of the labels is comparable with Bradley-Terry with all of them (not 2
    points below); Proto-RM above Bradley-Terry at 5 %; Proto-RM above an MLP with as many weights at 5 %. Smallest
    effect 2 points. The table of all methods against bt has intervals that hold for a fraction together.
  * test: hierarchical bootstrap over seeds and split groups. A set on which bt gains less than twice its error from
    10 % to all labels is uninformative.

    python studies/few_labels.py --data DATA_FOLDER   # resumable
    python studies/few_labels.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from common import Study, conduct, short_key
from datasets import Dataset
from few_labels_arms import run_ours, run_peer
from few_labels_summary import Claim, write_methods
from generated_responses import SETS as MODELS
from main_job import SETS as PAIRS
from weak_supervision import UBP

from assay.feedback import pairs, read, split
from assay.feedback.splitting import fold_of_rows
from assay.workflows.study_bench import Bench
from assay.workflows.study_cells import run_cell as run_fraction
from assay.workflows.study_methods import METHODS, methods_of
from assay.workflows.study_settings import StudySettings

FOLDS, SEEDS, STEPS = 5, 10, 1500
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)
FEW, PEER_FRACTIONS = (0.05, 0.1, 0.2), (0.05, 0.2, 1.0)
GRID = ("helpful-base", "wmt", "summeval")
COMBINED = ("helpful-base", "harmless-base")
OTHERS = ("harmless-base", "helpful-online", "mt_bench_human", "tldr_feedback", "ultrafeedback_ub", "ultrafeedback_ubp")
FOUR = ("bt", "mlp", "prototypes", "ensemble")
#: Learning rates of the peer.
PEER = {"rewarduq": 1e-4, "rewarduq_fast": 1e-3}
CELLS = (
    *(f"{name}.{method}" for method in FOUR for name in (*GRID, *OTHERS)),
    *(f"{name}.{method}" for method in METHODS if method not in FOUR for name in GRID),
    *(f"{name}.ours" for name in COMBINED),
    "harmless-base.ser",
    *(f"{name}.rewarduq" for name in GRID),
    "helpful-base.rewarduq_fast",
)


CLAIMS: tuple[Claim, ...] = (
    ("Proto-RM with 20 % of the labels is comparable with BT with all", ("prototypes", 0.2), ("bt", 1.0), 0.02),
    ("Proto-RM above BT at 5 %", ("prototypes", 0.05), ("bt", 0.05), 0.0),
    ("Proto-RM above an MLP of its size at 5 %", ("prototypes", 0.05), ("mlp_large", 0.05), 0.0),
    ("ours with 20 % of the labels reaches BT with all", ("ours", 0.2), ("bt", 1.0), 0.0),
    ("ours above SER at 20 %", ("ours", 0.2), ("ser", 0.2), 0.0),
)


def read_set(name: str, data: Path) -> tuple[Dataset, dict[str, Any]]:
    """Return the records of a set, and the settings that all its methods share."""
    if name in PAIRS:
        return read(str(data / PAIRS[name]["path"]), **PAIRS[name]["reading"]), PAIRS[name].get("options", {})
    if name == "helpful-online":
        return read(str(data / "hh_rlhf" / "helpful-online" / "test.jsonl.gz"), "hh"), {}
    if name.startswith("ultrafeedback"):
        return read(str(data / "ultrafeedback_2pct" / f"{name.split('_')[1]}.jsonl.gz"), mapping=UBP), {}
    if name == "summeval":
        given = MODELS["summeval"]
        return read(str(data / given["path"]), mapping=given["mapping"]), given["options"]
    return split(read(str(data / "wmt_da_pairs" / "gu-en.jsonl.gz")), test=0.25, seed=0)[1], {}


@cache
def bench_of(name: str, data: Path) -> Bench:
    """Return a set in five parts."""
    records, _ = read_set(name, data)
    return Bench(records, fold_of_rows(records, FOLDS, 0), FOLDS, 0)


def cell_of(bench: Bench, fractions: list[dict[str, Any]], *, with_test: bool) -> dict[str, Any]:
    """Return what is kept of a cell: what its fractions gave, and, if asked for, the judgements they were tested on."""
    view = pairs(bench.data)
    tested = {
        "p": view.p.tolist(),
        "w": view.w.tolist(),
        "group": [short_key(group) for group in view.group],
        "part": bench.part[view.row].tolist(),
    }
    kept = {"test": tested} if with_test else {}
    return {"reading": {"records": len(bench.data), "edges": len(view), "dropped": {}}, "cells": fractions, **kept}


def settings_for(method: str, options: dict[str, Any]) -> StudySettings:
    """Return the settings of the study of one method."""
    return StudySettings(data="-", out="-", methods=(method,), baseline=method, folds=FOLDS, seeds=SEEDS, **options)


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one method on all fractions of a set with all seeds."""
    name, method = cell.split(".")
    bench = bench_of(name, data)
    options = read_set(name, data)[1]
    if method in PEER:
        given = methods_of(settings_for("bt", options))[0]
        fractions = run_peer(bench, method, given, PEER_FRACTIONS, range(SEEDS), STEPS, PEER[method])
    elif method == "ours":
        given = methods_of(settings_for("prototypes", options))[0]
        fractions = [
            {"method": method, "fraction": fraction, "runs": run_ours(bench, given, fraction, range(SEEDS), STEPS)}
            for fraction in FEW
        ]
    else:
        given = methods_of(settings_for(method, options))[0]
        fractions = [run_fraction(bench, given, fraction, range(SEEDS), STEPS) for fraction in FRACTIONS]
    # judgements are the same in all cells of a set; one of them keeps them
    return cell_of(bench, fractions, with_test=method == "bt")


STUDY = Study(
    "few_labels",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="hh_rlhf, wmt_da_pairs, summeval, mt_bench_human, tldr_feedback and ultrafeedback_2pct",
    summarise=partial(write_methods, claims=CLAIMS),
)

if __name__ == "__main__":
    conduct(STUDY)
