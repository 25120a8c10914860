"""Rounds of self-labels on cached features, with the loop of `assay evolve`, and with weak labels beside them."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from weak_arms import weak_labels

from assay.evaluation import fit_temperature
from assay.feedback import pairs
from assay.feedback.labeling import preset
from assay.feedback.pairs import WEAK, Pairs
from assay.feedback.self_labels import Rule, kept_by_rule
from assay.feedback.splitting import nested_shares
from assay.scorers import RewardModel
from assay.scorers.encoding import scores_in
from assay.workflows.fitting_frozen import Vectors, fit_heads
from assay.workflows.heads import record_folds
from assay.workflows.model_settings import MembersSettings
from assay.workflows.options import resolved
from assay.workflows.settings import TrainSettings
from assay.workflows.study_bench import Bench
from assay.workflows.study_cells import epochs_within
from assay.workflows.study_methods import Method

ROUNDS, CHECK, COVERAGE = 3, 0.2, 0.5


def run_rounds(
    bench: Bench,
    method: Method,
    fraction: float,
    seeds: range,
    steps: int,
    *,
    soft: bool = False,
    weak: bool = False,
    members: int = 1,
) -> list[dict[str, Any]]:
    """Run the rounds with every seed; what they return is what `assay.workflows.study_cells.run_cell` keeps of runs."""
    settings = method.settings
    if members > 1:
        settings = settings.model_copy(update={"ensemble": MembersSettings(members=members)})
    return [_run(bench, settings, fraction, seed, steps, soft, weak) for seed in seeds]


def _run(
    bench: Bench, settings: TrainSettings, fraction: float, seed: int, steps: int, soft: bool, weak: bool
) -> dict[str, Any]:
    started = time.time()
    settings = settings.model_copy(update={"seed": settings.seed + seed})
    model = bench.model_for(settings)
    whole = bench.vectors_for(settings, model)
    view = whole.records.pairs
    known = bench.learned(seed, fraction)
    rest = np.setdiff1d(bench.learned(seed, 1.0), known)
    check = known[nested_shares(bench.data.select(known), [CHECK], seed + 1)[0]]
    learn = np.setdiff1d(known, check)
    checked, tested = (view.take(np.isin(view.row, rows)) for rows in (check, bench.tested(seed)))
    taught, pool = (np.flatnonzero(np.isin(view.row, rows)) for rows in (learn, rest))
    p = np.full(len(view), np.nan)
    if weak:
        p[pool] = _weak_shares(bench, known, rest, view.take(pool), seed)
    sure = np.zeros(len(view), bool)
    best: dict[str, Any] = {}
    rounds = 0
    for number in range(ROUNDS + 1):
        used = np.concatenate([taught, pool[np.isfinite(p[pool])]])
        result = _fit(settings, whole, view, used, p, taught, steps, model)
        evidence = result.score_features(whole.features, whole.records.prompt_of, native=True)
        calibration = fit_temperature(_margins(whole, evidence, checked), checked.p, checked.w)
        if best and calibration.nll_after > best["nll"]:
            break
        rounds = number
        margins = _margins(whole, evidence, tested)
        best = {"temperature": calibration.value, "nll": calibration.nll_after, "margins": np.round(margins, 4)}
        best["labels"] = len(used) - len(taught)
        values = scores_in(evidence)
        values = values.mean(axis=1) if values.ndim == 2 else values
        sides = _standard(values, whole, learn, calibration.value)
        coverage = _kept(sides, whole, checked, "one").mean()
        rule: Rule = "two" if coverage > COVERAGE else "one"
        found = pool[_kept(sides, whole, view.take(pool), rule) & ~sure[pool]]
        if len(found) == 0:
            break
        sure[found] = True
        delta = _margins(whole, evidence, view.take(found))
        p[found] = expit(delta / calibration.value) if soft else (delta > 0).astype(float)
    return {
        "seed": seed,
        "judgements": int(np.isin(view.row, known).sum()),
        "groups": len(np.unique(view.group[np.isin(view.row, known)])),
        "rounds": rounds,
        "seconds": round(time.time() - started, 2),
        **best,
        "margins": _all_margins(best["margins"], tested, pairs(bench.data.select(bench.tested(seed))), bench, seed),
    }


def _fit(
    settings: TrainSettings,
    whole: Vectors,
    view: Pairs,
    used: np.ndarray,
    p: np.ndarray,
    taught: np.ndarray,
    steps: int,
    model: RewardModel,
) -> RewardModel:
    """Train on people's judgements and on the labels of the others, whose own verdicts are hidden."""
    shares = np.where(np.isin(np.arange(len(view)), taught), view.p, p)
    source = np.where(np.isin(np.arange(len(view)), taught), view.source, WEAK)
    # one fold: nothing is calibrated by folds here
    return fit_on(settings, whole, replace(view, p=shares, source=source).take(used), steps, model, folds=1)


