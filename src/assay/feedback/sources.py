"""What a user may call a data source, turned into named streams of rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, load_from_disk

from assay.errors import DataError
from assay.feedback.files import FILE_ROWS, PARQUET_BATCH_ROWS, Item, suffix_of, with_class_names
from assay.feedback.problems import RowError

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(?::(?P<split>.+))?$")
_LOCAL_SPLIT = re.compile(r"^(?P<folder>.+):(?P<split>[\w.-]+)$")
_SPLIT_NAME = re.compile(
    r"(?<![A-Za-z0-9])(train|test|validation|valid|val|dev|eval|held_?out|holdout)(?:ing|set)?(?:_[A-Za-z]+)*"
    r"\d*(?![A-Za-z])",
    re.I,
)
#: Ends of names of tables that are not read.
_OTHER_TABLES = (".tsv", ".xlsx", ".xls", ".zst", ".bz2", ".xz", ".zip", ".gz")
KNOWN_FILES = ".jsonl, .json, .csv (all three also with .gz), .parquet"


@dataclass(frozen=True)
class Part:
    """One file (or table) of a source: its name, a way to read it from the start, and what identifies its content."""

    name: str
    rows: Callable[[], Iterator[Item]]
    stamp: tuple[Any, ...] | None


@dataclass(frozen=True)
class Source:
    """A named source in parts; ``table`` is set when it already is a data set."""

    name: str
    parts: tuple[Part, ...]
    table: Dataset | None = None

    @property
    def stamp(self) -> tuple[Any, ...] | None:
        """Return what identifies the content (paths, sizes, times), or None for what lives in memory."""
        stamps = tuple(part.stamp for part in self.parts)
        return None if any(stamp is None for stamp in stamps) else stamps


def open_source(source: str | Path | Dataset | Iterable[dict[str, Any]], split: str | None = None) -> Source:
    """Resolve a file, a folder or Hub id (either with ``:split`` behind it), a data set or a list of rows.

    The name of what is found opens it again. A split in the name goes before ``split``.

    Raises
    ------
    DataError
        If there is no such thing, or its kind is unknown.
    """
    if isinstance(source, (DatasetDict, dict)):
        return _from_splits(dict(source), split, "the data set")
    if isinstance(source, Dataset):
        _refuse_split(split, "the data set")
        return _from_dataset(source, "Dataset")
    if not isinstance(source, (str, Path)):
        _refuse_split(split, "rows")
        return _from_rows(source)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, split)
    if path.exists():
        _refuse_split(split, str(source))
        return _from_files(str(source), [path])
    local = _LOCAL_SPLIT.match(str(source))
    if local and Path(local["folder"]).is_dir():
        return _from_folder(Path(local["folder"]), local["split"])
    match = _HUB_ID.match(str(source))
    # Where the first part is a folder here, a mistyped path is likelier than an organisation of that name.
    if match and suffix_of(path) is None and isinstance(source, str) and not Path(path.parts[0]).is_dir():
        return _from_hub(source.split(":", 1)[0], match["split"] or split)
    raise _no_such(path)


def _refuse_split(split: str | None, where: str) -> None:
    if split is not None:
        raise DataError(
            "there are no splits here", where=where, expected="a folder, or a Hub data set", got=f"split {split!r}"
        )


def _no_such(path: Path) -> DataError:
    parent = path.parent if path.parent.is_dir() else Path()
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1)
    return DataError(
        "there is no such file or folder",
        where=str(path),
        expected=f"a file ({KNOWN_FILES}), a folder of them, or a Hub id such as org/name:split",
        remedy=f"did you mean {parent / near[0]}?" if near else "check the path",
    )


def _from_rows(rows: Iterable[dict[str, Any]]) -> Source:
    kept = list(rows)

    def stream() -> Iterator[Item]:
        for number, row in enumerate(kept, start=1):
            if isinstance(row, dict):
                yield number, _without_arrays(row)
            else:
                yield number, RowError("not a row", expected="a dict", got=repr(row)[:60])

    return Source("rows", (Part("rows", stream, None),))


def _without_arrays(value: Any) -> Any:
    """Return rows as pandas gives them with lists in the place of arrays."""
    if isinstance(value, dict):
        return {key: _without_arrays(own) for key, own in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return [_without_arrays(own) for own in value] if isinstance(value, list) else value


def _from_files(name: str, paths: list[Path]) -> Source:
    parts = []
    for path in paths:
        ending = suffix_of(path)
        if ending is None:
            raise DataError(
                "the kind of file is unknown",
                where=str(path),
                expected=f"a name that ends in one of {KNOWN_FILES}",
                remedy="rename the file after what it holds, or save the table as .csv or .jsonl",
            )
        state = path.stat()
        stamp = (str(path.resolve()), state.st_size, state.st_mtime_ns)
        parts.append(Part(str(path), partial(FILE_ROWS[ending], path), stamp))
    return Source(name, tuple(parts))


def _from_folder(folder: Path, split: str | None) -> Source:
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        saved = load_from_disk(str(folder))
        if isinstance(saved, DatasetDict):
            return _from_splits(dict(saved), split, str(folder))
        _refuse_split(split, str(folder))
        return _from_dataset(saved, str(folder))
    files = _files_in(folder)
    places = {path: _inside(folder, path) for path in files}
    if split is None:
        _refuse_several(folder, list(places.values()))
    else:
        files = _of_split(folder, places, split)
    if not files:
        raise DataError(
            f"the folder holds no data{f' for split {split!r}' if split else ''}",
            where=str(folder),
            expected=f"files that end in {KNOWN_FILES}, or a folder written by datasets.save_to_disk",
            got=", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder",
        )
    return _from_files(f"{folder}:{split}" if split else str(folder), files)


def _files_in(folder: Path) -> list[Path]:
    """Return the files that can be read, hidden ones and what hidden folders hold left aside.

    Raises
    ------
    DataError
        If tables of other kinds lie among them: their rows would be missed by nobody.
    """
    inside = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    seen = [path for path in inside if not any(name.startswith(".") for name in path.parts)]
    known = [path for path in seen if suffix_of(path)]
    others = [path.as_posix() for path in seen if path.suffix.lower() in _OTHER_TABLES and path not in known]
    if known and others:
        raise DataError(
            "the folder also holds files that cannot be read",
            where=str(folder),
            expected=f"files that end in {KNOWN_FILES}",
            got=", ".join(others[:8]),
            remedy="save them as .csv or .jsonl, move them elsewhere, or give one of the other files",
        )
    return [folder / path for path in known]


def _inside(folder: Path, path: Path) -> str:
    """Return where a file lies in a folder, without the end of its name: what may tell its split."""
    place = path.relative_to(folder).as_posix()
    return place[: len(place) - len(suffix_of(path) or "")]


def _refuse_several(folder: Path, places: list[str]) -> None:
    """Refuse a folder whose files are named after different splits: read as one, a test set would be trained on."""
    named = {place: match for place in places if (match := _SPLIT_NAME.search(place))}
    if len({match[1].lower() for match in named.values()}) > 1:
        splits = sorted({match[0].lower() for match in named.values()})
        raise DataError(
            "the folder holds several splits",
            where=str(folder),
            expected=f"one of {', '.join(splits)}",
            got=", ".join(sorted(named)[:8]),
            remedy=f"name one, as in {folder}:{'train' if 'train' in splits else splits[0]}, or give one of the files",
        )


def _of_split(folder: Path, places: dict[Path, str], split: str) -> list[Path]:
    """Return the files with a split's name as a word of their place; of longer names that begin so, those of one."""
    exact = re.compile(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9]|_[A-Za-z])")
    found = [path for path, place in places.items() if exact.search(place)]
    if found:
        return found
    longer = re.compile(rf"(?<![A-Za-z0-9]){re.escape(split)}(?:_[A-Za-z]+)+")
    named = {path: match[0] for path, place in places.items() if (match := longer.search(place))}
    if len(set(named.values())) > 1:
        raise DataError(
            f"several splits begin with {split!r}",
            where=str(folder),
            expected=f"one of {', '.join(sorted(set(named.values())))}",
            got=split,
        )
    return list(named)


