"""From records to a matrix of votes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from assay.errors import DataError
from assay.feedback import from_rows
from assay.feedback.labeling import (
    Feature,
    FeatureFunction,
    LabelingFunction,
    Window,
    apply,
    feature_function,
    preset,
    response_pairs,
)
from assay.feedback.labeling.texts import batches
from assay.feedback.records import comparison, edge


def records(count: int = 50) -> Dataset:
    random = np.random.default_rng(0)
    rows = []
    for i in range(count):
        responses = [" ".join(["word"] * int(random.integers(1, 30))) + f" {k}" for k in range(2 + i % 3)]
        rows.append(comparison(f"Prompt {i}", responses, [edge(0, 1, float(i % 2))] if i % 4 else []))
    return from_rows(rows)


def in_record_order(pairs: Any, values: np.ndarray) -> np.ndarray:
    """Turn values of pairs to the order in which the response of lower number comes first."""
    return np.where(pairs.first < pairs.second, values, -values)


def test_pairs_are_those_judged_or_all_and_their_order_is_drawn() -> None:
    data = records(400)
    pairs = response_pairs(data)
    sizes = np.array([len(row["responses"]) if not row["edges"] else 2 for row in data])
    assert (np.bincount(pairs.row) == sizes * (sizes - 1) // 2).all()
    judged = np.isin(pairs.row, np.arange(0, 400, 4), invert=True)
    assert (np.isnan(pairs.p) == ~judged).all() and (pairs.truth[~judged] == 0).all()
    said = in_record_order(pairs, pairs.truth)[judged]
    assert (said == np.where(pairs.row[judged] % 2, 1, -1)).all()
    assert (pairs.first < pairs.second).mean() == pytest.approx(0.5, abs=0.06)
    assert (pairs.truth[judged] > 0).mean() == pytest.approx(0.5, abs=0.08)
    again = response_pairs(data)
    assert (again.first == pairs.first).all()


def test_judgements_of_one_pair_are_joined_and_even_ones_say_nothing() -> None:
    edges = [
        edge(0, 1, 1.0),
        edge(1, 0, 0.0),
        edge(0, 1, 0.0, w=0.5),
        edge(1, 2, 1.0),
        edge(2, 1, 1.0),
        edge(0, 2, 1.0, w=0.0),
    ]
    pairs = response_pairs(from_rows([comparison("p", ["a", "b", "c"], edges)]))
    assert np.where(pairs.first < pairs.second, pairs.p, 1 - pairs.p) == pytest.approx([0.8, np.nan, 0.5], nan_ok=True)
    assert in_record_order(pairs, pairs.truth).tolist() == [1, 0, 0]


def test_no_more_than_the_most_pairs_of_a_prompt() -> None:
    data = from_rows([comparison("p", [str(i) for i in range(12)]), comparison("q", ["a", "b"])])
    pairs = response_pairs(data, most=10)
    assert np.bincount(pairs.row).tolist() == [10, 1] and pairs.left_out == 66 - 10
    assert len({(min(a, b), max(a, b)) for a, b in zip(pairs.first[:10], pairs.second[:10], strict=True)}) == 10


def test_votes_are_those_of_each_function_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.feedback.labeling.applying.BATCH_RECORDS", 7)
    monkeypatch.setattr("assay.feedback.labeling.texts.batches.__kwdefaults__", {"records": 7})
    data = records()
    pairs = response_pairs(data)
    functions: list[LabelingFunction] = [*preset("general")]
    done: list[int] = []
    found = apply(functions, pairs, cache_dir=tmp_path, progress=lambda n, of: done.append(n))
    assert done == [7, 14, 21, 28, 35, 42, 49, 50]
    lines = [text for _, texts in batches(data) for text in texts.lines]
    start = np.concatenate([[0], np.cumsum([len(row["responses"]) for row in data])])
    for name, value, least in (("length", len, 20), ("numbers", lambda text: 1, 1)):
        values = np.array([value(line) for line in lines])
        d = values[start[pairs.row] + pairs.first] - values[start[pairs.row] + pairs.second]
        expected = np.where(np.abs(d) >= least, np.sign(d), 0)
        assert (found.votes[:, found.names.index(name)] == expected).all()


@feature_function(least=1)
def words(text: str) -> int:
    return len(text.split())


def test_processes_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.feedback.labeling.applying.BATCH_RECORDS", 10)
    monkeypatch.setattr("assay.feedback.labeling.texts.batches.__kwdefaults__", {"records": 10})
    pairs = response_pairs(records())
    functions = [*preset("mt_bench")]
    one = apply(functions, pairs, keep=False)
    two = apply(functions, pairs, keep=False, workers=2)
    assert (one.votes == two.votes).all() and one.votes.any()


def test_features_are_kept_and_used_again(tmp_path: Path) -> None:
    calls = []

    def counted(text: str) -> float:
        calls.append(text)
        return float(len(text))

    feature = Feature("mine", counted)
    pairs = response_pairs(records())
    first = apply([FeatureFunction(feature)], pairs, cache_dir=tmp_path)
    once = len(calls)
    again = apply([FeatureFunction(feature, Window(20))], response_pairs(records()), cache_dir=tmp_path)
    assert len(calls) == once and (again.votes != first.votes).any()
    apply([FeatureFunction(feature)], response_pairs(records(49)), cache_dir=tmp_path)
    assert len(calls) > once  # other texts
    newer = Feature("mine", counted, version="2")
    calls.clear()
    apply([FeatureFunction(newer)], pairs, cache_dir=tmp_path)
    assert len(calls) == once


def test_two_functions_of_one_name_and_none() -> None:
    pairs = response_pairs(records())
    with pytest.raises(DataError, match="names of their own"):
        apply([*preset("hh"), *preset("mt_bench")], pairs)
    with pytest.raises(DataError, match="no labeling function"):
        apply([], pairs)
