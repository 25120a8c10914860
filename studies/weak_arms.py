"""Arms of weak labels: the same pairs, labelled in different ways, and a reward model on each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import train_and_judge
from datasets import Dataset, concatenate_datasets

from assay.evaluation import calibration_error
from assay.evaluation.label_calibration import fit_label_model
from assay.feedback import from_rows, read
from assay.feedback.label_models import CorrelatedLabelModel, LogisticLabelModel
from assay.feedback.labeling import LabelingFunction, ResponsePairs, apply, response_pairs
from assay.feedback.labeling.writing import write_weak
from assay.workflows.data import Shares

SURE = 0.6


def train_arms(
    arms: dict[str, tuple[Dataset, int]], test: Dataset, seed: int, **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train a head on a frozen backbone for each arm, given its records and passes; return the test and the runs."""
    runs: dict[str, Any] = {}
    common: dict[str, Any] = {}
    for arm, (taught, passes) in arms.items():
        run, _ = train_and_judge(Shares(taught, None, test), f"frozen_{arm}", seed, epochs=passes, **options)
        told = ("group", "row", "p", "w", "length", *(() if runs else ("bag_of_words",)))
        common |= {key: run[key] for key in told}
        kept = {key: run[key] for key in ("seed", "train_pairs", "temperature", "seconds")}
        runs[arm] = kept | {"delta": np.round(run["delta"], 3).tolist()}
    return common, runs


def weak_labels(
    functions: Sequence[LabelingFunction], known: Dataset, rest: Dataset, seed: int
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Label the judgements of ``rest`` in every way; return its records by arm, and what is told of the labels."""
    both = concatenate_datasets([known, rest])
    votes = apply(functions, response_pairs(both, seed=seed))
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
        "functions": len(functions),
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
    used = {arm: (said, ~taught & use) for arm, (said, use) in sides.items()}
    made = {arm: judged_anew(votes.pairs.take(use), said[use]) for arm, (said, use) in used.items() if use.any()}
    return made, about


def _right(margin: np.ndarray, truth: np.ndarray) -> float:
    return float(np.where(margin == 0, 0.5, (margin > 0) == (truth > 0.5)).mean())


def judged_anew(chosen: ResponsePairs, p: np.ndarray) -> Dataset:
    """Return the records of these pairs with weak judgements in place of others, as `assay label` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        write_weak(Path(folder) / "weak.parquet", chosen, p)
        return from_rows(read(str(Path(folder) / "weak.parquet")))
