"""From settings to labeling functions: presets, users' files, windows, scorers, encoders."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from assay.errors import ConfigError, DataError
from assay.feedback.labeling import (
    Feature,
    FeatureFunction,
    LabelingFunction,
    Window,
    by_scorer,
    features,
    function_of,
    preset,
    similarity,
)
from assay.feedback.labeling.finding import load_module
from assay.feedback.labeling.patterns import read_themes
from assay.workflows.judge_functions import Voters
from assay.workflows.label_settings import FunctionSettings
from assay.workflows.run_settings import not_among


def gather(settings: FunctionSettings, judges: Voters | None = None) -> list[LabelingFunction]:
    """Return the functions that settings name, each under a name of its own; ``judges`` are those of settings.judge.

    Raises
    ------
    ConfigError, DataError
        If a preset, file, window or name does not fit.
    """
    found: dict[str, LabelingFunction] = {}
    for name in settings.presets:
        found |= {function.name: function for function in preset(name)}
    if settings.patterns is not None:
        good, bad = read_themes(settings.patterns)
        phrases = features()["phrases"]
        own = replace(phrases, settings={"good": good, "bad": bad})
        found["phrases"] = function_of(own, 1, np.inf, "more")
    for place in settings.functions:
        for function in own_functions(place):
            if function.name in found:
                raise ConfigError(
                    f"a labeling function {function.name!r} is there already",
                    where=place,
                    remedy="give it another name: labeling_function(name=…)",
                )
            found[function.name] = function
    for model in settings.scorers:
        name = f"scorer {Path(model).name}"
        name += f" {number}" if (number := 1 + sum(each.startswith(name) for each in found)) > 1 else ""
        found[name] = by_scorer(_scores(model), name=name)
    if settings.similarity is not None:
        found["similarity"] = FeatureFunction(similarity(_encoder(settings.similarity)), Window(0.02))
    if judges is not None:
        if taken := [function.name for function in judges.functions if function.name in found]:
            raise ConfigError("a judge's rule has the name of another function", where="judge.rules", got=taken[0])
        found |= {function.name: function for function in judges.functions}
    if settings.windows is not None:
        found |= windowed(found, settings.windows)
    return _chosen(found, settings)


def _chosen(found: dict[str, LabelingFunction], settings: FunctionSettings) -> list[LabelingFunction]:
    for field in ("only", "without"):
        for name in getattr(settings, field):
            if problem := not_among(name, list(found)):
                raise ConfigError(problem, where=field)
    kept = [
        function
        for name, function in found.items()
        if name not in settings.without and (not settings.only or name in settings.only)
    ]
    if not kept:
        raise ConfigError("no labeling function is left", where="without", remedy="leave fewer out")
    return kept


def own_functions(path: str) -> list[LabelingFunction]:
    """Load a Python file and return its labeling functions, in the order in which they stand there.

    The file is run, as an import would: name only files that you trust.

    Raises
    ------
    ConfigError
        If it is not there, cannot be run, or holds none.
    """
    place = Path(path).resolve()
    if not place.is_file():
        raise ConfigError("there is no such file", where=path, expected="a Python file with labeling functions")
    name = f"assay_functions_{place.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    sys.modules.pop(name, None)  # it may have changed since
    try:
        module = load_module(name, str(place))
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the file of labeling functions cannot be run: {type(error).__name__}: {error}", where=path
        ) from error
    found = [each for each in vars(module).values() if isinstance(each, LabelingFunction)]
    if not found:
        raise ConfigError(
            "there is no labeling function in this file",
            where=path,
            expected="functions under @labeling_function or @feature_function, of assay.feedback.labeling",
        )
    return found


def windowed(found: dict[str, LabelingFunction], path: str) -> dict[str, LabelingFunction]:
    """Return the functions whose windows a YAML file sets; a feature that no preset has is added.

    Raises
    ------
    ConfigError
        If the file has another shape, or names something that is no feature.
    """
    shape = "{function: {least: 20, most: 200, prefers: more}}, most and prefers optional"
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("the windows cannot be read", where=path, got=str(error).splitlines()[0]) from error
    if not isinstance(given, dict) or not all(isinstance(own, dict) for own in given.values()):
        raise ConfigError("windows belong to functions", where=path, expected=shape, got=str(given)[:80])
    known: dict[str, Feature] = features()
    known |= {name: each.feature for name, each in found.items() if isinstance(each, FeatureFunction)}
    changed: dict[str, LabelingFunction] = {}
    for name, own in given.items():
        if problem := not_among(str(name), list(known)):
            raise ConfigError(problem, where=path)
        bad = set(own) - {"least", "most", "prefers"}
        numbers = all(isinstance(own.get(key, 0), int | float) for key in ("least", "most"))
        if bad or not numbers or own.get("prefers", "more") not in ("more", "less"):
            raise ConfigError("this is no window", where=f"{path}: {name}", expected=shape, got=str(own))
        before = found.get(str(name))
        usual = before if isinstance(before, FeatureFunction) else function_of(known[str(name)], 0, np.inf, "more")
        try:
            changed[str(name)] = function_of(
                known[str(name)],
                own.get("least", usual.window.least),
                own.get("most", usual.window.most),
                own.get("prefers", usual.prefers),
            )
        except DataError as error:
            raise ConfigError(error.problem, where=f"{path}: {name}", expected=error.expected, got=error.got) from error
    return changed


def _scores(place: str) -> Any:
    from assay.scorers import RewardModel

    model = RewardModel.from_pretrained(place)

    def score(prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return model.score(list(prompts), list(responses))

    return score


def _encoder(backbone: str) -> Any:
    from assay.scorers.text_vectors import text_encoder

    return text_encoder(backbone)
