"""Examples of a task from files, folders, the Hub or rows in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from assay.errors import DataError
from assay.feedback.problems import RowError
from assay.feedback.sources import open_source
from assay.feedback.tasks.known import Columns, Known
from assay.feedback.tasks.label_cells import (
    first_choice,
    first_number,
    label_of,
    nearest,
    numbered_answers,
    whole_numbers,
    why_not,
)
from assay.feedback.tasks.task import Example, as_rationale, plain

_SHOWN = 5


@dataclass
class TaskReport:
    """What reading did.

    Attributes
    ----------
    rows, examples
        How many there were, and what they became.
    explained
        Examples with people's rationales.
    dropped
        Reason -> rows.
    places
        Reason -> the first of them.
    found
        Reason -> the first cells that are no label, of those that were left out for it.
    notes
        What else is to be known.
    first
        Number of the first label or choice, where numbers told it; None: they did not, or were none.
    """

    rows: int = 0
    examples: int = 0
    explained: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    first: int | None = None

    def drop(self, reason: str, place: str, cell: Any = None) -> None:
        """Count a row that is left out."""
        self.dropped[reason] += 1
        shown = [(self.places, place)] + ([] if cell is None else [(self.found, repr(cell)[:40])])
        for kept, what in shown:
            own = kept.setdefault(reason, [])
            if len(own) < _SHOWN and what not in own:
                own.append(what)

    def lines(self) -> list[str]:
        """Return it in words."""
        told = [f"{self.examples:,} examples from {self.rows:,} rows, {self.explained:,} of them with rationales"]
        for reason, count in self.dropped.items():
            places = ", ".join(self.places[reason]) + (", …" if count > _SHOWN else "")
            cells = f"; found {', '.join(self.found[reason])}" if reason in self.found else ""
            told.append(f"  left out {count:,}: {reason} ({places}){cells}")
        return told + [f"  {note}" for note in self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, for files."""
        kept = {"rows": self.rows, "examples": self.examples, "explained": self.explained}
        return kept | {"left_out": dict(self.dropped), "notes": self.notes}


@dataclass(frozen=True)
class _Reading:
    """How rows of one layout become examples."""

    known: Known
    columns: Columns
    first: int
    report: TaskReport


def read_examples(
    known: Known,
    source: str | Path | Dataset | Iterable[dict[str, Any]],
    split: str | None = None,
    *,
    first: int | None = None,
) -> tuple[list[Example], TaskReport]:
    """Read a task's examples; rows that are none are left out and counted.

    Labels are read as of `assay.feedback.tasks.label_cells`. Rationales are kept as of `as_rationale`.

    Parameters
    ----------
    known
        See `assay.feedback.tasks.known.TASKS`.
    source, split
        As of `assay.feedback.read`.
    first
        Number of the first label, as another part of the same set shows it; None: as these rows show it.

    Raises
    ------
    DataError
        If no layout of the task fits, or no row is an example.
    """
    report, rows = TaskReport(), list[tuple[str, dict[str, Any]]]()
    opened = open_source(source, split)
    for part in opened.parts:
        for number, row in part.rows():
            report.rows += 1
            place = f"{part.name}, row {number}"
            if isinstance(row, RowError):
                report.drop(f"not to be read: {row.problem}", place, row.got)
            else:
                rows.append((place, row))
    found = _examples(known, rows, report, opened.name, first) if rows else []
    report.examples, report.explained = len(found), sum(bool(one.rationales) for one in found)
    if not found:
        expected = f"rows of {known.task.name}"
        raise DataError(
            "there are no examples",
            where=opened.name,
            expected=f"{expected}; labels {', '.join(known.task.labels)}" if known.task.labels else expected,
            got="; ".join(line.strip() for line in report.lines()[1:]) or "no rows",
        )
    return found, report


def _examples(
    known: Known, rows: list[tuple[str, dict[str, Any]]], report: TaskReport, name: str, first: int | None
) -> list[Example]:
    columns = _layout(known, rows[0][1], rows[0][0])
    # how labels are numbered shows in all of them together
    cells = [row.get(columns.label) for _, row in rows]
    if columns.choices is not None:
        given = [_given(columns, row) for _, row in rows]
        told = numbered_answers((cell, len(own)) for cell, own in zip(cells, given, strict=True) if own)
        report.first = first_choice(told, name, known=first) if told else first
        if told and report.first is None:
            report.notes.append("answers are numbers that fit counting from 0 as well as from 1: read as from 0")
        elif report.first:
            report.notes.append("answers are numbered from 1")
        first = report.first
    elif known.task.kind == "classes":
        count, numbers = len(known.task.labels), whole_numbers(cells)
        report.first = first_number(count, numbers, name, known=first) if numbers else first
        if numbers and report.first is None:
            report.notes.append(f"labels are numbers, and neither 0 nor {count} is among them: read as counted from 0")
        elif report.first:
            report.notes.append(f"labels are numbered from 1: {(columns.numbered or known.task.labels)[0]} is 1")
        first = report.first
    reading, found = _Reading(known, columns, first or 0, report), []
    for place, row in rows:
        made = _example(reading, row, place)
        found += [] if made is None else [made]
    return found


