"""From a source to a stream of records: layout chosen, rows parsed, troubles gathered, drops counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, get_args

from assay.errors import ConfigError, DataError
from assay.feedback.detection import VERDICT_WORD, Shape, compared, detect, gathered, named_shape
from assay.feedback.drafts import Context, Ties
from assay.feedback.fields import plain
from assay.feedback.mapped import MappedReader
from assay.feedback.mapping import ColumnMapping, column_mapping
from assay.feedback.paths import CellPath
from assay.feedback.problems import Dropped, Problems, RowError, Tally
from assay.feedback.sources import Part, Source

SAMPLE_ROWS = 20

#: What ratings are read as: themselves, judgements between the rated responses of a prompt, or graded responses.
RatingsAs = Literal["ratings", "comparisons", "responses"]


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source; everything here decides what the records are."""

    format: str = "auto"
    mapping: ColumnMapping | None = None
    tokenizer: Any = None
    group: str | None = None
    ties: Ties = "keep"
    ratings: RatingsAs = "ratings"

    @classmethod
    def of(
        cls,
        format: str = "auto",
        mapping: ColumnMapping | Mapping[str, Any] | None = None,
        tokenizer: Any = None,
        group: str | None = None,
        ties: Ties = "keep",
        ratings: RatingsAs = "ratings",
    ) -> ReadOptions:
        """Check the options against each other; a tokenizer may be a name or a folder.

        Raises
        ------
        ConfigError, DataError
            If they contradict each other, or the format is unknown.
        """
        if mapping is not None and format != "auto":
            raise ConfigError("a format and a mapping exclude each other", where="format", got=format)
        if ties not in ("keep", "drop"):
            raise ConfigError("unknown way with ties", where="ties", expected="keep or drop", got=str(ties))
        if ratings not in get_args(RatingsAs):
            known = ", ".join(get_args(RatingsAs))
            raise ConfigError("unknown way with ratings", where="ratings", expected=known, got=str(ratings))
        if format != "auto":
            named_shape(format)
        checked = None if mapping is None else column_mapping(mapping)
        if checked is not None and checked.ties is not None:
            ties = checked.ties
        if group is not None:
            _group_path(group)
        return cls(format, checked, _tokenizer(tokenizer), group, ties, ratings)


def _group_path(group: str) -> CellPath:
    try:
        return CellPath.parse(group)
    except ValueError as error:
        raise ConfigError(str(error), where="group") from error


def _tokenizer(tokenizer: Any) -> Any:
    if not isinstance(tokenizer, str):
        return tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the tokenizer {tokenizer!r} cannot be loaded",
            where="tokenizer",
            expected="a folder with a tokenizer, or the name of one that the Hub gives out now",
            got=str(error).splitlines()[0][:160],
        ) from error


