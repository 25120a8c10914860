"""What the studies share: cells that train one arm with one seed, kept in files, so that a study can be resumed."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from summary import RESULTS, Contrast, cell_path, machine, write_summary

from assay.evaluation import Temperature
from assay.feedback import ReadReport, folds, pairs, read_with_report, split
from assay.feedback.grades import grade_table
from assay.scorers import create_reward_model
from assay.training.plan import Sizes, plan_batches
from assay.workflows.data import Shares, share_out, without_prompts
from assay.workflows.fitting import fit
from assay.workflows.judging import fit_baselines, scores_on
from assay.workflows.options import model_options, resolved
from assay.workflows.settings import TrainSettings

FOLDS = 5


@dataclass(frozen=True)
class Study:
    """A grid of cells, the claims it tests, and what it says of itself.

    Attributes
    ----------
    name
        Of its result files, and of the script.
    docstring
        What was fixed before the run; it heads the page.
    cells
        All of them, in the order in which they run.
    contrasts
        The claims.
    run_cell
        Run one cell: its name, and the data folder; return its runs and the report of the reading.
    data
        What the folder given with ``--data`` holds; empty: the study needs none.
    summarise
        Writes its results, where cells hold something else than margins on judgements.
    """

    name: str
    docstring: str
    cells: Sequence[str]
    contrasts: Sequence[Contrast]
    run_cell: Callable[[str, Path], dict[str, Any]]
    data: str = ""
    summarise: Callable[[str, str, Path, Sequence[str]], None] | None = None

    @property
    def folder(self) -> Path:
        """Where its finished cells are kept."""
        return RESULTS / f"{self.name}_cells"


def conduct(study: Study) -> None:
    """Run the cells that are missing, as many as the time allows, then write the result file and its page."""
    parser = argparse.ArgumentParser(description=study.docstring.splitlines()[0])
    if study.data:
        parser.add_argument("--data", type=Path, help=f"folder that holds {study.data}")
    parser.add_argument("--cell", choices=study.cells, metavar="NAME", help="run one cell only")
    parser.add_argument("--minutes", type=float, default=120, help="begin no cell after this time")
    parser.add_argument("--summary", action="store_true", help="tables from the finished cells only")
    given = parser.parse_args()
    data: Path | None = given.data if study.data else Path()
    if data is None and not given.summary:
        parser.error("name the data folder with --data, or --summary for the tables alone")
    if given.cell and data is not None:
        quiet()
        keep(study.folder, given.cell, {"cell": given.cell, "machine": machine(), **study.run_cell(given.cell, data)})
        return
    if not given.summary:
        script = str(Path(__file__).with_name(f"{study.name}.py"))
        run_missing(script, study.cells, study.folder, given.minutes, ["--data", str(data)] if study.data else [])
    if study.summarise is not None:
        study.summarise(study.name, study.docstring, study.folder, study.cells)
    else:
        write_summary(study.name, study.docstring, study.folder, study.contrasts, study.cells)


def quiet() -> None:
    """One thread for each run, and no progress bars."""
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging

    torch.set_num_threads(1)
    disable_progress_bars()
    logging.disable_progress_bar()


def on_folds(
    source: dict[str, Any], data: Path, arm: str, seeds: Iterable[int], name: str, **options: Any
) -> dict[str, Any]:
    """Train one arm on one data set; seed s is tested on fold s mod `FOLDS`. Return its runs and the reading.

    Parameters
    ----------
    source
        ``path`` below the data folder, ``reading`` (arguments of `assay.feedback.read`), and ``options`` for all arms.
    arm
        Its name: ``frozen…`` freezes the backbone, ``…_tenth`` keeps a tenth of the training judgements.
    options
        Settings of `assay train`.
    """
    report, cut = cut_by_fold(source, data)
    runs = []
    for seed in seeds:
        train, test = cut[seed % FOLDS]
        if arm.endswith("_tenth"):
            train = split(train, test=0.1, seed=seed)[1]
        fixed = source.get("options", {}) | options
        runs.append(train_and_judge(shares_for(arm, train, test, seed), arm, seed, **fixed)[0])
    return {"reading": report.to_dict() | {"source": name, "places": {}}, "runs": runs}


def cut_by_fold(source: dict[str, Any], data: Path) -> tuple[ReadReport, list[tuple[Dataset, Dataset]]]:
    """Read a data set; return what reading did, and the training and test side of each fold."""
    records, report = read_with_report(str(data / source["path"]), **source["reading"])
    return report, folds(records, FOLDS, seed=0)


def shares_for(arm: str, train: Any, test: Any, seed: int) -> Shares:
    """Share out the training side; a frozen backbone calibrates by cross-fitting, so it needs no validation share."""
    shares = share_out(
        train, test=test, test_share=0, validation_share=0 if arm.startswith("frozen") else 0.1, seed=seed
    )
    if arm != "blind":
        return shares
    if shares.validation is None:
        raise ValueError("too few judgements for a validation share")
    return Shares(without_prompts(shares.fit), without_prompts(shares.validation), without_prompts(test))


def train_and_judge(shares: Shares, arm: str, seed: int, **options: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Fit with the library's own workflow; return margins on the test share with what intervals need, and scores."""
    settings = TrainSettings(
        data="-", out="-", seed=seed, freeze_backbone=arm.startswith("frozen"), token_budget=4096, **options
    )
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit(settings, shares, Path(folder), model)
    if shares.test is None:
        raise ValueError("a study needs a test share")
    view = pairs(shares.test)
    found = scores_on(result.model, shares.test, keep_features=settings.freeze_backbone)
    records, values = found.records, found.evidence
    delta = records.margins(values, view)
    words = fit_baselines(shares.training)["bag_of_words"].delta(view)
    sides = zip(view.row, view.a, view.b, strict=True)
    run = {
        "seed": seed,
        "train_pairs": len(pairs(shares.fit)),
        "temperature": result.calibration.value if isinstance(result.calibration, Temperature) else None,
        "seconds": round(time.time() - started, 1),
        "group": [short_key(group) for group in view.group],
        "row": [short_key(f"{shares.test[int(row)]['prompt_id']}/{a}/{b}") for row, a, b in sides],
        "p": view.p.tolist(),
        "w": view.w.tolist(),
        "length": (view.length_a - view.length_b).tolist(),
        "delta": np.round(delta, 4).tolist(),
        "bag_of_words": np.round(words, 4).tolist(),
    }
    gamma = getattr(result.target, "gamma", None)
    return (run if gamma is None else {**run, "gamma": gamma}), values


