"""Arms of `few_labels` that are no method of `assay study`: everything together, and the peer."""

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
from weak_arms import weak_labels

from assay.feedback import pairs
from assay.feedback.labeling import preset
from assay.feedback.pairs import Pairs
from assay.workflows.model_settings import MembersSettings
from assay.workflows.options import epochs_within
from assay.workflows.settings import RoundsSettings
from assay.workflows.study_bench import Bench
from assay.workflows.study_methods import Method
from assay.workflows.study_rounds import evolve_on_features

MEMBERS = 3


def run_ours(bench: Bench, method: Method, fraction: float, seeds: range, steps: int) -> list[dict[str, Any]]:
    """Train members of one method on known judgements, soft weak labels of the rest, and soft self-labels."""
    return [_ours(bench, method, fraction, seed, steps) for seed in seeds]


def _ours(bench: Bench, method: Method, fraction: float, seed: int, steps: int) -> dict[str, Any]:
    started = time.time()
    several = {"ensemble": MembersSettings(members=MEMBERS), "seed": method.settings.seed + seed}
    settings = method.settings.model_copy(update=several)
    model = bench.model_for(settings)
    whole = bench.vectors_for(settings, model)
    view = whole.records.pairs
    known, tested = bench.learned(seed, fraction), bench.tested(seed)
    rest = np.setdiff1d(bench.learned(seed, 1.0), known)
    weak, pool = np.full(len(view), np.nan), np.isin(view.row, rest)
    weak[pool] = _weak_shares(bench, known, rest, view.take(pool), seed)
    wanted = pairs(bench.data.select(tested))
    wanted = replace(wanted, row=tested[wanted.row])
    rounds = RoundsSettings(soft=True)
    found = evolve_on_features(rounds, settings, whole, model, known, rest, wanted, steps, weak)
    return {
        "seed": seed,
        "judgements": int(np.isin(view.row, known).sum()),
        "round": found.round,
        "labels": found.labels,
        "temperature": found.temperature,
        "nll": found.nll,
        "seconds": round(time.time() - started, 2),
        "margins": np.round(found.margins, 4).tolist(),
    }


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