def _layout(known: Known, row: dict[str, Any], place: str) -> Columns:
    for columns in known.layouts:
        if set(columns.needed) <= row.keys():
            return columns
    raise DataError(
        f"this is no layout of {known.task.name}",
        where=place,
        expected=" or ".join(", ".join(own.needed) for own in known.layouts),
        got=", ".join(map(str, row)),
    )


def _example(reading: _Reading, row: dict[str, Any], place: str) -> Example | None:
    """Return an example; None, and it is counted why, if the row is none."""
    columns, report, cell = reading.columns, reading.report, row.get(reading.columns.label)
    texts = {name: row.get(column) for name, column in columns.texts.items()}
    if not all(isinstance(text, str) and text.strip() for text in texts.values()):
        report.drop("a text is missing", place)
        return None
    if not all(_writable(str(text)) for text in texts.values()):
        report.drop("a text has characters that UTF-8 cannot write", place)
        return None
    choices = _choices(reading, row)
    if isinstance(choices, str):
        report.drop(choices, place)
        return None
    if columns.choices is not None:
        label, reason = _chosen(_given(columns, row) or [], choices, cell, reading.first), why_not(cell)
    elif columns.grade is not None:
        label, reason = nearest(choices, cell, columns.grade)
    else:
        numbered = columns.numbered or choices
        label = label_of(numbered, cell, first=reading.first, spellings=reading.known.spellings)
        reason = why_not(cell)
    if label is None:
        report.drop(reason, place, cell)
        return None
    written = [row.get(column) for column in columns.rationales]
    flat = [one for each in written for one in (each if isinstance(each, (list, tuple)) else [each])]
    worded = [one for one in flat if isinstance(one, str) and _writable(one)]
    kept = tuple(dict.fromkeys(own for one in worded if (own := as_rationale(one))))
    group = row.get(columns.group) if columns.group else next(iter(texts.values()))
    if not _writable(str(group)):
        report.drop("its group has characters that UTF-8 cannot write", place)
        return None
    part = row.get("split")
    return Example(
        {name: str(text).strip() for name, text in texts.items()},
        label,
        choices,
        " ".join(str(group).lower().split()),
        {label: kept} if kept else {},
        part if isinstance(part, str) else None,
    )


def _choices(reading: _Reading, row: dict[str, Any]) -> tuple[str, ...] | str:
    """Return the labels that there are for a row, or why it has none."""
    if reading.columns.choices is None:
        return reading.known.task.labels
    given = _given(reading.columns, row)
    if given is None or not all(map(_writable, given)):
        return "no list of choices"
    choices = _once(given)
    return choices if len(choices) >= 2 else "one choice alone"


def _given(columns: Columns, row: dict[str, Any]) -> list[str] | None:
    """Return the choices as the row has them, what is empty as an empty text; None: they are no list of texts."""
    if isinstance(columns.choices, str):
        cells = row.get(columns.choices)
    else:
        cells = [row.get(column) for column in columns.choices or ()]
    if not isinstance(cells, (list, tuple)) or not all(cell is None or isinstance(cell, str) for cell in cells):
        return None
    return [cell or "" for cell in cells]


def _chosen(given: Sequence[str], choices: tuple[str, ...], cell: Any, first: int) -> str | None:
    """Return the choice that a cell names; a number counts those of the row, and a text is never a number."""
    if isinstance(cell, str):
        return label_of(choices, cell, first=None)
    named = label_of(tuple(given), cell, first=first)
    return None if named is None else label_of(choices, named, first=None)


def _once(given: Sequence[str]) -> tuple[str, ...]:
    """Return each choice once and in one line, as it is spelled first: the answer's own spelling would tell it."""
    kept = {plain(choice): " ".join(choice.split()) for choice in reversed(given) if plain(choice)}
    return tuple(kept[own] for own in dict.fromkeys(map(plain, given)) if own)


def _writable(text: str) -> bool:
    """Tell whether UTF-8 can write a text: half a character, as JSON may hold it, it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
