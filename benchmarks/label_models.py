"""Weighing votes, and casting them: assay against snorkel and crowd-kit, on one thread and the same votes.

    python benchmarks/label_models.py --data DATA [--out benchmarks/results/label_models.json]

First the gate: on 20,000 planted rows all label models must be right equally often, and functions must cast the same
votes on the same texts. Then the sides take turns. `ratio` is snorkel's time over assay's, to fit a label model to a
million rows of ten functions and predict them all. Under `others`: crowd-kit's Dawid-Skene on a tenth of the rows; and
casting votes, snorkel's `PandasLFApplier` against columns, per vote. Last, `assay label` on a million pairs end to end,
the judgements of harmless-base teaching and calibrating the default label model.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from harness import arguments, finish

from assay.feedback import read
from assay.feedback.label_models import ConfusionLabelModel, CorrelatedLabelModel, SymmetricLabelModel
from assay.feedback.labeling import Batch, Texts, preset, response_pairs
from assay.feedback.labeling.texts import batches
from assay.versions import current_versions
from assay.workflows import hardware

ROWS, FUNCTIONS, SMALL = 1_000_000, 10, 100_000
ACCURACY = [0.8, 0.7, 0.6, 0.75, 0.65, 0.6, 0.55, 0.7, 0.6, 0.65]
SIMPLE = ("length", "numbers")


def planted(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw votes of independent functions that vote on half of the rows, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 1], rows)
    right = random.random((rows, FUNCTIONS)) < ACCURACY
    voted = random.random(right.shape) < 0.5
    return (np.where(right, truth[:, None], -truth[:, None]) * voted).astype(np.int8), truth


def ours(votes: np.ndarray) -> np.ndarray:
    """Fit to distinct rows, and predict."""
    return SymmetricLabelModel("em").fit(votes).predict(votes)


def by_snorkel(votes: np.ndarray) -> np.ndarray:
    """Fit snorkel's label model as its documentation does, and predict; -1 is its abstention, 1 the first response."""
    from snorkel.labeling.model import LabelModel

    classes = np.where(votes == 0, -1, (votes > 0).astype(int))
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(classes, n_epochs=100, seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(classes)[:, 1])


def by_crowd_kit(votes: np.ndarray) -> np.ndarray:
    """Fit crowd-kit's Dawid-Skene to the same votes as a table of answers."""
    import pandas
    from crowdkit.aggregation import DawidSkene

    row, function = np.nonzero(votes)
    answers = pandas.DataFrame({"task": row, "worker": function, "label": (votes[row, function] > 0).astype(int)})
    found = DawidSkene(n_iter=100).fit_predict_proba(answers)
    p = np.full(len(votes), 0.5)
    p[found.index.to_numpy()] = found[1].to_numpy()
    return p


