"""From the finished runs of `over_fitting` to its result file, page and figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import NAMES, page_head, ran_on, verdict_table
from summary import RESULTS, DataSet, about, circumstances, describe_arm, finished_cells, verdict_row

from assay.output import write_atomic, write_json

EARLY = 3
SMALLEST = {"accuracy": 0.02, "nll": 0.005}
COLUMNS = {
    "accuracy": "accuracy",
    "nll_raw": "NLL raw",
    "nll_calibrated": "NLL calibrated",
    "ece_raw": "ECE raw",
    "ece_calibrated": "ECE calibrated",
}
COLOURS = {"bt": "#b5482a", "mmpo": "#1d3f66", "smooth": "#7a9e3f"}


def write_over_fitting(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/over_fitting.json``, ``.md`` and ``.svg`` from the finished cells."""
    cells = finished_cells(folder)
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[cell["cell"].rsplit(".", 2)[0]] += epochs_apart(cell)
    sets = {name: DataSet(name, many) for name, many in by_set.items()}
    curves = {name: curves_of(data) for name, data in sets.items()}
    verdicts = [row for name, data in sets.items() for row in verdicts_on(name, data)]
    result = {
        "study": study,
        "verdicts": verdicts,
        "curves": curves,
        "data": {name: about(data) for name, data in sets.items()},
        "training_seconds": sum(run["seconds"] for cell in cells for run in cell["runs"]),
        **circumstances(planned, cells),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    draw(RESULTS / f"{study}.svg", curves)
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def epochs_apart(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a cell for each epoch, as if each were an arm of its own."""
    name, arm, seed = cell["cell"].rsplit(".", 2)
    return [
        {
            "cell": f"{name}.{arm} {epoch + 1}.{seed}",
            "reading": cell["reading"],
            "runs": [
                run | {"delta": run["deltas"][epoch], "temperature": run["temperatures"][epoch]} for run in cell["runs"]
            ],
        }
        for epoch in range(len(cell["runs"][0]["deltas"]))
    ]


def curves_of(data: DataSet) -> dict[str, list[dict[str, Any]]]:
    """Return what is told of each arm, one entry per epoch."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for arm, epoch in sorted((name.split(" ")[0], int(name.split(" ")[1])) for name in data.arms if " " in name):
        told = describe_arm(data, f"{arm} {epoch}")
        found[arm].append({"epoch": epoch, "seeds": told["seeds"]} | {name: told[name] for name in COLUMNS})
    return dict(found)


def verdicts_on(name: str, data: DataSet) -> list[dict[str, Any]]:
    """Judge the claims on one data set."""
    last = max(int(arm.split(" ")[1]) for arm in data.arms if " " in arm)
    rows = []
    for metric, smallest in SMALLEST.items():
        over = {arm: data.paired(f"mmpo {last}", f"{arm} {last}", metric) for arm in ("bt", "smooth")}
        early = data.paired(f"mmpo {EARLY}", f"bt {EARLY}", metric)
        claims = {f"mmpo against {arm} after {last} epochs": terms for arm, terms in over.items()}
        if early is not None and over["bt"] is not None:
            claims[f"bt loses more than mmpo from epoch {EARLY} to {last}"] = over["bt"] - early
        for claim, terms in claims.items():
            if terms is not None:
                rows.append(verdict_row(claim, metric, name, data, terms, smallest))
    return rows


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), "", f"![over epochs]({study}.svg)", ""]
    for name, arms in result["curves"].items():
        lines += [f"## {name}", "", f"| arm | epoch | {' | '.join(COLUMNS.values())} | seeds |"]
        lines += ["|---|---|" + "---|" * len(COLUMNS) + "---|"]
        for arm, told in arms.items():
            for row in told:
                if row["epoch"] not in (1, EARLY, told[-1]["epoch"]):
                    continue
                low, high = row["accuracy"]["ci95"]
                cells = [f"{100 * row['accuracy']['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"]
                cells += [f"{row[column]:.3f}" for column in list(COLUMNS)[1:]]
                lines.append(f"| {NAMES[arm]} | {row['epoch']} | {' | '.join(cells)} | {len(row['seeds'])} |")
        lines.append("")
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, f"{took}, on {ran_on(result)}", ""])


def draw(path: Path, curves: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Draw accuracy, NLL and calibration error over epochs; one row per data set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "assay", "font.size": 8}
    panels = {"accuracy": ("accuracy",), "NLL": ("nll_calibrated", "nll_raw"), "ECE": ("ece_calibrated", "ece_raw")}
    figure, axes = plt.subplots(len(curves), 3, figsize=(8.5, 2.6 * len(curves)), squeeze=False)
    for row, (name, arms) in zip(axes, curves.items(), strict=True):
        for axis, (title, columns) in zip(row, panels.items(), strict=True):
            for arm, told in arms.items():
                epochs = [each["epoch"] for each in told]
                if title == "accuracy":
                    low, high = (np.array([each[title]["ci95"][side] for each in told]) for side in (0, 1))
                    axis.fill_between(epochs, low, high, color=COLOURS[arm], alpha=0.12, lw=0)
                for column, style in zip(columns, ("-", ":"), strict=False):
                    values = [each[column]["value"] if column == "accuracy" else each[column] for each in told]
                    label = NAMES[arm] if style == "-" else None
                    axis.plot(epochs, values, style, color=COLOURS[arm], marker="o", ms=2.5, label=label)
            axis.set_title(f"{name}: {title}" + ("" if title == "accuracy" else " (dotted: raw)"))
            axis.set_xlabel("epoch")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
