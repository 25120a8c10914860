"""Whether weak labels help a reward model that has few judgements, and whether the help fades as judgements grow.

Fixed before the run (Hauptvogel et al. 2024, whose sets of judgements are larger):
  * data: hh_rlhf (train-1pct, harmless-base, helpful-base and helpful-online together), where the longer response wins
    about as often as not, and 8,000 judgements of wmt_da_pairs/gu-en, without any effect of length. A fifth of the
    groups tests; 10 seeds draw which.
  * of the other judgements 2, 5 or 10 % of the groups are known (``baseline``); the rest is labelled by all built-in
    functions, weighed by a label model that only these judgements taught and calibrated.
  * arms: baseline alone; baseline with as many passes as make the steps of the others (``steps``); baseline and the
    rest with soft labels (``soft``, the default of `assay label`), with hard ones (``hard``), with hard ones above 0.6
    (``sure``: the published 0.8 and 0.95 keep next to nothing once labels are calibrated), from a majority
    (``majority``), from length alone (``by_length``), from logistic regression (``logistic``), at random (``random``),
    and with the true ones (``true``). For the curve of true labels, also 20 and 40 % of the judgements alone.
  * MiniLM frozen, 10 passes, other settings as `assay train` has them; every arm is calibrated by cross-fitting on
    what judgements by people it has.
  * contrasts, accuracy, smallest effect 1 point: soft against the baseline with matched steps; soft against hard;
    soft against the majority. Hierarchical bootstrap over seeds and split groups.

    python studies/weak_supervision.py --data DATA_FOLDER   # resumable
    python studies/weak_supervision.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct, judgements_of, matched_epochs, train_and_judge
from datasets import Dataset, concatenate_datasets
from summary import Contrast
from weak_supervision_summary import write_weak_supervision

from assay.evaluation import calibration_error
from assay.evaluation.label_calibration import fit_label_model
from assay.feedback import pairs, read, split
from assay.feedback.changes import with_pairs
from assay.feedback.label_models import CorrelatedLabelModel, LogisticLabelModel
from assay.feedback.labeling import ResponsePairs, Votes, apply, preset, response_pairs
from assay.feedback.labeling.builtin import DEFAULTS
from assay.feedback.pairs import WEAK
from assay.workflows.data import Shares

SEEDS, PASSES, SURE = 10, 10, 0.6
SHARES, CURVE = (2, 5, 10), (20, 40)
HH = ("train-1pct", "harmless-base/test", "helpful-base/test", "helpful-online/test")
NAMES = [f"{name}.{share}.{seed}" for seed in range(SEEDS) for name in ("hh", "wmt") for share in (*SHARES, *CURVE)]
CONTRASTS = (
    Contrast("soft weak labels against matched steps", "soft", "steps", 0.01),
    Contrast("soft against hard weak labels", "soft", "hard", 0.01),
    Contrast("label model against a majority of votes", "soft", "majority", 0.01),
)


def read_set(name: str, data: Path) -> Dataset:
    """Return the records of a set."""
    if name == "hh":
        return concatenate_datasets([read(str(data / "hh_rlhf" / f"{part}.jsonl.gz"), "hh") for part in HH])
    return split(read(str(data / "wmt_da_pairs" / "gu-en.jsonl.gz")), test=0.4, seed=0)[1]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all arms with one share of judgements and one seed."""
    name, share, number = cell.split(".")
    seed = int(number)
    records = read_set(name, data)
    train, test = split(records, test=0.2, seed=seed)
    rest, known = split(train, test=int(share) / 100, seed=seed + 1000)
    arms: dict[str, tuple[Dataset, int]] = {"baseline": (known, PASSES)}
    told: dict[str, Any] = {"known": len(pairs(known)), "rest": len(pairs(rest))}
    if int(share) in SHARES:
        labelled, about = weak_labels(known, rest, seed)
        whole = concatenate_datasets([known, labelled["soft"]])
        arms["steps"] = (known, matched_epochs(PASSES, judgements_of(known), judgements_of(whole)))
        arms |= {arm: (concatenate_datasets([known, own]), PASSES) for arm, own in labelled.items()}
        arms["true"] = (concatenate_datasets([known, rest]), PASSES)
        told |= about
    runs = {}
    common: dict[str, Any] = {}
    for arm, (taught, passes) in arms.items():
        shares = Shares(taught, None, test)
        run, _ = train_and_judge(shares, f"frozen_{arm}", seed, epochs=passes)
        common = {key: run[key] for key in ("group", "row", "p", "w", "length")}
        kept = {key: run[key] for key in ("seed", "train_pairs", "temperature", "seconds", "bag_of_words")}
        runs[arm] = kept | {"delta": np.round(run["delta"], 3).tolist()}
    bag = runs["baseline"]["bag_of_words"]
    for run in runs.values():
        run.pop("bag_of_words")
    reading = {"records": len(records), "edges": len(pairs(records)), "dropped": {}}
    return {"reading": reading, "told": told, "test": common | {"bag_of_words": bag}, "arms": runs}