@dataclass
class RecordStream:
    """Iterates over ``(file, row, record)``; what happened on the way is in ``problems``, ``dropped`` and ``notes``."""

    source: Source
    options: ReadOptions
    problems: Problems = field(default_factory=Problems)
    dropped: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    rows: int = 0

    def __post_init__(self) -> None:
        self._place = ""
        self._sample: list[dict[str, Any]] = []
        self._columns: frozenset[str] = frozenset()
        self._context = Context(self.options.tokenizer, self.options.ties, self._note)
        self._group = None if self.options.group is None else _group_path(self.options.group)
        mapping = self.options.mapping
        self.shape = _mapped_shape(mapping) if mapping is not None else self._common_shape()
        if self.options.ratings != "ratings" and self.shape.kind == "ratings":
            self.shape = compared(self.shape) if self.options.ratings == "comparisons" else gathered(self.shape)
        if self.options.tokenizer is not None and self.shape.name != "tokenised_pair":
            raise ConfigError(
                "a tokenizer is for token ids only",
                where="tokenizer",
                expected="the columns chosen_ids and rejected_ids",
                got=f"{self.source.name}: {self.shape.name}",
                remedy="leave the tokenizer out",
            )

    def _note(self, name: str, times: int) -> None:
        self.notes.add(name, self._place, times)

    def _common_shape(self) -> Shape:
        if self.options.format != "auto":
            return named_shape(self.options.format)
        found: dict[str, Shape] = {}
        for part in self.source.parts:
            first = _first_rows(part)
            if first:
                found[part.name] = detect(first, part.name)
                self._sample += first
                self._columns = self._columns.union(*first)
        if not found:
            raise _no_rows(self.source)
        names = {shape.name for shape in found.values()}
        if len(names) > 1:
            listed = "; ".join(f"{file}: {shape.name}" for file, shape in found.items())
            raise DataError(
                "the files have different layouts", where=self.source.name, expected="one layout", got=listed,
                remedy="give one of the files, or a split",
            )  # fmt: skip
        return next(iter(found.values()))

    def _refuse_late(self, row: dict[str, Any]) -> None:
        """Refuse a row with a verdict for which the layout, told by the first rows, has no place."""
        if not self._sample or row.keys() <= self._columns:
            return
        columns = self._columns.union(name for name in row if row[name] is not None)
        late = [str(name) for name in columns - self._columns if _is_late(name)]
        if late and not self.shape.matches(columns, [*self._sample, row]):
            raise RowError(
                "a verdict that the first rows have not",
                column=sorted(late)[0],
                expected=f"rows as the first {SAMPLE_ROWS}, which are read as {self.shape.name}",
                got=f"the columns {', '.join(map(str, row))}",
                remedy="keep the judged and the other rows in files of their own, or name the layout: --format",
            )
        self._columns = columns

    @property
    def dimension(self) -> str | None:
        """Return the one dimension whose grades decide, if the mapping names it."""
        return None if self.options.mapping is None else self.options.mapping.compare

    def __iter__(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Parse row by row; rows that break the layout are gathered in ``problems``."""
        for part in self.source.parts:
            for number, row in part.rows():
                self.rows += 1
                self._place = f"{part.name}:{number}"
                if isinstance(row, RowError):
                    self.problems.add(part.name, number, row)
                    continue
                try:
                    self._refuse_late(row)
                    records = self.shape.parse(row, self._context)
                    if self._group is not None:
                        _regroup(records, self._group, row)
                except RowError as error:
                    self.problems.add(part.name, number, error)
                except Dropped as verdict:
                    self.dropped.add(verdict.reason, self._place)
                else:
                    for record in records:
                        yield part.name, number, record
        if not self.rows:
            raise _no_rows(self.source)


def _is_late(name: Any) -> bool:
    return name in ("chosen", "rejected") or VERDICT_WORD.search(str(name)) is not None


def _mapped_shape(mapping: ColumnMapping) -> Shape:
    reader = MappedReader(mapping)
    decide = reader.grades_decide
    return Shape("mapping", mapping.kind, reader, (), grades_decide=decide, drop_single=decide)


def _regroup(records: list[dict[str, Any]], path: CellPath, row: dict[str, Any]) -> None:
    group = plain(path.get(row))
    if group is None:
        raise RowError("no split group", column=path.text, expected="a value in the group column", got="null")
    for record in records:
        record["split_group"] = group


def _first_rows(part: Part) -> list[dict[str, Any]]:
    """Return the first sound rows of a file, by which its layout is told; none if it has no rows at all."""
    first = list(islice(part.rows(), SAMPLE_ROWS))
    sound = [row for _, row in first if not isinstance(row, RowError)]
    if first and not sound:
        problems = Problems()
        for number, row in first:
            if isinstance(row, RowError):
                problems.add(part.name, number, row)
        raise problems.error()
    return sound


def _no_rows(source: Source) -> DataError:
    return DataError(
        "there are no rows",
        where=source.name,
        expected="at least one row",
        got="an empty file or list",
        remedy="check the path, and what wrote the file",
    )
