"""One row per prompt, counted drops, one message for all bad rows, and a cache that is never half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import DataError, OutputError
from assay.feedback import kind_of, pairs, read, read_with_report
from assay.feedback.dialogues import Response
from assay.feedback.drafts import comparison_record
from assay.feedback.merging import MergeRule, merge_group
from assay.feedback.records import COMPARISONS, message
from tests.feedback.conftest import WriteRows, sides


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def test_rows_of_one_prompt_become_one_record_where_the_prompt_first_stood(write: WriteRows, cache: Path) -> None:
    rows = [pair("P", "A", "B", id=1), pair("Q", "x", "y"), pair("P", "C", "A", id=2), pair("P", "A", "B", id=3)]
    data, report = read_with_report(write(rows), cache_dir=cache)
    assert [record["prompt"][0]["content"] for record in data] == ["P", "Q"]
    assert data[0]["responses"] == ["A", "B", "C"]
    assert sides(data[0]) == [("A", "B", 1.0), ("C", "A", 1.0), ("A", "B", 1.0)]
    assert json.loads(data[0]["meta"]) == {"rows": [{"id": 1}, {"id": 2}, {"id": 3}]}
    assert (report.rows, report.records, report.merged, report.edges, report.responses) == (4, 2, 2, 4, 5)
    assert data.features == COMPARISONS
    assert kind_of(data) == "comparisons"


def test_merging_over_many_batches_equals_merging_in_memory(
    write: WriteRows, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.feedback.store.BATCH_ROWS", 7)
    monkeypatch.setattr("assay.feedback.merging.BATCH_ROWS", 7)
    monkeypatch.setattr("assay.feedback.merging._REMAP_BYTES", 1)
    rng = np.random.default_rng(0)
    names = rng.integers(0, 40, size=200)
    rows = [pair(f"P{name}", f"A{i % 9}", f"B{i}") for i, name in enumerate(names)]
    data, report = read_with_report(write(rows), cache_dir=cache)
    expected: dict[str, list[tuple[str, str, float]]] = {}
    for row in rows:
        expected.setdefault(row["prompt"], []).append((row["chosen"], row["rejected"], 1.0))
    assert {record["prompt"][0]["content"]: sides(record) for record in data} == expected
    assert [record["prompt"][0]["content"] for record in data] == list(expected)
    assert report.merged == 200 - len(expected)
    assert read(rows).to_list() == data.to_list()


def test_two_prompts_with_one_hash_stay_apart() -> None:
    rows = [
        comparison_record([message("user", q)], [Response("A"), Response("B")], [], row_meta={"q": q}) for q in "PQP"
    ]
    merged = merge_group(rows, MergeRule())
    assert [record["prompt"][0]["content"] for record in merged] == ["P", "Q"]


def test_rows_without_a_prompt_are_not_merged() -> None:
    data = read([pair("", "A", "B"), pair("", "C", "D")])
    assert len(data) == 2
    assert len(set(data["split_group"])) == 2


def test_rows_of_one_prompt_in_two_groups_are_counted() -> None:
    rows = [pair("P", "A", "B", topic="s"), pair("P", "C", "D", topic="t")]
    data, report = read_with_report(rows, group="topic")
    assert data["split_group"] == ["s"]
    assert sum(report.notes.values()) == 1


def test_identical_pairs_and_differing_prompts_are_dropped_and_counted() -> None:
    def hh(question: str, answer: str) -> str:
        return f"\n\nHuman: {question}\n\nAssistant: {answer}"

    rows = [
        {"chosen": hh("Q", "A"), "rejected": hh("Q", "B")},
        {"chosen": hh("Q", "A"), "rejected": hh("Q", "A")},
        {"chosen": hh("Q", "A"), "rejected": hh("other", "B")},
        {"chosen": hh("Q2", ""), "rejected": hh("Q2", "B")},
    ]
    data, report = read_with_report(rows)
    assert report.dropped == {"identical pair": 1, "prompts differ": 1}
    assert report.places == {"identical pair": "rows:2", "prompts differ": "rows:3"}
    assert sides(data[1]) == [("", "B", 1.0)]
    assert any("rows:2" in line for line in report.lines())


def test_one_message_names_the_first_places_and_counts_the_rest(write: WriteRows, cache: Path) -> None:
    rows: list[Any] = [pair("Q", "A", "B")] + [pair("Q", "A", "B", target=2)] * 7 + ["{broken", pair("Q", "A", "C")]
    with pytest.raises(DataError) as caught:
        read(write(rows), cache_dir=cache)
    text = str(caught.value)
    assert "data.jsonl:2:target" in text
    assert "data.jsonl:6:target" in text
    assert "data.jsonl:7" not in text
    assert "the first of 8 rows that cannot be read" in text
    assert "and 3 more" in text
    assert "a probability in [0, 1]" in text
    assert not list(cache.iterdir())


def test_blank_lines_keep_the_numbering(write: WriteRows, cache: Path) -> None:
    with pytest.raises(DataError, match=r"data.jsonl:3:chosen"):
        read(write([pair("Q", "A", "B"), "", pair("Q", 5, "B")]), cache_dir=cache)  # type: ignore[arg-type]


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="2 dropped: identical pair"):
        read([pair("Q", "A", "A"), pair("R", "A", "A")])


def test_the_cache_is_used_and_follows_file_and_options(write: WriteRows, cache: Path) -> None:
    path = write([pair("Q", "A", "B"), pair("R", "A", "A")])
    first, report = read_with_report(path, cache_dir=cache)
    again, from_cache = read_with_report(path, cache_dir=cache)
    assert from_cache == report
    assert again.to_list() == first.to_list()
    assert len(list(cache.glob("*.arrow"))) == 1
    assert len(first.cache_files) == 1
    read(path, cache_dir=cache, format="explicit_pair")
    assert len(list(cache.glob("*.arrow"))) == 2
    write([pair("Q", "A", "C"), pair("R", "A", "B")])
    assert len(read(path, cache_dir=cache)) == 2
    assert not [p for p in cache.iterdir() if p.suffix not in (".arrow", ".json")]


def test_an_interrupted_read_leaves_nothing(write: WriteRows, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.feedback.reading._report", stop)
    with pytest.raises(KeyboardInterrupt):
        read(write([pair("Q", "A", "B")]), cache_dir=cache)
    assert not list(cache.iterdir())


def test_a_cache_folder_that_cannot_be_made(write: WriteRows, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cache_dir"):
        read(write([pair("Q", "A", "B")]), cache_dir=tmp_path / "file" / "cache")


def test_a_full_disk(write: WriteRows, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.feedback.store.RecordWriter.close", full)
    with pytest.raises(OutputError, match="No space left"):
        read(write([pair("Q", "A", "B")]), cache_dir=cache)
    assert not list(cache.iterdir())


def test_lone_surrogates_are_replaced_and_counted(write: WriteRows, cache: Path) -> None:
    path = write(['{"prompt": "Q", "chosen": "a\\ud800", "rejected": "b"}'])
    data, report = read_with_report(path, cache_dir=cache)
    assert data[0]["responses"] == ["a\ufffd", "b"]
    assert list(report.notes.values()) == [1]


def test_pair_view_of_what_was_read() -> None:
    rows = [pair("P", "long answer", "B", target=0.7, weight=3), pair("Q", "x", "yy"), pair("P", "C", "B")]
    view = pairs(read(rows))
    assert view.row.tolist() == [0, 0, 1]
    assert view.p.tolist() == [0.7, 1.0, 1.0]
    assert view.w.tolist() == [3.0, 1.0, 1.0]
    assert view.length_a.tolist() == [11, 1, 1]
    assert view.length_b.tolist() == [1, 1, 2]
    assert view.texts(1)[1:] == ("C", "B")
    assert len(set(view.group)) == 2
