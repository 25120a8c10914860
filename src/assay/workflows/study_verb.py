"""``assay study``: which method to use on these judgements, from methods x fractions x seeds on one test."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import dump_yaml
from assay.console import quiet, say
from assay.errors import AssayError, ConfigError, DataError, OutputError
from assay.evaluation.metrics import decided
from assay.feedback import pairs
from assay.feedback.splitting import group_columns
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.training.starting import FEWEST_PAIRS
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.members import warn_of_one
from assay.workflows.resuming import kept_if_resumable, refuse_another_run
from assay.workflows.study_bench import Bench, open_bench
from assay.workflows.study_cells import Part, run_cell
from assay.workflows.study_methods import Method, methods_of, on_features
from assay.workflows.study_results import held_out_of, results_of, write_page
from assay.workflows.study_settings import StudySettings

IDENTITY, CELLS, CHECKPOINTS = "study.json", "cells", "checkpoints"
#: What may differ between an interrupted study and the one that continues it.
_FREE = {"data", "test", "out", "resume", "overwrite", "dry_run", "workers", "methods", "fractions", "define"}
_FREE |= {"resamples", "smallest_effect", "token_budget", "baseline"}

#: A method on a fraction, and which part of its training.
Cell = tuple[Method, float, Part]


def study(settings: StudySettings) -> dict[str, Any]:
    """Run `assay study`; return what ``results.json`` holds.

    The folder holds ``cells/`` (margins of every method on every fraction), ``results.json``, ``study.md`` with
    ``efficiency.svg``, and ``config.yaml``. Cells that an interrupted study has finished are not run again.

    Raises
    ------
    ConfigError
        If a method is not known or its settings are not right, or a folder to continue holds another study.
    DataError
        If the data are too few for the smallest fraction.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    methods = methods_of(settings)
    bench = open_bench(settings)
    for method in methods:
        warn_of_one(method.settings, f"ensemble.members of the method {method.name}")
    settings = settings.model_copy(update={"fractions": _large_enough(bench, settings, methods)})
    cells: list[Cell] = [(method, fraction, "all") for fraction in sorted(settings.fractions) for method in methods]
    if settings.dry_run:
        return {"dry_run": True, "methods": [method.name for method in methods], "cells": len(cells) * settings.seeds}
    _refuse_lost_cells(settings)
    with new_folder(settings.out, overwrite=settings.overwrite, resume=settings.resume, keep_on_error=True) as folder:
        _refuse_another_study(folder, settings, bench, methods)
        started = time.time()
        (folder / CELLS).mkdir(exist_ok=True)
        saved = None
        with kept_if_resumable(folder, _finished_cells):
            if settings.keep is not None:
                cells, saved = _select(settings, bench, cells, folder)
            _run(settings, bench, cells, folder)
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        found = [read_cell(folder / CELLS, *cell) for cell in cells]
        results = results_of(settings, held_out_of(bench), found)
        results |= {
            "one_epoch_selection": saved,
            "seconds": round(time.time() - started, 1),
            "settings": settings.model_dump(mode="json"),
            "hardware": hardware.describe(),
            "versions": current_versions(),
        }
        write_json(folder / "results.json", results)
        write_page(folder, results)
        write_atomic(
            folder / "config.yaml", dump_yaml(settings.model_copy(update={"overwrite": False, "resume": False}))
        )
    return results


def _select(
    settings: StudySettings, bench: Bench, cells: list[Cell], folder: Path
) -> tuple[list[Cell], dict[str, Any]]:
    """Train one epoch of all; return the cells to be finished, and what that saves."""
    assert settings.keep is not None
    first: list[Cell] = [(method, fraction, "first epoch") for method, fraction, _ in cells]
    _run(settings, bench, first, folder)
    kept: list[Cell] = []
    spent = whole = 0
    left: dict[str, list[str]] = {}
    for fraction in sorted(settings.fractions):
        here = [cell for cell in first if cell[1] == fraction]
        found = {cell[0].name: read_cell(folder / CELLS, *cell) for cell in here}
        ranked = {
            name: float(np.mean([run["nll"] if run["nll"] is not None else np.inf for run in cell["runs"]]))
            for name, cell in found.items()
            if name != settings.baseline
        }
        finish = best_of(ranked, settings.keep) | {settings.baseline}
        kept += [(method, fraction, "the rest") for method, _, _ in here if method.name in finish]
        left[f"{fraction:g}"] = [name for name in found if name not in finish]
        epochs = {name: [run["epochs"] for run in cell["runs"]] for name, cell in found.items()}
        here_spent, here_whole = epochs_spent(epochs, finish)
        spent, whole = spent + here_spent, whole + here_whole
    say(f"after one epoch: {spent:,} epochs in place of {whole:,} ({100 * (1 - spent / whole):.0f} % saved)")
    return kept, {"keep": settings.keep, "epochs": spent, "exhaustive": whole, "left_out": left}