def timed(task: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """Return the seconds that a task takes, and what it returns."""
    started = time.perf_counter()
    result = task(*given)
    return time.perf_counter() - started, result


def gate() -> dict[str, float]:
    """Compare how often label models are right; raise where they differ."""
    votes, truth = planted(20_000, 99)
    voted = (votes != 0).any(axis=1)
    sides = {"ours": ours, "snorkel": by_snorkel, "crowd-kit": by_crowd_kit}
    right = {name: float(((side(votes) > 0.5) == (truth > 0))[voted].mean()) for name, side in sides.items()}
    print(f"right on {int(voted.sum())} rows: {right}", flush=True)
    largest = max(abs(right["ours"] - other) for other in right.values())
    if largest > 0.005:
        raise SystemExit(f"the label models do not agree, so nothing is measured: {right}")
    return {"accuracy": largest}


def texts_of(data: Path) -> tuple[Any, Any, Any]:
    """Return real pairs: as columns, and as the table that snorkel's applier walks through."""
    import pandas

    pairs = response_pairs(read(str(data / "hh_rlhf" / "harmless-base" / "test.jsonl.gz")))
    parts = list(batches(pairs.data))
    lines = [line for _, texts in parts for line in texts.lines]
    texts = Texts(pa.array(lines), np.arange(len(lines)) // 2, [])
    begin = 2 * pairs.row
    first, second = begin + pairs.first, begin + pairs.second
    frame = pandas.DataFrame({"first": [lines[i] for i in first], "second": [lines[i] for i in second]})
    return texts, Batch(texts, first, second), frame


def by_rows(frame: Any) -> np.ndarray:
    """Cast the simple votes by snorkel's applier, a row at a time."""
    import re

    from snorkel.labeling import PandasLFApplier, labeling_function

    number = re.compile(r"\b\d+\b", re.ASCII)

    @labeling_function()
    def length(x: Any) -> int:
        d = len(x.first) - len(x.second)
        return -1 if abs(d) < 20 else int(d > 0)

    @labeling_function()
    def numbers(x: Any) -> int:
        d = len(number.findall(x.first)) - len(number.findall(x.second))
        return -1 if abs(d) < 1 else int(d > 0)

    found = PandasLFApplier([length, numbers]).apply(frame, progress_bar=False)
    return np.where(found == -1, 0, 2 * found - 1)


def by_columns(batch: Batch) -> np.ndarray:
    """Cast the same votes by columns, texts included."""
    functions = [function for function in preset("general") if function.name in SIMPLE]
    return np.stack([function.votes(batch) for function in functions], axis=1)


def windows_only(values: list[np.ndarray], first: np.ndarray, second: np.ndarray) -> None:
    """Cast votes from features that are there already."""
    functions = [function for function in preset("general") if function.name in SIMPLE]
    for function, value in zip(functions, values, strict=True):
        function.votes_by(value, first, second)


def end_to_end(data: Path, rows: int) -> dict[str, Any]:
    """Label a file of so many pairs by the command line; return seconds, peak memory and counts."""
    judged = data / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"
    source = read(str(judged))
    lines = [text for own in source["responses"] for text in own]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path, out = Path(scratch) / "pairs.parquet", Path(scratch) / "labels"
        pick = random.integers(0, len(lines), (2, rows))
        table = pa.table(
            {
                "prompt": [f"Request {i}: {lines[i % len(lines)][:80]}" for i in range(rows)],
                "response_a": [lines[i] for i in pick[0]],
                "response_b": [f"{lines[i]} {k}" for k, i in enumerate(pick[1])],
            }
        )
        pq.write_table(table, path)
        size = path.stat().st_size
        words = ["label", str(path), "--labels", str(judged), "--out", str(out)]
        words += ["--only", *SIMPLE, "phrases", "structure"]
        reading = f"from assay.feedback import read; read({str(path)!r})"
        environment = os.environ | {"HF_DATASETS_CACHE": scratch}
        before = time.perf_counter()
        subprocess.run([sys.executable, "-c", reading], check=True, env=environment, capture_output=True)
        read_seconds = time.perf_counter() - before
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "assay.cli", *words], check=True, env=environment, capture_output=True)
        took = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        written = (out / "records" / "weak.parquet").stat().st_size
    return {
        "rows": rows,
        "bytes_read": size,
        "bytes_written": written,
        "reading_seconds": read_seconds,
        "labelling_seconds": took,
        "peak_memory_bytes": peak,
        "labelled": metrics["counts"]["labelled"],
        "seconds_by_function": {row["name"]: row["seconds"] for row in metrics["functions"]},
    }


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the end-to-end run; 0: none")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    equivalence = gate()
    votes, _ = planted(ROWS, 0)
    texts, batch, frame = texts_of(chosen.data)
    equivalence["votes"] = float((by_rows(frame) != by_columns(batch)).mean())
    if equivalence["votes"] > 0:
        raise SystemExit(f"functions cast different votes, so nothing is measured: {equivalence['votes']:.4%}")
    seconds = take_turns(sides_of(votes, texts, batch, frame), chosen.repeats)
    median = {name: statistics.median(own) for name, own in seconds.items()}

    def ratios(peer: str, mine: str) -> list[float]:
        return [a / b for a, b in zip(seconds[peer], seconds[mine], strict=True)]

    main_ratios = ratios("snorkel", "ours")
    result = {
        "name": "label_models",
        "ratio": statistics.median(main_ratios),
        "ratio_min": min(main_ratios),
        "ratio_max": max(main_ratios),
        "ours": {"seconds": median["ours"], "settings": "symmetric, the top of the likelihood of distinct rows"},
        "peer": {"seconds": median["snorkel"], "settings": "LabelModel, 100 epochs"},
        "unit": "seconds to fit a million rows of ten functions and predict them, one thread",
        "equivalence": equivalence,
        "repeats": chosen.repeats,
        "hardware": hardware.describe(),
        "versions": current_versions() | {name: version(name) for name in ("snorkel", "crowd-kit")},
        "others": {
            "over crowd-kit, 100,000 rows": statistics.median(ratios("crowd-kit, a tenth", "ours, a tenth")),
            "columns over PandasLFApplier": statistics.median(ratios("rows", "columns")),
            "windows over PandasLFApplier": statistics.median(ratios("rows", "windows")),
        },
        "seconds": median,
        "microseconds_per_vote": {name: 1e6 * median[name] for name in ("columns", "windows", "rows")},
        "all_seconds": seconds,
        "end_to_end": end_to_end(chosen.data, chosen.rows) if chosen.rows else None,
    }
    finish(result, chosen.out)


Side = tuple[Callable[..., Any], tuple[Any, ...], float]


def sides_of(votes: np.ndarray, texts: Any, batch: Batch, frame: Any) -> dict[str, Side]:
    """Return what is timed: a task, what it is given, and what its time is divided by."""
    small = votes[:SMALL]
    values = [function.feature.values(texts) for function in preset("general") if function.name in SIMPLE]
    many = np.random.default_rng(0).integers(0, len(texts), (2, ROWS))
    return {
        "ours": (ours, (votes,), 1),
        "snorkel": (by_snorkel, (votes,), 1),
        "ours, correlated": (lambda: CorrelatedLabelModel().fit(votes, _labels(votes)).predict(votes), (), 1),
        "ours, confusion": (lambda: ConfusionLabelModel("em").fit(votes).predict(votes), (), 1),
        "ours, a tenth": (ours, (small,), 1),
        "crowd-kit, a tenth": (by_crowd_kit, (small,), 1),
        "columns": (by_columns, (batch,), len(frame) * len(SIMPLE)),
        "rows": (by_rows, (frame,), len(frame) * len(SIMPLE)),
        "windows": (windows_only, (values, *many), ROWS * len(SIMPLE)),
    }


def take_turns(sides: dict[str, Side], repeats: int) -> dict[str, list[float]]:
    """Time all sides, one after the other, in rounds of alternating order."""
    for task, given, _ in sides.values():
        task(*given)  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats):
        order = list(sides.items())
        for name, (task, given, per) in order if number % 2 == 0 else order[::-1]:
            seconds[name].append(timed(task, *given)[0] / per)
        print(f"round {number + 1}: " + ", ".join(f"{n} {s[-1]:.3g}" for n, s in seconds.items()), flush=True)
    return seconds


def _labels(votes: np.ndarray) -> np.ndarray:
    """Return labels of the first thousand rows, as good as any."""
    labels = np.zeros(len(votes), np.int8)
    labels[:1000] = np.random.default_rng(0).choice([-1, 1], 1000)
    return labels


if __name__ == "__main__":
    main()
