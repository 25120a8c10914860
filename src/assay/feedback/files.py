"""Rows of one file, one after the other, in constant memory: jsonl, json, csv, parquet."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.errors import DataError
from assay.feedback.problems import RowError

#: A row number, counted from 1, with the row or what is wrong with it.
Item = tuple[int, dict[str, Any] | RowError]

PARQUET_BATCH_ROWS = 1000
_CHUNK_CHARS = 1 << 20
_MALFORMED = "malformed JSON"
_OBJECT = "one JSON object"
_SPACE = re.compile(r"[\s,]*")
#: What the csv module says where a file ends within a quoted cell.
_CSV_END = "unexpected end of data"


def _whole_gzip(rows: Callable[[Path], Iterator[Item]]) -> Callable[[Path], Iterator[Item]]:
    """Return a reader that refuses a damaged compressed file."""

    @functools.wraps(rows)
    def read(path: Path) -> Iterator[Item]:
        row = 0
        try:
            for row, item in rows(path):
                yield row, item
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                "the compressed file is damaged",
                where=f"{path}:{row + 1}",
                expected="a whole gzip file",
                got=str(error),
                remedy="copy or download the file again",
            ) from error

    return read


@_whole_gzip
def jsonl_rows(path: Path) -> Iterator[Item]:
    """Yield one row per line (``.gz`` too); blank lines are passed over but keep their number."""
    with _open_binary(path) as stream:
        yield from _json_lines(stream)


def _open_binary(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _json_lines(stream: IO[bytes]) -> Iterator[Item]:
    for row, line in enumerate(stream, start=1):
        if not line.isspace():
            yield row, _json_object(line)


def _json_object(line: bytes) -> dict[str, Any] | RowError:
    try:
        value = json.loads(line.decode("utf-8-sig") if line[:1] == b"\xef" else line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError("not UTF-8", expected="UTF-8 text", got=f"byte 0x{line[error.start]:02x} at {error.start}")
    except RecursionError:
        return RowError(_MALFORMED, expected=_OBJECT, got="lists nested too deeply")
    except ValueError as error:
        return RowError(
            _MALFORMED,
            expected=f"{_OBJECT} on the line",
            got=str(error),
            remedy="mend or remove the line; `.json` files may also hold one array",
        )
    return value if isinstance(value, dict) else RowError("not a row", expected=_OBJECT, got=type(value).__name__)


@_whole_gzip
def json_rows(path: Path) -> Iterator[Item]:
    """Yield the objects of one JSON array, or of one object a line (``.gz`` too)."""
    with _open_binary(path) as stream:
        head = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        stream.seek(0)
        if head != b"[":
            yield from _json_lines(stream)
            return
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as characters:
            yield from _json_array(characters, path)


def _json_array(stream: IO[str], path: Path) -> Iterator[Item]:
    """Decode element by element, so that the array never lies in memory as a whole."""
    decoder, row = json.JSONDecoder(), 0
    buffer = _more(stream, _CHUNK_CHARS, path, row)
    position = buffer.index("[") + 1
    while True:
        start = _SPACE.match(buffer, position)
        position = start.end() if start else position
        if buffer.startswith("]", position):
            _refuse_rest(buffer[position + 1 :], stream, path, row)
            return
        try:
            value, position = decoder.raw_decode(buffer, position)
        except ValueError as error:
            more = _more(stream, max(_CHUNK_CHARS, len(buffer)), path, row)
            if not more:
                raise DataError(
                    _MALFORMED, where=f"{path}:{row + 1}", expected="an array of objects", got=str(error)
                ) from error
            buffer, position = buffer[position:] + more, 0
            continue
        row += 1
        yield row, value if isinstance(value, dict) else RowError("not a row", expected=_OBJECT, got=repr(value)[:60])


def _refuse_rest(buffer: str, stream: IO[str], path: Path, row: int) -> None:
    """Refuse what stands behind the array: read silently, it would be lost."""
    while not (rest := buffer.strip()) and (buffer := _more(stream, _CHUNK_CHARS, path, row)):
        pass
    if rest:
        raise DataError(
            "something stands behind the array",
            where=f"{path}: after row {row}",
            expected="one array of objects",
            got=repr(rest[:40]),
            remedy="put all rows into one array, or one object on each line of a .jsonl file",
        )


def _more(stream: IO[str], chars: int, path: Path, row: int) -> str:
    try:
        return stream.read(chars)
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=f"{path}:{row + 1}", expected="UTF-8 text", got=str(error)) from error


@_whole_gzip
def csv_rows(path: Path) -> Iterator[Item]:
    """Yield one row per record; cells are text, the row number is the line on which the record starts.

    A record that cannot be read costs no other, except for a quote that nothing closes: it holds the rest of the file.
    """
    csv.field_size_limit(2**31 - 1)
    # bytes that are no UTF-8 become lone surrogates, so that the record which holds them is known
    options: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    with _open_binary(path) as binary, io.TextIOWrapper(binary, **options) as stream:
        reader = csv.reader(stream, strict=True)
        header = _csv_header(reader, path)
        if header is None:
            return
        line = reader.line_num + 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if _CSV_END in str(error):
                    raise _never_closed(path, line) from error
                yield line, RowError("malformed csv", expected="comma-separated UTF-8 text", got=str(error))
            else:
                if cells:
                    yield line, _csv_row(header, cells)
            line = reader.line_num + 1


def _never_closed(path: Path, line: int) -> DataError:
    return DataError(
        "a quote is opened and never closed",
        where=f"{path}:{line}",
        expected='each cell that begins with " to end with one; a quote inside it doubled ("")',
        got="the end of the file",
        remedy="close or double the quote: all rows behind it are part of that cell",
    )


def _csv_header(reader: Iterator[list[str]], path: Path) -> list[str] | None:
    try:
        header = next(reader, None)
        stray = _stray_byte(header or [])
        trouble = stray and f"byte {stray}"
    except csv.Error as error:
        trouble = str(error)
    if trouble is not None:
        raise DataError(
            "malformed csv",
            where=f"{path}:1",
            expected="comma-separated UTF-8 text with a line of column names",
            got=trouble,
            remedy="save the table as CSV UTF-8",
        )
    repeated = sorted({name for name in header or [] if (header or []).count(name) > 1})
    if repeated:
        raise DataError(
            "two columns have the same name",
            where=f"{path}:1",
            expected="a name of its own for each column",
            got=", ".join(map(repr, repeated)),
            remedy="rename or remove one",
        )
    return header


def _stray_byte(cells: list[str]) -> str | None:
    """Return the first byte that is no UTF-8, as it reads in hexadecimal, or None."""
    found = next((one for cell in cells for one in cell if "\udc80" <= one <= "\udcff"), None)
    return None if found is None else f"0x{ord(found) - 0xDC00:02x}"


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | RowError:
    if (byte := _stray_byte(cells)) is not None:
        return RowError("not UTF-8", expected="UTF-8 text", got=f"byte {byte}", remedy="save the table as CSV UTF-8")
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    return RowError(
        "wrong number of cells",
        expected=f"{len(header)} cells, as in the header",
        got=f"{len(cells)} cells",
        remedy='quote cells that hold commas or line ends ("…")',
    )


def parquet_rows(path: Path) -> Iterator[Item]:
    """Yield the rows of a parquet file, batch by batch; numbers of named classes become their names."""
    row = 0
    try:
        # Buffered streams: otherwise a whole column chunk of a large row group lies in memory.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            named = _classes_told(file.schema_arrow.metadata or {})
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, use_threads=False):
                for value in batch.to_pylist():
                    row += 1
                    yield row, with_class_names(value, named)
    except pa.ArrowException as error:
        raise DataError(
            "the parquet file cannot be read",
            where=f"{path}:{row + 1}",
            expected="a whole parquet file",
            got=str(error),
        ) from error


def _classes_told(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of the classes that a column's numbers stand for, by column, as ``datasets`` notes them."""
    told = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {name: own["names"] for name, own in told.items() if isinstance(own, dict) and own.get("names")}


def with_class_names(row: dict[str, Any], named: dict[str, list[str]]) -> dict[str, Any]:
    """Return a row whose class numbers are names; a number without one, as -1 for no label, stays."""
    if not named:
        return row
    told = {name: row.get(name) for name in named}
    known = {name: named[name][k] for name, k in told.items() if isinstance(k, int) and 0 <= k < len(named[name])}
    return row | known


#: Readers by the end of the file name.
FILE_ROWS: dict[str, Callable[[Path], Iterator[Item]]] = {
    ".jsonl": jsonl_rows,
    ".jsonl.gz": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".ndjson.gz": jsonl_rows,
    ".json": json_rows,
    ".json.gz": json_rows,
    ".csv": csv_rows,
    ".csv.gz": csv_rows,
    ".parquet": parquet_rows,
}


def suffix_of(path: Path) -> str | None:
    """Return the known ending of a file name, or None."""
    name = path.name.lower()
    return next((ending for ending in sorted(FILE_ROWS, key=len, reverse=True) if name.endswith(ending)), None)
