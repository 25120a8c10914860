"""Grades of single responses: for losses that learn them, for heads of several attributes, and for judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.feedback.grades import grade_table
from assay.workflows import feedback_settings as kinds
from assay.workflows.prepared import Prepared
from assay.workflows.settings import TrainSettings


def rated_grades(target: Any, loss: Any, data: Dataset) -> np.ndarray:
    """Return one grade per response, as the settings weigh dimensions and tell good from bad; NaN where there is none.

    For judging, where no scale matters.
    """
    weights = getattr(target if loss.kind == "pairwise" else loss, "dimensions", {})
    return combined_grades(data, weights, getattr(loss, "good_from", None))


def combined_grades(
    data: Dataset, weights: Mapping[str, float] | None = None, good_from: float | None = None
) -> np.ndarray:
    """Return one grade per response, or with ``good_from`` 1 for a good one and 0 for a bad one; NaN: not graded."""
    table, weights = grade_table(data), weights or {}
    if not table.dimensions or not set(weights) <= set(table.dimensions):
        return np.full(len(table.values), np.nan)
    grades = table.combined(weights)
    return grades if good_from is None else np.where(np.isnan(grades), np.nan, (grades >= good_from).astype(float))


def with_grades(loss: Any, given: Prepared, table: Any, like: Prepared | None) -> Prepared:
    """Add the grade of every text in score units, and how it was scaled."""
    if like is not None and not set(loss.dimensions) <= set(table.dimensions):
        return replace(given, grades=np.full(len(table.values), np.nan))
    grades = table.combined(loss.dimensions, getattr(loss, "scale", "raw"))
    known = grades[np.isfinite(grades)]
    if like is None and not len(known):
        raise DataError(
            "no response is graded in all the dimensions that count",
            expected=f"grades in {', '.join(loss.dimensions or table.dimensions) or 'at least one dimension'}",
            got=f"{len(grades)} responses without",
            remedy="name fewer dimensions: --objective.dimensions, or use --objective.kind pairwise",
        )
    count = {"graded": len(known), "ungraded": int(len(grades) - len(known))}
    if loss.kind == "pointwise":
        return replace(given, grades=_shares(loss, grades, known), figures={**given.figures, "grades": count})
    if loss.kind not in ("regression", "quantile"):
        gamma = 1.0 if loss.gamma is None else loss.gamma
        return replace(given, grades=gamma * grades, figures={**given.figures, "grades": count})
    scale = like.fixed["scale"] if like is not None else {"mean": float(known.mean()), "std": float(known.std())}
    if scale["std"] == 0:
        raise DataError("all grades are equal: there is nothing to learn", got=f"{len(known)} times {known[0]:g}")
    return replace(
        given,
        grades=(grades - scale["mean"]) / scale["std"],
        fixed={**given.fixed, "scale": scale},
        figures={**given.figures, "grades": count | scale},
    )


def with_attributes(settings: TrainSettings, data: Dataset) -> TrainSettings:
    """Name the dimensions that an attributes head learns: those wanted, or all that the data grades.

    Raises
    ------
    DataError
        If a dimension is not graded, or nothing is.
    """
    if settings.head.kind != "attributes":
        return settings
    table = grade_table(data)
    table.weights(dict.fromkeys(settings.head.dimensions, 1.0))  # refuses what is not there
    if not table.dimensions:
        raise DataError(
            "no response is graded, so there are no attributes to learn",
            expected="grades of responses in one dimension or more",
            got=f"{len(table.values)} responses without",
            remedy="name their cells: --mapping.grades (docs/data.md), or --head linear",
        )
    dimensions = settings.head.dimensions or table.dimensions
    return settings.model_copy(update={"head": settings.head.model_copy(update={"dimensions": dimensions})})


def attribute_grades(names: tuple[str, ...], data: Dataset, given: Prepared) -> Prepared:
    """Add the grades of every dimension of a training share, standardised; NaN where there is none."""
    table, records = grade_table(data), given.records
    found = np.full((len(records.lengths), len(names)), np.nan)
    place = {name: column for column, name in enumerate(table.dimensions)}
    for column, name in enumerate(names):
        if name in place:
            found[records.responses, column] = table.values[:, place[name]]
    mean, std = np.nanmean(found, axis=0), np.nanstd(found, axis=0)
    flat = [name for name, spread in zip(names, std, strict=True) if not spread > 0]
    if flat:
        raise DataError(
            f"all grades of {', '.join(flat)} are equal: there is nothing to learn",
            remedy="name the other dimensions: --head.dimensions",
        )
    graded = np.isfinite(found).sum(axis=0)
    told = {"attributes": {name: int(count) for name, count in zip(names, graded, strict=True)}}
    return replace(given, attributes=(found - mean) / std, figures={**given.figures, **told})


def _shares(loss: kinds.PointwiseLoss, grades: np.ndarray, known: np.ndarray) -> np.ndarray:
    if loss.good_from is not None:
        return np.where(np.isnan(grades), np.nan, (grades >= loss.good_from).astype(np.float64))
    if len(known) and (known.min() < 0 or known.max() > 1):
        raise DataError(
            "these grades are no probabilities of being good",
            expected="labels, or grades from 0 to 1",
            got=f"grades from {known.min():g} to {known.max():g}",
            remedy="--objective.good-from GRADE",
        )
    return grades
