"""Small files of feedback, and what records say in short, for the tests of reading and checking."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from assay.feedback import read
from assay.feedback.sources import open_source
from assay.feedback.stream import ReadOptions, RecordStream

#: Turns of the smallest conversations.
Q, A, B = ({"role": role, "content": text} for role, text in (("user", "Q"), ("assistant", "A"), ("assistant", "B")))

WriteRows = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "default_cache")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path: Path) -> WriteRows:
    """Write rows as jsonl (text lines stay as they are), gzip'd if the name says so."""

    def writer(rows: Iterable[dict[str, Any] | str], name: str = "data.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return writer


def one(row: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Return the one record of a row."""
    data = read([row], **options)
    assert len(data) == 1
    return dict(data[0])


def sides(record: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Return (better, worse, p) of each judgement."""
    return [(record["responses"][e["a"]], record["responses"][e["b"]], e["p"]) for e in record["edges"]]


def prompt(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (role, text) of the turns that ask."""
    return [(turn["role"], turn["content"]) for turn in record["prompt"]]


def detected(row: dict[str, Any]) -> str:
    """Return the layout that a row is read as."""
    return RecordStream(open_source([row]), ReadOptions()).shape.name
