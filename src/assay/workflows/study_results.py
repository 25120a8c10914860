"""From the cells of a study to its results: curves, comparisons, what to use, and a page that says so."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from assay.evaluation.advice import recommendation
from assay.evaluation.efficiency import Comparison, Curve, HeldOut, Uncertain, curve_of
from assay.evaluation.figures import data_efficiency
from assay.feedback import pairs
from assay.output import write_atomic
from assay.workflows.study_bench import Bench
from assay.workflows.study_settings import StudySettings


def held_out_of(bench: Bench) -> HeldOut:
    """Return the judgements that seeds are tested on, in the order in which cells keep their margins."""
    rows = bench.ever_tested
    view = pairs(bench.data.select(rows))
    return HeldOut(view.p, view.w, view.group.astype(str), bench.part[rows][view.row])


def results_of(settings: StudySettings, held_out: HeldOut, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the methods of finished cells.

    Returns
    -------
    dict
        ``methods`` (by name a list over fractions: labels, accuracy, negated calibrated NLL, None where a seed was not
        calibrated, and both over the baseline with verdicts), ``labels_needed``, ``learns``, ``power``,
        ``recommendation``.
    """
    comparison = comparison_of(settings, held_out, cells)
    curves = comparison.curves
    last = float(curves[settings.baseline].fractions[-1])
    gain = comparison.learns()
    return {
        "baseline": settings.baseline,
        "test_judgements": int((comparison.weight > 0).sum()),
        "test_groups": len(np.unique(held_out.groups)),
        "methods": {name: _method(comparison, name, settings.smallest_effect) for name in curves},
        "learns": None if gain is None else gain.to_dict(),
        "labels_needed": {name: comparison.labels_needed(name) for name in curves},
        "power": comparison.power(last, settings.smallest_effect),
        "recommendation": recommendation(comparison, settings.smallest_effect),
        "cell_seconds": sum(run["seconds"] for cell in cells for run in cell["runs"]),
    }


def comparison_of(settings: StudySettings, held_out: HeldOut, cells: list[dict[str, Any]]) -> Comparison:
    """Return the methods of finished cells on the same judgements."""
    curves = _curves(settings, held_out, cells)
    return Comparison(held_out, curves, settings.baseline, resamples=settings.resamples, seed=settings.seed)


def _curves(settings: StudySettings, held_out: HeldOut, cells: list[dict[str, Any]]) -> dict[str, Curve]:
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell["fraction"]):
        by_method[cell["method"]].append(cell)
    curves = {}
    for name, many in by_method.items():
        margins, temperatures, labels = [], [], []
        for cell in many:
            rows = np.full((len(cell["runs"]), len(held_out.p)), np.nan)
            for row, run in zip(rows, cell["runs"], strict=True):
                there = held_out.part == run["seed"] % settings.folds if settings.folds else slice(None)
                row[there] = run["margins"]
            margins.append(rows)
            scales = [np.nan if run["temperature"] is None else run["temperature"] for run in cell["runs"]]
            temperatures.append(np.array(scales))
            labels.append(float(np.mean([run["judgements"] for run in cell["runs"]])))
        curves[name] = curve_of(held_out, [cell["fraction"] for cell in many], labels, margins, temperatures)
    return curves


def _method(comparison: Comparison, name: str, smallest: float) -> list[dict[str, Any]]:
    curve = comparison.curves[name]
    rows = []
    levels = {metric: comparison.level(name, metric) for metric in ("accuracy", "nll")}
    ahead = {metric: comparison.over_baseline(name, metric) for metric in ("accuracy", "nll")}
    for at, fraction in enumerate(curve.fractions):
        row: dict[str, Any] = {"fraction": float(fraction), "labels": float(curve.labels[at])}
        row["accuracy"] = levels["accuracy"][at].to_dict()
        row["nll"] = levels["nll"][at].to_dict() if curve.calibrated[at] else None
        for metric, found in ahead.items():
            estimate = found.get(float(fraction))
            if name != comparison.baseline and estimate is not None:
                row[f"{metric}_over_baseline"] = {
                    **estimate.to_dict(),
                    "verdict": comparison.verdict(estimate, smallest) if metric == "accuracy" else _sign(estimate),
                }
        rows.append(row)
    return rows


def _sign(estimate: Uncertain) -> str:
    return "holds" if estimate.simultaneous[0] > 0 else "undecided"


