"""The cells of a study: one method on one fraction, trained and tested with every seed."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay.evaluation import Temperature
from assay.feedback import pairs
from assay.scorers import create_reward_model
from assay.scorers.encoding import mean_of_members
from assay.workflows.data import Shares, share_out
from assay.workflows.fits import Fit
from assay.workflows.fitting import fit
from assay.workflows.fitting_frozen import fit_heads
from assay.workflows.graded import with_attributes
from assay.workflows.heads import record_folds
from assay.workflows.judging import scores_on
from assay.workflows.options import epochs_within, model_options, resolved
from assay.workflows.settings import RoundsSettings, TrainSettings
from assay.workflows.study_bench import Bench
from assay.workflows.study_methods import Method, on_features
from assay.workflows.study_rounds import evolve_on_features
from assay.workflows.targets import each_of_sweep

Part = Literal["all", "first epoch", "the rest"]


def run_cell(
    bench: Bench,
    method: Method,
    fraction: float,
    seeds: range,
    most_steps: int,
    part: Part = "all",
    checkpoints: Path | None = None,
) -> dict[str, Any]:
    """Train and test one method on one fraction with every seed.

    Parameters
    ----------
    most_steps
        Epochs are cut to about so many optimiser steps, so that large fractions do not take ten times as long as they
        need.
    part, checkpoints
        Train the first epoch only, leaving checkpoints in that folder; or the rest from these. Frozen backbones only.

    Returns
    -------
    dict
        ``method``, ``fraction``, ``given``, and ``runs``: per seed the numbers of judgements and groups it learned
        from, epochs, seconds, temperature, calibrated NLL on judgements out of fold (or of the validation share), and
        the margins on its test, in the order of its judgements.
    """
    runs = [_run(bench, method, fraction, seed, most_steps, part, checkpoints) for seed in seeds]
    return {"method": method.name, "fraction": fraction, "given": method.given, "runs": runs}


def _run(
    bench: Bench,
    method: Method,
    fraction: float,
    seed: int,
    most_steps: int,
    part: Part,
    checkpoints: Path | None,
) -> dict[str, Any]:
    started = time.time()
    rows, tested = bench.learned(seed, fraction), bench.tested(seed)
    data = bench.data.select(rows)
    view = pairs(data)
    settings = method.settings.model_copy(update={"seed": method.settings.seed + seed})
    about = {"seed": seed, "judgements": len(view), "groups": len(np.unique(view.group))}
    if method.rounds is not None:
        return (
            about
            | _evolved(bench, method.rounds, settings, rows, seed, most_steps)
            | {"seconds": round(time.time() - started, 2)}
        )
    settings = settings.model_copy(update={"epochs": epochs_within(settings, len(view), most_steps)})
    settings = with_attributes(settings, data)
    with tempfile.TemporaryDirectory() as folder:
        if on_features(settings):
            kept = Path(folder) if checkpoints is None else checkpoints / str(seed)
            result, margins = _on_features(bench, settings, rows, tested, kept, part)
        else:
            result, margins = _whole(bench, settings, data, tested, Path(folder))
    calibration = result.calibration
    return about | {
        "epochs": settings.epochs,
        "seconds": round(time.time() - started, 2),
        "temperature": calibration.value if isinstance(calibration, Temperature) else None,
        "nll": None if calibration is None else calibration.nll_after,
        "margins": np.round(margins, 4).tolist(),
    }


def _evolved(
    bench: Bench, rounds: RoundsSettings, settings: TrainSettings, rows: np.ndarray, seed: int, most_steps: int
) -> dict[str, Any]:
    """Train with rounds of self-labels on what a seed may learn from and a fraction leaves out."""
    model = bench.model_for(settings)
    whole = bench.vectors_for(settings, model)
    tested = bench.tested(seed)
    wanted = pairs(bench.data.select(tested))
    wanted = replace(wanted, row=tested[wanted.row])
    rest = np.setdiff1d(bench.learned(seed, 1.0), rows)
    found = evolve_on_features(rounds, settings, whole, model, rows, rest, wanted, most_steps)
    return {
        "round": found.round,
        "self_labels": found.labels,
        "temperature": found.temperature,
        "nll": found.nll,
        "margins": np.round(found.margins, 4).tolist(),
    }


def _on_features(
    bench: Bench, settings: TrainSettings, rows: np.ndarray, tested: np.ndarray, folder: Path, part: Part
) -> tuple[Fit, np.ndarray]:
    model = bench.model_for(settings)
    settings = resolved(settings, 0)
    whole = bench.vectors_for(settings, model)
    given, test = whole.select(rows), whole.select(tested)
    fold_of = record_folds(given.data, settings.calibration_folds, settings.seed)
    tried = [
        fit_heads(settings.model_copy(update={"target": target}), given, fold_of, folder / f"{n}", model, part=part)
        for n, target in enumerate(each_of_sweep(settings.target))
    ]
    # a sweep is decided out of fold, as in `assay train`
    result = min(tried, key=lambda found: math.inf if found.calibration is None else found.calibration.nll_after)
    evidence = result.model.score_features(test.features, test.records.prompt_of, native=True)
    return result, mean_of_members(test.records.margins(evidence, pairs(test.data)))


def _whole(
    bench: Bench, settings: TrainSettings, data: Any, tested: np.ndarray, folder: Path
) -> tuple[Fit, np.ndarray]:
    """Train all weights, or an adapter; the model is made anew, since it changes."""
    test = bench.data.select(tested)
    share = 0.0 if settings.freeze_backbone else settings.validation_share
    shares = share_out(data, test=None, test_share=0, validation_share=share, seed=settings.seed)
    model = create_reward_model(model_options(settings, settings.seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    result = fit(settings, Shares(shares.fit, shares.validation, None), folder, model)
    found = scores_on(result.model, test, settings.token_budget, keep_features=settings.freeze_backbone)
    return result, mean_of_members(found.margins(pairs(test)))