def best_of(after_one_epoch: Mapping[str, float], keep: int) -> set[str]:
    """Return the ``keep`` names with the least loss after one epoch (Egele et al. 2023); of equals the first."""
    return set(sorted(after_one_epoch, key=lambda name: after_one_epoch[name])[:keep])


def epochs_spent(epochs: Mapping[str, Sequence[int]], finished: set[str]) -> tuple[int, int]:
    """Return how many epochs were trained, one of each and all of those that were finished; and all of everything.

    ``epochs`` has by name the epochs of each of its trainings.
    """
    spent = sum(sum(each) if name in finished else len(each) for name, each in epochs.items())
    return spent, sum(map(sum, epochs.values()))


def cell_name(method: Method, fraction: float, part: Part) -> str:
    """Return the name of a cell's file, without its ending."""
    return f"{method.name}.{fraction:g}" + {"all": "", "first epoch": ".first", "the rest": ".rest"}[part]


def read_cell(folder: Path, method: Method, fraction: float, part: Part) -> dict[str, Any]:
    """Return a finished cell.

    Raises
    ------
    OutputError
        If its file is damaged.
    """
    path = folder / f"{cell_name(method, fraction, part)}.json.gz"
    try:
        return dict(json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError) as error:
        raise OutputError(
            "a finished cell is damaged", where=str(path), remedy="delete it; --resume makes it"
        ) from error


def _run(settings: StudySettings, bench: Bench, cells: list[Cell], folder: Path) -> None:
    """Run the cells that are missing, the largest fractions first, in several processes."""
    missing = [cell for cell in cells if not (folder / CELLS / f"{cell_name(*cell)}.json.gz").is_file()]
    missing.sort(key=lambda cell: -cell[1])
    if len(missing) < len(cells):
        say(f"{len(cells) - len(missing)} of {len(cells)} cells were finished before")
    done = len(cells) - len(missing)
    for cell, content in _trained(settings, bench, missing, folder):
        name = cell_name(*cell)
        packed = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)
        write_atomic(folder / CELLS / f"{name}.json.gz", packed)
        done += 1
        seconds = sum(run["seconds"] for run in content["runs"])
        say(f"{done} of {len(cells)}: {name}, {settings.seeds} seeds in {seconds:.0f} s")