def table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table of accuracies: one row per method, one column per fraction."""
    labels: dict[float, float] = {}
    for rows in results["methods"].values():
        labels |= {row["fraction"]: row["labels"] for row in rows}
    fractions = sorted(labels)
    columns = ["method", *(f"{round(labels[fraction]):,}" for fraction in fractions), "labels needed"]
    lines = []
    for name, rows in results["methods"].items():
        cells = {row["fraction"]: _accuracy(row) for row in rows}
        lines.append([name, *(cells.get(fraction, "–") for fraction in fractions), _needed(results, name)])
    return columns, lines


def _accuracy(row: dict[str, Any]) -> str:
    text = f"{100 * row['accuracy']['value']:.1f}"
    ahead = row.get("accuracy_over_baseline")
    if ahead is None:
        return f"{text} %"
    return f"{text} ({_signed(100 * ahead['value'])}{'*' if ahead['verdict'] == 'holds' else ''})"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"


def _needed(results: dict[str, Any], name: str) -> str:
    found = results["labels_needed"][name]
    if found is None:
        return "not defined"
    if found["labels"] is None:
        return "not reached"
    middle, low, high = (_count(end, found["fewest"]) for end in (found["labels"], *found["ci95"]))
    return f"{middle} ({low} to {high})"


def _count(labels: float | None, fewest: float) -> str:
    if labels is None:
        return "more"
    return f"{round(labels):,}" if labels > fewest * (1 + 1e-9) else f"≤ {round(fewest):,}"


def notes(results: dict[str, Any]) -> list[str]:
    """Return what must be known to read the table."""
    base = results["baseline"]
    told = [
        f"Accuracy on {results['test_judgements']:,} held-out judgements of {results['test_groups']:,} groups, by "
        f"number of labels; in brackets the points over {base}, * where the 95 % interval over seeds and groups lies "
        "above 0 for all comparisons of a fraction together.",
        f"Labels needed: for the accuracy that {base} has with the most, with a 95 % interval.",
    ]
    if all(found is None for found in results["labels_needed"].values()):
        told[1] = f"Labels needed are not defined: {base} learns nothing certain from more labels here."
    if results.get("one_epoch_selection"):
        saved = results["one_epoch_selection"]
        told.append(
            f"After one epoch the best {saved['keep']} of each fraction (and {base}) went on: {saved['epochs']:,} "
            f"epochs in place of {saved['exhaustive']:,}."
        )
    return told


def write_page(folder: Path, results: dict[str, Any]) -> None:
    """Write ``study.md`` and ``efficiency.svg``."""
    columns, lines = table(results)
    page = ["# Which method for these judgements", "", *(f"* {line}" for line in results["recommendation"]), ""]
    page += ["![accuracy by number of labels](efficiency.svg)", "", "## Accuracy", ""]
    page += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *(f"| {' | '.join(line)} |" for line in lines)]
    page += ["", *notes(results), "", "## Calibrated negative log-likelihood", ""]
    page += [*_nll_table(results), ""]
    took = f"Training took {results['cell_seconds'] / 60:.1f} minutes of all processes together"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    page += [f"{took}, {results['seconds'] / 60:.1f} by the clock, on {results['hardware']['cpu']}. {versions}.", ""]
    write_atomic(folder / "study.md", "\n".join(page))
    points = {
        name: [(row["labels"], row["accuracy"]["value"], *row["accuracy"]["ci95"]) for row in rows]
        for name, rows in results["methods"].items()
    }
    write_atomic(folder / "efficiency.svg", data_efficiency(points, results["baseline"]))


def _nll_table(results: dict[str, Any]) -> list[str]:
    columns, _ = table(results)
    lines = [f"| {' | '.join(columns[:-1])} |", "|" + "---|" * (len(columns) - 1)]
    fractions = sorted({row["fraction"] for rows in results["methods"].values() for row in rows})
    for name, rows in results["methods"].items():
        cells = {}
        for row in rows:
            ahead = row.get("nll_over_baseline")
            star = "*" if ahead and ahead["verdict"] == "holds" else ""
            gap = "" if ahead is None else f" ({_signed(-1000 * ahead['value'])}{star})"
            known = row["nll"] is not None
            cells[row["fraction"]] = f"{-row['nll']['value']:.4f}{gap}" if known else "not calibrated"
        lines.append(f"| {name} | {' | '.join(cells.get(fraction, '–') for fraction in fractions)} |")
    return [
        *lines,
        "",
        f"In nats; in brackets the difference from {results['baseline']} in thousandths, below 0 better.",
    ]