def weak_labels(known: Dataset, rest: Dataset, seed: int) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Label the judgements of ``rest`` in every way; return its records by arm, and what is told of the labels."""
    both = concatenate_datasets([known, rest])
    votes = apply(preset("general"), response_pairs(both, seed=seed))
    taught = votes.pairs.row < len(known)
    labels = np.where(taught, votes.pairs.truth, 0)
    there = (votes.votes != 0).any(axis=1)
    p = {}
    for arm, model in (("soft", CorrelatedLabelModel()), ("logistic", LogisticLabelModel())):
        p[arm] = fit_label_model(model, votes.votes, labels, votes.pairs.group, seed=seed).predict(votes.votes)
    hidden = ~taught & there & (votes.pairs.truth != 0)
    truth = (votes.pairs.truth[hidden] + 1) / 2
    delta = np.log(p["soft"][hidden]) - np.log1p(-p["soft"][hidden])
    error = calibration_error(delta, truth)
    majority = np.sign(votes.votes.sum(axis=1, dtype=np.int64))
    length = votes.votes[:, votes.names.index("length")]
    about = {
        "functions": len(DEFAULTS),
        "silent": int((~taught & ~there).sum()),
        "weak_accuracy": _right(p["soft"][hidden] - 0.5, truth),
        "majority_accuracy": _right(majority[hidden], truth),
        "length_accuracy": _right(length[hidden], truth),
        "weak_ece": error.value,
        "weak_in_null_band": bool(error.value <= error.null_band95[1]),
    }
    random = np.random.default_rng(seed).choice([0.0, 1.0], len(p["soft"]))
    hard = np.where(p["soft"] == 0.5, random, p["soft"] > 0.5)
    sides: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "soft": (p["soft"], there),
        "hard": (hard, there),
        "sure": (hard, there & (np.maximum(p["soft"], 1 - p["soft"]) >= SURE)),
        "majority": ((majority + 1) / 2, there & (majority != 0)),
        "by_length": ((length + 1) / 2, length != 0),
        "logistic": (p["logistic"], there),
        "random": (random, there),
    }
    made = {arm: judged_anew(votes, said, ~taught & use) for arm, (said, use) in sides.items()}
    return {arm: own for arm, own in made.items() if len(own)}, about


def _right(margin: np.ndarray, truth: np.ndarray) -> float:
    return float(np.where(margin == 0, 0.5, (margin > 0) == (truth > 0.5)).mean())


def judged_anew(votes: Votes, p: np.ndarray, use: np.ndarray) -> Dataset:
    """Return the records of the pairs in use, with these labels in place of their judgements."""
    chosen: ResponsePairs = votes.pairs.take(use)
    view = pairs(chosen.data)
    # the judgements of the records, of which one for each pair is kept and turned
    turned = chosen.first > chosen.second
    low, high = np.where(turned, chosen.second, chosen.first), np.where(turned, chosen.first, chosen.second)
    said = np.where(turned, 1 - p[use], p[use])
    width = 1 + int(max(view.a.max(), view.b.max()))

    def key(row: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (row * width + np.minimum(a, b)) * width + np.maximum(a, b)

    _, first = np.unique(key(view.row, view.a, view.b), return_index=True)
    view = view.take(np.sort(first))
    wanted = {each: place for place, each in enumerate(key(chosen.row, low, high).tolist())}
    place = np.array([wanted.get(each, -1) for each in key(view.row, view.a, view.b).tolist()])
    kept = view.take(place >= 0)
    place = place[place >= 0]
    straight = kept.a < kept.b
    kept.p[:] = np.where(straight, said[place], 1 - said[place])
    kept.w[:], kept.m[:] = 1.0, 0.0
    kept.source[:] = WEAK
    new = with_pairs(chosen.data, kept)
    return new.select(np.unique(kept.row))


STUDY = Study(
    "weak_supervision",
    __doc__ or "",
    NAMES,
    CONTRASTS,
    run_cell,
    data="hh_rlhf and wmt_da_pairs",
    summarise=partial(write_weak_supervision, contrasts=CONTRASTS, shares=SHARES),
)

if __name__ == "__main__":
    conduct(STUDY)