def fit_on(
    settings: TrainSettings, whole: Vectors, given: Pairs, steps: int, model: RewardModel, *, folds: int
) -> RewardModel:
    """Train heads on some judgements of the records of a bench; calibrated out of fold with two folds or more."""
    rows = np.unique(given.row)
    vectors = Vectors(whole.data, replace(whole.records, pairs=given), whole.features).select(rows)
    settings = resolved(settings.model_copy(update={"epochs": epochs_within(settings, len(given), steps)}), 0)
    fold_of = record_folds(vectors.data, folds, settings.seed) if folds > 1 else np.zeros(len(rows), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        return fit_heads(settings, vectors, fold_of, Path(folder), model).model


def _margins(whole: Vectors, evidence: np.ndarray, given: Pairs) -> np.ndarray:
    found = whole.records.margins(evidence, given)
    return found.mean(axis=1) if found.ndim == 2 else found


def _standard(values: np.ndarray, whole: Vectors, learn: np.ndarray, temperature: float) -> np.ndarray:
    """Return scores centred on the judged responses, in units of the temperature."""
    return (values - values[whole.records.texts_of(learn)].mean()) / temperature


def _kept(scores: np.ndarray, whole: Vectors, given: Pairs, rule: Rule) -> np.ndarray:
    first = whole.records.offsets[given.row]
    return kept_by_rule(scores[first + given.a], scores[first + given.b], rule)


def run_peer(
    bench: Bench, name: str, method: Method, fractions: Sequence[float], seeds: range, steps: int, rate: float
) -> list[dict[str, Any]]:
    """Train the ensemble of rewarduq on the same features, records and steps; its cells, without calibration."""
    python = Path(__file__).parents[1] / ".venv-rewarduq" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"rewarduq is not installed: {python} is missing (CONTRIBUTING.md says how)")
    model = bench.model_for(method.settings)
    whole = bench.vectors_for(method.settings, model)
    view, first = whole.records.pairs, whole.records.offsets
    jobs, about = [], []
    for fraction in fractions:
        for seed in seeds:
            taught = view.take(np.isin(view.row, bench.learned(seed, fraction)) & (view.p != 0.5))
            wanted = pairs(bench.data.select(bench.tested(seed)))
            tested = bench.tested(seed)[wanted.row]
            sides = np.stack([first[taught.row] + taught.a, first[taught.row] + taught.b], axis=1)
            sides = np.where(taught.p[:, None] > 0.5, sides, sides[:, ::-1])
            pairs_tested = np.stack([first[tested] + wanted.a, first[tested] + wanted.b], axis=1)
            epochs = epochs_within(method.settings, len(taught), steps)
            count = epochs * math.ceil(len(taught) / method.settings.pairs_per_step)
            jobs.append({"seed": seed, "steps": count, "rate": rate} | {"taught": sides.tolist()})
            jobs[-1]["tested"] = pairs_tested.tolist()
            about.append((fraction, seed, len(taught)))
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", whole.features)
        (Path(folder) / "jobs.json").write_text(json.dumps(jobs))
        subprocess.run([str(python), str(Path(__file__).with_name("rewarduq_peer.py")), folder], check=True)
        margins = json.loads((Path(folder) / "margins.json").read_text())
    seconds = round((time.time() - started) / len(jobs), 2)
    runs = [
        (fraction, {"seed": seed, "judgements": count, "seconds": seconds, "temperature": None, "margins": found})
        for (fraction, seed, count), found in zip(about, margins, strict=True)
    ]
    return [
        {"method": name, "fraction": fraction, "runs": [run for own, run in runs if own == fraction]}
        for fraction in fractions
    ]


def _weak_shares(bench: Bench, known: np.ndarray, rest: np.ndarray, pool: Pairs, seed: int) -> np.ndarray:
    """Return P(first better) of the pairs of the pool by a label model; NaN where no function votes."""
    left = bench.data.select(rest)
    made = weak_labels(preset("general"), bench.data.select(known), left, seed)[0]["soft"]
    labels = pairs(made)
    names = dict(zip(left["prompt_id"], rest.tolist(), strict=True))
    rows = [names[made[int(row)]["prompt_id"]] for row in np.unique(labels.row)]
    row_of = dict(zip(np.unique(labels.row).tolist(), rows, strict=True))
    found = {
        (row_of[row], a, b): share
        for row, a, b, share in zip(
            labels.row.tolist(), labels.a.tolist(), labels.b.tolist(), labels.p.tolist(), strict=True
        )
    }
    shares = []
    for row, a, b in zip(pool.row.tolist(), pool.a.tolist(), pool.b.tolist(), strict=True):
        share = found.get((row, a, b))
        other = found.get((row, b, a))
        shares.append(share if share is not None else np.nan if other is None else 1 - other)
    return np.array(shares)


def _all_margins(margins: np.ndarray, tested: Pairs, wanted: Pairs, bench: Bench, seed: int) -> list[float]:
    """Return margins of all tested judgements, 0 for those whose texts became the same tokens."""
    rows = bench.tested(seed)
    known = dict(zip(_keys(tested, None), margins.tolist(), strict=True))
    return [known.get(key, 0.0) for key in _keys(wanted, rows)]


def _keys(given: Pairs, rows: np.ndarray | None) -> list[tuple[int, int, int]]:
    row = given.row if rows is None else rows[given.row]
    return list(zip(row.tolist(), given.a.tolist(), given.b.tolist(), strict=True))