def _trained(
    settings: StudySettings, bench: Bench, cells: list[Cell], folder: Path
) -> Iterable[tuple[Cell, dict[str, Any]]]:
    """Yield finished cells as they come."""
    workers = min(settings.workers or _usual_workers(), len(cells))
    if workers <= 1:
        for cell in cells:
            yield cell, _cell(bench, settings, folder, cell)
        return
    for method in {method.name: method for method, _, _ in cells}.values():
        if on_features(method.settings):  # so that the processes find them made, and do not all make the same
            bench.vectors_for(method.settings, bench.model_for(method.settings))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(bench, settings, folder)) as pool:
        running: dict[Future[dict[str, Any]], Cell] = {pool.submit(_cell_there, cell): cell for cell in cells}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise AssayError(
                "a process of the study was ended from outside",
                expected=f"memory for {workers} processes at a time",
                remedy="fewer of them: --workers 1 --resume",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_THERE: dict[str, Any] = {}


def _begin(bench: Bench, settings: StudySettings, folder: Path) -> None:
    """Prepare a process: one thread, no bars, and nothing said twice."""
    torch.set_num_threads(1)
    quiet()
    _THERE.update(bench=bench, settings=settings, folder=folder)


def _cell_there(cell: Cell) -> dict[str, Any]:
    return _cell(_THERE["bench"], _THERE["settings"], _THERE["folder"], cell)


def _cell(bench: Bench, settings: StudySettings, folder: Path, cell: Cell) -> dict[str, Any]:
    method, fraction, part = cell
    checkpoints = folder / CHECKPOINTS / cell_name(method, fraction, "all")
    if part == "first epoch":
        shutil.rmtree(checkpoints, ignore_errors=True)
    seeds = range(settings.seeds)
    return run_cell(bench, method, fraction, seeds, settings.most_steps, part, None if part == "all" else checkpoints)


def _usual_workers() -> int:
    if hardware.best_device().type == "cuda":
        return 1
    # what this process may use; not every system tells
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _large_enough(bench: Bench, settings: StudySettings, methods: list[Method]) -> tuple[float, ...]:
    """Return the fractions that all methods can learn from; one that was named and is too small is refused.

    Raises
    ------
    DataError
        If none is left, or a named one is too small.
    """
    fractions = sorted(settings.fractions)
    for place, fraction in enumerate(fractions):
        problem = _too_small(bench, settings, methods, fraction)
        if problem is None:
            return tuple(fractions[place:])  # each lies within the next
        if "fractions" in settings.model_fields_set or fraction == fractions[-1]:
            raise DataError(
                f"a fraction of {fraction:g} is too small: {problem[0]}",
                where=settings.data,
                expected=problem[1],
                got=problem[2],
                remedy="leave the smallest --fractions or the method out, or bring more judgements",
            )
        say(f"left out the fraction {fraction:g}, which is too small: {problem[0]} ({problem[2]})")
    raise AssertionError("there is no largest fraction")


def _too_small(
    bench: Bench, settings: StudySettings, methods: list[Method], fraction: float
) -> tuple[str, str, str] | None:
    """Say why a fraction cannot be learned from, what would do, and what there is; None: it can."""
    chosen = [bench.data.select(bench.learned(seed, fraction)) for seed in range(settings.seeds)]
    groups = min(len(np.unique(group_columns(data)[0])) for data in chosen)
    if groups < 2:
        return "nothing is left to calibrate on", "at least two split groups", f"{groups} group"
    banks = [method.name for method in methods if method.settings.head.kind in ("prototypes", "kernel")]
    if banks:
        verdicts = [decided(pairs(data).p) for data in chosen]
        fewest = min(map(len, verdicts))
        if fewest < FEWEST_PAIRS or not all(verdict.any() for verdict in verdicts):
            wanted = f"at least {FEWEST_PAIRS} judgements, some of which prefer a response"
            return f"{banks[0]} is built from the responses of judged pairs", wanted, f"{fewest} judgements"
    return None


def _refuse_lost_cells(settings: StudySettings) -> None:
    """Refuse to begin anew where hours of finished cells would go."""
    target = Path(settings.out).resolve()
    left = list(target.with_name(target.name + ".partial").glob(f"{CELLS}/*.json.gz"))
    if left and not (settings.resume or settings.overwrite):
        raise OutputError(
            "an interrupted study has finished cells here",
            where=str(left[0].parent.parent),
            got=f"{len(left)} cells",
            remedy="--resume goes on from there, --overwrite begins anew",
        )


def _finished_cells(folder: Path) -> str | None:
    """Say how many cells are finished; None: none is."""
    count = len(list((folder / CELLS).glob("*.json.gz")))
    return f"{count} finished cells" if count else None


def _refuse_another_study(folder: Path, settings: StudySettings, bench: Bench, methods: list[Method]) -> None:
    """Refuse to continue a study of other data or settings; other methods and fractions may be added."""
    path = folder / IDENTITY
    fixed = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _FREE}
    identity = {"settings": fixed, "judgements": bench.identity(), "torch": torch.__version__}
    refuse_another_run(path, identity)
    given = json.loads(json.dumps({method.name: method.given for method in methods}))
    stored = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.is_file() else {}
    changed = [name for name in given if name in stored and stored[name] != given[name]]
    if changed:
        raise ConfigError(
            f"the interrupted study has another method by the name of {changed[0]}",
            where=str(folder),
            expected=json.dumps(stored[changed[0]]),
            got=json.dumps(given[changed[0]]),
            remedy="define this one by another name, or begin anew with --overwrite",
        )
    write_json(path, identity | {"methods": stored | given})
