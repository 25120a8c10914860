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
from assay.feedback.tasks.task import Example, Task, plain

_SHOWN = 5


@dataclass
class TaskReport:
    """What reading did.

    Attributes
    ----------
    rows, examples
        How many there were, and what they became.
    dropped
        Reason -> rows.
    places
        Reason -> the first of them.
    """

    rows: int = 0
    examples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, place: str) -> None:
        """Count a row that is left out."""
        self.dropped[reason] += 1
        if len(self.places.setdefault(reason, [])) < _SHOWN:
            self.places[reason].append(place)

    def lines(self) -> list[str]:
        """Return it in words."""
        told = [f"{self.examples:,} examples from {self.rows:,} rows"]
        return told + [
            f"  left out {count:,}: {reason} ({', '.join(self.places[reason])}{', …' if count > _SHOWN else ''})"
            for reason, count in self.dropped.items()
        ]


def read_examples(
    known: Known, source: str | Path | Dataset | Iterable[dict[str, Any]], split: str | None = None
) -> tuple[list[Example], TaskReport]:
    """Read a task's examples; rows that are none are left out and counted.

    Parameters
    ----------
    known
        See `assay.feedback.tasks.known.TASKS`.
    source, split
        As of `assay.feedback.read`.

    Raises
    ------
    DataError
        If no layout of the task fits, or no row is an example.
    """
    found, report = [], TaskReport()
    opened = open_source(source, split)
    columns: Columns | None = None
    for part in opened.parts:
        for number, row in part.rows():
            report.rows += 1
            place = f"{part.name}, row {number}"
            if isinstance(row, RowError):
                report.drop("not to be read", place)
                continue
            columns = columns or _layout(known, row, place)
            made = _example(known.task, columns, row)
            if isinstance(made, str):
                report.drop(made, place)
            else:
                found.append(made)
    report.examples = len(found)
    if not found:
        raise DataError(
            "there are no examples",
            where=opened.name,
            expected=f"rows of {known.task.name}",
            got="; ".join(report.lines()[1:]) or "no rows",
        )
    return found, report


def _layout(known: Known, row: dict[str, Any], place: str) -> Columns:
    for columns in known.layouts:
        wanted = {*columns.texts.values(), columns.label, *([columns.choices] if columns.choices else [])}
        if wanted <= row.keys():
            return columns
    expected = " or ".join(
        ", ".join(dict.fromkeys([*own.texts.values(), own.label, *([own.choices] if own.choices else [])]))
        for own in known.layouts
    )
    raise DataError(
        f"this is no layout of {known.task.name}", where=place, expected=expected, got=", ".join(map(str, row))
    )


def _example(task: Task, columns: Columns, row: dict[str, Any]) -> Example | str:
    """Return an example, or why the row is none."""
    texts = {name: row.get(column) for name, column in columns.texts.items()}
    if not all(isinstance(text, str) and text.strip() for text in texts.values()):
        return "a text is missing"
    choices = task.labels
    if columns.choices is not None:
        given = row.get(columns.choices)
        if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) for each in given):
            return "no list of choices"
        choices = _once(given, row.get(columns.label))
        if len(choices) < 2:
            return "one choice alone"
    label = _label(choices, columns, row.get(columns.label))
    if label is None:
        return "no label of the task"
    written = [row.get(column) for column in columns.rationales]
    flat = [one for each in written for one in (each if isinstance(each, (list, tuple)) else [each])]
    kept = tuple(dict.fromkeys(one.strip() for one in flat if isinstance(one, str) and one.strip()))
    group = row.get(columns.group) if columns.group else next(iter(texts.values()))
    part = row.get("split")
    return Example(
        {name: str(text).strip() for name, text in texts.items()},
        label,
        choices,
        " ".join(str(group).lower().split()),
        {label: kept} if kept else {},
        part if isinstance(part, str) else None,
    )


def _once(given: Sequence[str], label: Any) -> tuple[str, ...]:
    """Return each choice once, in the spelling of the right label where that is among them."""
    kept = {plain(choice): choice for choice in reversed(given) if plain(choice)}
    if isinstance(label, str) and plain(label) in kept:
        kept[plain(label)] = label
    return tuple(kept[own] for own in dict.fromkeys(map(plain, given)) if own)


def _label(choices: tuple[str, ...], columns: Columns, cell: Any) -> str | None:
    """Return a label by its name, its number, or as the nearest of an ordinal task's, halves upwards."""
    if columns.grade is not None:
        try:
            value = columns.grade(cell)
        except (TypeError, ValueError, KeyError):
            return None
        if value != value:
            return None
        return min(choices, key=lambda label: (abs(float(label) - value), -float(label)))
    if isinstance(cell, str):
        return cell if cell in choices else None
    if isinstance(cell, int) and not isinstance(cell, bool) and 0 <= cell < len(choices):
        return choices[cell]
    return None
