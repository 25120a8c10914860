"""The page that tells of labels made without people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from assay.evaluation.label_analysis import LabelAnalysis
from assay.evaluation.report import now, page_environment
from assay.output import write_atomic

_STRONGEST = 6


def write_label_report(path: str | Path, analysis: LabelAnalysis, metrics: dict[str, Any], source: str) -> None:
    """Write ``report.html`` of `assay label`: one file that needs nothing else.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    page = page_environment().get_template("labels.html.j2")
    shared = strongest(analysis.shared_errors, [row.name for row in analysis.rows])
    content = page.render(analysis=analysis, metrics=metrics, shared=shared, source=source, created=now())
    write_atomic(path, content)


def strongest(matrix: np.ndarray, names: list[str]) -> list[tuple[str, str, float]]:
    """Return the entries above the diagonal that are farthest from 0, with their names; NaN left out."""
    one, other = np.triu_indices(len(names), 1)
    value = matrix[one, other]
    known = np.flatnonzero(np.isfinite(value))
    order = known[np.argsort(-np.abs(value[known]), kind="stable")][:_STRONGEST]
    return [(names[one[k]], names[other[k]], float(value[k])) for k in order]