def matched_epochs(epochs: int, of: np.ndarray, to: np.ndarray) -> int:
    """Return how many epochs of records with ``of`` items take as many steps as ``epochs`` with ``to`` items.

    Items are what a step counts, ``[records]``: judgements, or the k - 1 comparisons of a list, or graded responses.
    """
    return max(1, round(epochs * steps_per_epoch(to) / steps_per_epoch(of)))


def steps_per_epoch(items: np.ndarray) -> int:
    """Return the number of steps of an epoch."""
    offsets = np.arange(len(items) + 1)
    sizes = Sizes(np.ones(len(items), np.int64), offsets, items, items.astype(float))
    pairs_per_step = TrainSettings(data="-", out="-").pairs_per_step
    return len(plan_batches(sizes, epochs=1, pairs_per_step=pairs_per_step, token_budget=2**40, seed=0))


def judgements_of(data: Dataset) -> np.ndarray:
    """Return the number of judgements of each record."""
    return np.bincount(pairs(data).row, minlength=len(data))


def graded_responses_of(data: Dataset) -> np.ndarray:
    """Return the number of graded responses of each record."""
    table = grade_table(data)
    graded = np.isfinite(table.combined())
    return np.add.reduceat(graded.astype(np.int64), table.offsets[:-1])


def short_key(text: str) -> str:
    """Return a key that tells texts apart without holding them."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def keep(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write a finished cell, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{name}.partial"
    text = json.dumps(content, separators=(",", ":"))
    beside.write_bytes(gzip.compress(text.encode(), mtime=0))
    beside.rename(folder / f"{name}.json.gz")


def run_missing(script: str, names: Sequence[str], folder: Path, minutes: float, extra: list[str]) -> None:
    """Run the cells that are not there yet, two processes at a time, and begin none after the time is up."""
    end = time.time() + 60 * minutes

    def one(name: str) -> None:
        if cell_path(folder, name) is not None or time.time() > end:
            return
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        done = subprocess.run([sys.executable, script, *extra, "--cell", name], capture_output=True, text=True)
        if done.returncode:
            print(f"{name} failed:\n{done.stderr[-2000:]}", flush=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, names))