def _from_splits(splits: dict[Any, Any], split: str | None, name: str) -> Source:
    if not splits or not all(isinstance(part, Dataset) for part in splits.values()):
        raise DataError(
            "a dict is not a data source",
            where=name,
            expected="a list of rows, a path or a Dataset",
            got=str(splits)[:60],
        )
    if split is None and len(splits) == 1:
        split = next(iter(splits))
    if split not in splits:
        raise DataError(
            "the data set has several splits" if split is None else f"there is no split {split!r}",
            where=name,
            expected=f"one of {', '.join(map(str, splits))}",
            remedy=f"name one, as in {name}:{next(iter(splits))} or with split=",
        )
    return _from_dataset(splits[split], f"{name}:{split}")


def _from_dataset(data: Dataset, name: str) -> Source:
    plain = data.with_format("arrow")
    named = {name: list(own.names) for name, own in data.features.items() if isinstance(own, ClassLabel) and own.names}

    def stream() -> Iterator[Item]:
        for start in range(0, len(plain), PARQUET_BATCH_ROWS):
            table: pa.Table = plain[start : min(start + PARQUET_BATCH_ROWS, len(plain))]
            rows = (with_class_names(row, named) for row in table.to_pylist())
            yield from enumerate(rows, start=start + 1)

    # The fingerprint of a data set that lives in memory is drawn at random: nothing to find it again by.
    stamp = (name, data._fingerprint, len(data)) if data.cache_files else None
    return Source(name, (Part(name, stream, stamp),), table=data)


def _from_hub(name: str, split: str | None) -> Source:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        loaded = load_dataset(name, split=split)
    except (OSError, OfflineModeIsEnabled, HfHubHTTPError, DatasetNotFoundError) as error:
        raise DataError(
            f"{name!r} is neither a file or folder here nor a data set that the Hub gives out now",
            where=name,
            expected="an existing path, or a reachable Hub data set",
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}",
            remedy="check the spelling and the network (offline: download it first, then give the path)",
        ) from error
    except ValueError as error:
        raise DataError(
            "the Hub data set cannot be opened", where=f"{name}:{split}" if split else name, got=str(error)[:300]
        ) from error
    if isinstance(loaded, Dataset):
        return _from_dataset(loaded, f"{name}:{split}")
    return _from_splits(dict(loaded), split, name)
