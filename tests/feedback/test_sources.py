"""Files, folders, saved data sets and Hub ids; broken ones say where and what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from assay.errors import DataError
from assay.feedback import read, read_with_report
from assay.feedback.sources import open_source
from tests.feedback.conftest import WriteRows

ROWS: list[dict[str, Any]] = [
    {"prompt": f"Q{i}", "chosen": f"A{i}", "rejected": f"B{i}", "margin": i} for i in range(3)
]


def answers(source: Any, cache: Path, **options: Any) -> list[str]:
    return [record["responses"][0] for record in read(source, cache_dir=cache, **options)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json"])
def test_lines(name: str, write: WriteRows, cache: Path) -> None:
    assert answers(write(ROWS, name), cache) == ["A0", "A1", "A2"]


def test_json_array_larger_than_a_chunk(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.feedback.files._CHUNK_CHARS", 16)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    assert answers(path, cache) == ["A0", "A1", "A2"]


def test_csv_with_line_ends_in_cells(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('prompt,chosen,rejected,margin\nQ,"A\n1",B,0.5\nQ2,"A,2",B,\n', encoding="utf-8")
    data = read(path, cache_dir=cache)
    assert [record["responses"][0] for record in data] == ["A\n1", "A,2"]
    assert [record["edges"][0]["m"] for record in data] == [0.5, 0.0]


def test_parquet(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert answers(path, cache) == ["A0", "A1", "A2"]


def test_folder_and_split_of_a_folder(write: WriteRows, tmp_path: Path, cache: Path) -> None:
    write(ROWS[:2], "d/train-0.jsonl")
    write(ROWS[2:], "d/test.jsonl.gz")
    (tmp_path / "d" / "README.md").write_text("no data", encoding="utf-8")
    assert answers(tmp_path / "d", cache, split="train") == ["A0", "A1"]
    # a split in the name goes before the option, and the reported name opens the same again
    _, report = read_with_report(f"{tmp_path / 'd'}:test", split="train", cache_dir=cache)
    assert answers(report.source, cache) == ["A2"]
    with pytest.raises(DataError, match=r"several splits(.|\n)*test, train(.|\n)*name one, as in .*/d:train"):
        read(tmp_path / "d")
    write(ROWS[:1], "parts/a.jsonl")
    write(ROWS[1:], "parts/b.jsonl")
    assert sorted(answers(tmp_path / "parts", cache)) == ["A0", "A1", "A2"]
    with pytest.raises(DataError, match="no data for split 'dev'"):
        read(tmp_path / "d", split="dev")


def test_files_of_different_layouts_are_not_mixed(write: WriteRows, tmp_path: Path) -> None:
    write(ROWS, "d/a.jsonl")
    write([{"text": "x", "score": 1}], "d/b.jsonl")
    with pytest.raises(DataError, match="different layouts"):
        read(tmp_path / "d")


def test_saved_and_live_data_sets(tmp_path: Path, cache: Path) -> None:
    data = Dataset.from_list(ROWS)
    assert answers(data, cache) == ["A0", "A1", "A2"]
    data.save_to_disk(str(tmp_path / "one"))
    assert answers(tmp_path / "one", cache) == ["A0", "A1", "A2"]
    DatasetDict(train=data, test=data.select([1])).save_to_disk(str(tmp_path / "two"))
    assert answers(tmp_path / "two", cache, split="test") == ["A1"]
    with pytest.raises(DataError, match="several splits"):
        read(tmp_path / "two")


def test_records_pass_through(tmp_path: Path) -> None:
    data = read(ROWS)
    again, report = read_with_report(data)
    assert again is data
    assert (report.records, report.edges, report.responses) == (3, 3, 6)
    data.save_to_disk(str(tmp_path / "records"))
    assert read(tmp_path / "records").to_list() == data.to_list()


def test_records_can_be_regrouped() -> None:
    data = read([{**row, "topic": "t"} for row in ROWS])
    assert set(read(data, group="meta.row.topic")["split_group"]) == {"t"}


def test_hub_id_with_split(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    asked = []

    def load_dataset(name: str, split: str | None = None) -> Any:
        asked.append((name, split))
        data = Dataset.from_list(ROWS)
        return data if split else DatasetDict(train=data)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert answers("org/name:train[:2]", cache) == ["A0", "A1", "A2"]
    assert answers("org/name", cache) == ["A0", "A1", "A2"]
    assert asked == [("org/name", "train[:2]"), ("org/name", None)]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, split: str | None = None) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="offline: download it first"):
        read("org/name")


def test_a_mistyped_path_is_not_asked_of_the_hub(
    write: WriteRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ROWS, "data/train.jsonl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"did you mean data/train.jsonl"):
        read("data/trian.jsonl")
    with pytest.raises(DataError, match="no such file or folder"):
        read("data/train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", r"x.jsonl: there are no rows"),
        ("x.jsonl", b"\n\n", r"x.jsonl: there are no rows"),
        ("x.csv", b"prompt,chosen,rejected\n", r"x.csv: there are no rows"),
        ("x.json", b"[]", r"x.json: there are no rows"),
        ("x.json", b'[{"prompt": "Q"', r"x.json:1: malformed JSON"),
        ("x.jsonl", b'{"a": 1\n', r"x.jsonl:1: malformed JSON"),
        ("x.jsonl", b"[1]\n", r"x.jsonl:1: not a row"),
        ("x.jsonl", b'{"a": "\xff"}\n', r"x.jsonl:1: not UTF-8"),
        ("x.jsonl.gz", b"no gzip", r"x.jsonl.gz:1: the compressed file is damaged"),
        ("x.parquet", b"no parquet", r"x.parquet:1: the parquet file cannot be read"),
        ("x.txt", b"text", r"x.txt: the kind of file is unknown"),
    ],
)
def test_broken_files(name: str, content: bytes, message: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path, cache_dir=cache)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_csv_row_with_too_many_cells(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,chosen,rejected\nQ,A,B\nQ,A,B,C\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x.csv:3: wrong number of cells"):
        read(path, cache_dir=cache)


def test_an_empty_list() -> None:
    with pytest.raises(DataError, match="no rows"):
        read([])


def test_a_split_where_there_is_none(write: WriteRows) -> None:
    with pytest.raises(DataError, match="no splits"):
        read(write(ROWS), split="train")


def test_a_saved_dict_of_splits_opens_by_its_reported_name(tmp_path: Path, cache: Path) -> None:
    DatasetDict({"train": Dataset.from_list(ROWS[:2]), "test": Dataset.from_list(ROWS[2:])}).save_to_disk(
        tmp_path / "d"
    )
    _, report = read_with_report(tmp_path / "d", split="train", cache_dir=cache)
    assert report.source == f"{tmp_path / 'd'}:train"
    assert answers(report.source, cache) == ["A0", "A1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("größe,chosen,rejected\nq,a,b\n".encode("cp1252"), r":1: malformed csv(.|\n)*0xf6(.|\n)*CSV UTF-8"),
        (b'prompt,"cho"x,rejected\nq,a,b\n', ":1: malformed csv"),
        (b"prompt,chosen,rejected,prompt\nq,a,b,other\n", r"same name(.|\n)*'prompt'"),
    ],
)
def test_csv_headers_that_cannot_be_used(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(path)


def test_a_csv_row_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [b"q%d,a,b" % k for k in range(400)]
    rows[7], rows[300] = b'"q "7" x",a,b', "schön,a,b".encode("cp1252")
    path.write_bytes(b"\n".join([b"prompt,chosen,rejected", *rows, b""]))
    with pytest.raises(DataError, match=r":9: malformed csv.*the first of 2 rows(.|\n)*:302: not UTF-8(.|\n)*0xf6"):
        read(path)
    kept = [row for _, row in open_source(path).parts[0].rows() if isinstance(row, dict)]
    assert [row["prompt"] for row in kept] == [f"q{k}" for k in range(400) if k not in (7, 300)]
    path.write_bytes(b"\n".join([b"prompt,chosen,rejected", *rows[:3], b'"q,a,b', *rows[:3]]))
    with pytest.raises(DataError, match=r":5: a quote is opened and never closed"):
        read(path)


def named_classes() -> Dataset:
    features = Features({"prompt": Value("string"), "completion": Value("string"), "label": ClassLabel(names=["good"])})
    return Dataset.from_list([{"prompt": "q", "completion": "a", "label": 0}], features=features)


def test_numbers_of_named_classes_become_their_names(tmp_path: Path) -> None:
    named_classes().to_parquet(str(tmp_path / "x.parquet"))
    named_classes().save_to_disk(str(tmp_path / "saved"))
    for source in (named_classes(), tmp_path / "x.parquet", tmp_path / "saved"):
        assert [row["label"] for _, row in open_source(source).parts[0].rows()] == ["good"]  # type: ignore[index]


@pytest.mark.parametrize(
    "names",
    [
        ("a_train", "a_test"),
        ("train/data", "test/data"),
        ("Train-1", "x.TEST"),
        ("trainset", "testing"),
        ("training", "held_out"),
        ("train", "test1"),
    ],
)
def test_splits_are_known_wherever_their_names_stand(names: tuple[str, str], write: WriteRows, tmp_path: Path) -> None:
    for name in names:
        write(ROWS, f"d/{name}.jsonl")
    with pytest.raises(DataError, match="several splits") as caught:
        read(tmp_path / "d")
    if names[1].islower():
        # each name that is offered opens its own
        for split in (caught.value.expected or "").removeprefix("one of ").split(", "):
            assert read_with_report(tmp_path / "d", split=split)[1].records == 3, split


@pytest.mark.parametrize("chars", [8, 1 << 20])
def test_nothing_behind_a_json_array_is_lost(chars: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.feedback.files._CHUNK_CHARS", chars)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ROWS) + " \n" * 20 + json.dumps(ROWS), encoding="utf-8")
    with pytest.raises(DataError, match=r"after row 3: something stands behind the array"):
        read(path)
    path.write_text(json.dumps(ROWS) + " \n" * 20, encoding="utf-8")
    assert len(read(path)) == 3


def test_folders_of_the_hub_with_splits_of_longer_names(write: WriteRows, tmp_path: Path) -> None:
    for name in ("train_prefs-00000-of-00001", "train_sft-00000-of-00001", "test_prefs-00000-of-00001"):
        write(ROWS, f"d/{name}.jsonl")
    with pytest.raises(DataError, match="one of test_prefs, train_prefs, train_sft"):
        read(tmp_path / "d")
    with pytest.raises(DataError, match=r"several splits begin with 'train'(.|\n)*train_prefs, train_sft"):
        read(tmp_path / "d", split="train")
    assert read_with_report(tmp_path / "d", split="train_prefs")[1].records == 3
    assert read_with_report(tmp_path / "d", split="test")[1].records == 3


def test_what_lies_in_a_folder_is_read_or_refused(write: WriteRows, tmp_path: Path, cache: Path) -> None:
    write(ROWS[:1], "d/a.jsonl")
    write(ROWS[1:2], "d/b.json.gz")
    write(["prompt,chosen,rejected,margin", "Q2,A2,B2,2"], "d/c.csv.gz")
    write(ROWS, "d/.ipynb_checkpoints/a-checkpoint.jsonl")
    (tmp_path / "d" / "README.md").write_text("about it", "utf-8")
    assert sorted(answers(tmp_path / "d", cache)) == ["A0", "A1", "A2"]
    (tmp_path / "d" / "more.tsv").write_text("prompt\tchosen", "utf-8")
    with pytest.raises(DataError, match=r"files that cannot be read(.|\n)*more\.tsv"):
        read(tmp_path / "d")


def test_a_damaged_compressed_table_is_refused(write: WriteRows, tmp_path: Path) -> None:
    for name in ("c.csv.gz", "b.json.gz"):
        path = write(
            ["prompt,chosen,rejected", *(f"Q{k},A,B" for k in range(500))] if "csv" in name else ROWS * 50, name
        )
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match="the compressed file is damaged"):
            read(path)
