"""The page of ``assay classify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from assay.evaluation import figures
from assay.evaluation.report import now, page_environment
from assay.output import write_atomic

_KINDS = {
    "label_test": "the right label over a wrong one",
    "rationale_test": "the right label twice, two rationales",
    "swapped_label": "control: one rationale, two labels (the right one agrees with it)",
    "wrong_rationale": "control: the right label, a rationale for a wrong one",
}


def short_names(names: list[str]) -> dict[str, str]:
    """Return each name without what all folders begin with; Hub ids stay."""
    folders = [name for name in names if Path(name).expanduser().is_dir()]
    common = os.path.commonpath([os.path.dirname(os.path.abspath(own)) for own in folders]) if len(folders) > 1 else ""
    return {
        name: os.path.relpath(os.path.abspath(name), common) if common and name in folders else name for name in names
    }


def write_classify_report(path: Path, told: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write one self-contained page: accuracies, reward models on pairs, best of n, confusion, samples."""
    names = short_names([*told["policies"], *(told["reward_models"] or [])])
    drawn = None
    if told["best_of"]:
        series: dict[str, list[tuple[float, float]]] = {}
        for point in told["best_of"]:
            series.setdefault(names.get(point["by"], point["by"]), []).append((point["n"], point["gold"]["value"]))
        # a figure holds three curves; the table behind it has all
        drawn = figures.curves("best_of", dict(list(series.items())[:3]), "best of so many answers")
    page = page_environment().get_template("labelled.html.j2")
    write_atomic(path, page.render(told=told, rows=rows, names=names, kinds=_KINDS, figure=drawn, created=now()))
