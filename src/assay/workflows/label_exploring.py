"""``assay label --explore``: which features and functions go with the judgements, and windows to begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml

from assay.console import progress, show
from assay.errors import DataError
from assay.evaluation.exploring import explore
from assay.feedback.labeling import FeatureFunction, LabelingFunction, features, function_of
from assay.feedback.labeling.applying import compute
from assay.feedback.labeling.pairing import ResponsePairs
from assay.output import new_folder, write_atomic, write_json
from assay.workflows.label_settings import LabelSettings
from assay.workflows.label_showing import show_proposals


def explore_features(
    settings: LabelSettings, functions: list[LabelingFunction], pairs: ResponsePairs
) -> dict[str, Any]:
    """Rank every known feature, and every function that has none; write the windows that hold.

    Only judgements that would teach a label model are looked at, so that the hidden ones, and the test, remain new to
    whatever is chosen here. A function keeps the largest difference at which it votes.

    Raises
    ------
    DataError
        If fewer than two prompts are judged.
    """
    pairs = pairs.take(pairs.truth != 0)
    if len(np.unique(pairs.group)) < 2:
        raise DataError(
            "there are too few judgements to explore",
            where=settings.data,
            expected="judged pairs of two prompts or more",
            got=f"{len(pairs)} judged pairs",
            remedy="raise --calibration-share, or judge more pairs",
        )
    pairs = pairs.compact()
    compared = _compared(functions)
    differences = _differences(settings, compared, functions, pairs)
    found = explore(differences, pairs.truth, pairs.group, seed=settings.seed)
    show_proposals(found, len(pairs))
    metrics = {"pairs": len(pairs), "proposals": [each.to_dict() for each in found]}
    if settings.out:
        kept = {}
        for each in found:
            if each.holds and each.name in compared:
                kept[each.name] = {"least": each.least, "prefers": each.prefers}
                most = compared[each.name].window.most
                if np.isfinite(most):
                    kept[each.name]["most"] = most
        with new_folder(settings.out, overwrite=settings.overwrite) as folder:
            write_json(folder / "metrics.json", metrics)
            write_atomic(folder / "windows.yaml", yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
        show(
            f"{settings.out}/windows.yaml holds the windows of those that hold; edit it, and name it with --windows"
            if kept
            else f"no window holds, so {settings.out}/windows.yaml is empty; more judgements tell more: of this data "
            f"{len(pairs):,} were looked at (--calibration-share)"
        )
    return metrics


def _compared(functions: list[LabelingFunction]) -> dict[str, FeatureFunction]:
    """Return what compares a feature: the functions that do, and one for every other feature that is built in."""
    chosen = {each.name: each for each in functions if isinstance(each, FeatureFunction)}
    return {name: function_of(feature, 0.0, np.inf, "more") for name, feature in features().items()} | chosen


def _differences(
    settings: LabelSettings,
    compared: dict[str, FeatureFunction],
    functions: list[LabelingFunction],
    pairs: ResponsePairs,
) -> dict[str, np.ndarray]:
    """Return what each function goes by, ``[E]``: a difference, NaN beyond its window; or its vote, if it has none."""
    others = [each for each in functions if not isinstance(each, FeatureFunction)]
    found: dict[str, np.ndarray] = {}
    with progress(len(pairs.data), "exploring: prompts") as bar:
        done = compute([*compared.values(), *others], pairs, workers=settings.workers, progress=bar.reach)
    for name, function in compared.items():
        values = done.values[function.feature.key]
        difference = values[done.first] - values[done.second]
        found[name] = np.where(np.abs(difference) <= function.window.most, difference, np.nan)
    return found | {name: votes.astype(np.float64) for name, votes in done.votes.items()}
