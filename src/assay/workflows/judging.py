"""Judge a reward model on records: margins, baselines beside it, another model against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.evaluation import BagOfWords, Evaluation, LengthBaseline, Temperature, evaluate
from assay.feedback import Pairs, pairs
from assay.scorers import RewardModel
from assay.scorers.encoding import encode_records, score_records

BASELINES: dict[str, Any] = {"length": LengthBaseline, "bag_of_words": BagOfWords}


def margins_on(
    model: RewardModel, data: Dataset, view: Pairs, token_budget: int = 8192
) -> tuple[np.ndarray, dict[str, int]]:
    """Score every response in float32; return margins ``[E]`` of ``view``, and what truncation cut."""
    records = encode_records(data, model.encoder)
    values = score_records(model, records, token_budget=token_budget)
    if values.ndim == 2:
        values = values.mean(axis=1)
    counts = {"texts": len(records.lengths), "cut_prompt": records.cut_prompt, "cut_response": records.cut_reply}
    return records.margins(values, view), counts


def fit_baselines(train: Dataset, folder: Path | None = None) -> dict[str, LengthBaseline | BagOfWords]:
    """Fit the baselines on the training share, and store them below ``folder``."""
    view = pairs(train)
    fitted = {name: kind().fit(view) for name, kind in BASELINES.items()}
    if folder is not None:
        for name, baseline in fitted.items():
            baseline.save(folder / name)
    return fitted


def stored_baselines(run: Path) -> dict[str, LengthBaseline | BagOfWords]:
    """Load the baselines of a run folder; empty where there are none."""
    folder = run / "baselines"
    return {name: kind.load(folder / name) for name, kind in BASELINES.items() if (folder / name).is_dir()}


def judge(
    model: RewardModel,
    test: Dataset,
    *,
    baselines: Mapping[str, LengthBaseline | BagOfWords],
    extra: Mapping[str, np.ndarray] | None = None,
    against: RewardModel | None = None,
    token_budget: int = 8192,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[Pairs, np.ndarray, Evaluation, dict[str, int]]:
    """Evaluate a model on judgements; return them, its margins, the evaluation, and what truncation cut.

    ``extra`` holds margins ``[E]`` of further baselines by name.

    Raises
    ------
    DataError
        If there is no judgement.
    """
    view = pairs(test)
    if len(view) == 0:
        raise DataError("there is no judgement to evaluate on")
    delta, counts = margins_on(model, test, view, token_budget)
    others = {name: baseline.delta(view) for name, baseline in baselines.items()}
    others |= extra or {}
    stored = model.record.calibration
    result = evaluate(
        view,
        delta,
        temperature=temperature_of(stored) if stored else None,
        baselines=others,
        other=margins_on(against, test, view, token_budget)[0] if against is not None else None,
        seed=seed,
        resamples=resamples,
    )
    return view, delta, result, counts


def temperature_of(stored: Mapping[str, object]) -> Temperature:
    """Rebuild a fitted temperature from what a model stores."""
    rest = {key: value for key, value in stored.items() if key not in ("temperature", "method")}
    return Temperature.from_dict({"value": stored["temperature"], **rest})
