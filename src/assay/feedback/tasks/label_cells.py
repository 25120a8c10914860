"""Labels as sets write them: by name in any case, under another name, by number from 0 or 1, or as a grade."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from assay.feedback.tasks.task import plain

#: Why a cell is no label.
NONE, OUTSIDE, OTHER = "it has no label", "the grade is out of range", "no label of the task"
#: How the Hub's sets mark rows whose label is kept back.
_KEPT_BACK = -1


def label_of(
    choices: tuple[str, ...],
    cell: Any,
    *,
    first: int | None = 0,
    spellings: Mapping[str, str] | None = None,
) -> str | None:
    """Return the choice that a cell names, or None.

    A name counts before a number: whole, then in other case and blanks, then by another name.

    Parameters
    ----------
    choices
        Labels that there are.
    cell
        A name, or a number (``1``, ``1.0`` or ``"1"``).
    first
        Number of the first choice; None: numbers name nothing.
    spellings
        Other name (as of `plain`) -> label.
    """
    if isinstance(cell, str):
        if cell in choices:
            return cell
        written = plain(cell)
        found = [choice for choice in choices if plain(choice) == written]
        other = (spellings or {}).get(written)
        if found or other in choices:
            return found[0] if found else other
    number = None if first is None else _whole(cell)
    if number is None or first is None or not 0 <= number - first < len(choices):
        return None
    return choices[number - first]


def why_not(cell: Any) -> str:
    """Return why a cell that names no label is none: there is nothing in it, or something else."""
    empty = cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell
    return NONE if empty or _whole(cell) == _KEPT_BACK else OTHER


def nearest(choices: tuple[str, ...], cell: Any, grade: Callable[[Any], float]) -> tuple[str | None, str]:
    """Return the nearest label of an ordinal task, halves upwards, or None; and why there is none.

    A grade outside the task's own range is none: some sets mark what is not labelled by a number like -1.
    """
    if isinstance(cell, bool):
        return None, OTHER
    try:
        value = grade(cell)
    except (TypeError, ValueError, KeyError, IndexError):
        return None, why_not(cell)
    if math.isnan(value):
        return None, NONE
    if not float(choices[0]) <= value <= float(choices[-1]):
        return None, OUTSIDE
    return min(choices, key=lambda label: (abs(float(label) - value), -float(label))), ""


def whole_numbers(cells: Iterable[Any]) -> set[int]:
    """Return the whole numbers among some cells, but for that which stands for no label."""
    return {number for cell in cells if (number := _whole(cell)) is not None} - {_KEPT_BACK}


def first_number(count: int, numbers: set[int]) -> int | None:
    """Return the number of the first label: 0 where that is among them, 1 where they end with the number of labels.

    None: they tell neither.
    """
    return 0 if 0 in numbers else 1 if numbers and max(numbers) == count else None


def _whole(cell: Any) -> int | None:
    """Return the whole number that a cell is, or None."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str):
        try:
            cell = float(cell)
        except ValueError:
            return None
    if isinstance(cell, (int, float)) and math.isfinite(cell) and cell == int(cell):
        return int(cell)
    return None
