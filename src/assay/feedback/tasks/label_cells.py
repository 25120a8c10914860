"""Labels as sets write them: by name in any case, under another name, by number from 0 or 1, or as a grade."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from assay.errors import DataError
from assay.feedback.tasks.task import plain

#: Why a cell is no label.
NONE, OUTSIDE, OTHER = "it has no label", "the grade is out of range", "no label of the task"
#: How the Hub's sets mark rows whose label is kept back.
_KEPT_BACK = -1
#: Text for no label; a stroke is where annotators of entailment did not agree.
_EMPTY = ("", "-")


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
    empty = cell is None or (isinstance(cell, str) and cell.strip() in _EMPTY) or cell != cell
    return NONE if empty or _whole(cell) == _KEPT_BACK else OTHER


def nearest(choices: tuple[str, ...], cell: Any, grade: Callable[[Any], float]) -> tuple[str | None, str]:
    """Return the nearest label of an ordinal task, halves upwards, or None; and why there is none.

    A grade outside the task's own range is none: some sets mark what is not labelled by a number like -1.
    """
    if isinstance(cell, bool):
        return None, OTHER
    try:
        value = grade(cell)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        return None, why_not(cell)
    if math.isnan(value):
        return None, NONE
    if not float(choices[0]) <= value <= float(choices[-1]):
        return None, OUTSIDE
    return min(choices, key=lambda label: (abs(float(label) - value), -float(label))), ""


def whole_numbers(cells: Iterable[Any]) -> set[int]:
    """Return the whole numbers among some cells, but for that which stands for no label."""
    return {number for cell in cells if (number := _whole(cell)) is not None} - {_KEPT_BACK}


def first_number(count: int, numbers: set[int], where: str, *, known: int | None = None) -> int | None:
    """Return the number of the first label: 0 where that is among them, 1 where the number of labels is.

    Parameters
    ----------
    count
        How many labels there are.
    numbers
        Of labels, as they come.
    where
        For messages.
    known
        Number of the first label, where it is known.

    Returns
    -------
    int or None
        None: they tell neither.

    Raises
    ------
    DataError
        If they count neither from 0 nor from 1: read all the same, each would name another label than it means.
    """
    starts = (0, 1) if known is None else (known,)
    if not any(all(start <= number < start + count for number in numbers) for start in starts):
        shown = [str(number)[:12] for number in sorted(numbers)]
        raise DataError(
            f"these are not the numbers of {count} labels",
            where=where,
            expected=" or ".join(f"numbers from {start} to {start + count - 1}" for start in starts)
            + ("" if known is None else ", as in the other part of the set"),
            got=", ".join([*shown[:4], "…", *shown[-4:]] if len(shown) > 9 else shown),
            remedy="write labels by their names, or leave out the rows that have none (empty or -1)",
        )
    if known is not None:
        return known
    return 0 if 0 in numbers else 1 if count in numbers else None


def numbered_answers(answers: Iterable[tuple[Any, int]]) -> list[tuple[int, int]]:
    """Return the numbers among cells of answers, each with how many choices it has; a text is never a number."""
    told = ((None if isinstance(cell, str) else _whole(cell), many) for cell, many in answers)
    return [(number, many) for number, many in told if number is not None and number != _KEPT_BACK]


def first_choice(answers: Sequence[tuple[int, int]], where: str, *, known: int | None = None) -> int | None:
    """Return the number of the first choice, where answers are numbers among choices of their own.

    Parameters
    ----------
    answers
        Of `numbered_answers`.
    where
        For messages.
    known
        Number of the first choice, where it is known.

    Returns
    -------
    int or None
        None: they tell neither.

    Raises
    ------
    DataError
        If they count neither from 0 nor from 1: read all the same, each would name another choice than it means.
    """
    starts = (0, 1) if known is None else (known,)
    fits = [start for start in starts if all(start <= number < start + many for number, many in answers)]
    if not fits:
        # what no start allows is more telling than what one of them does not
        number, many = min(answers, key=lambda own: sum(start <= own[0] < start + own[1] for start in starts))
        raise DataError(
            "numbers of answers count neither from 0 nor from 1"
            if known is None
            else f"numbers of answers do not count from {known}, as in the other part of the set",
            where=where,
            expected=" or ".join(f"{start} for the first choice in all rows" for start in starts),
            got=f"{number} among {many} choices" + ("" if known is not None else ", beside the others"),
            remedy="write answers as texts, or leave out the rows that have none (empty or -1)",
        )
    return fits[0] if len(fits) == 1 else None


def _whole(cell: Any) -> int | None:
    """Return the whole number that a cell is, or None."""
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str):
        try:
            cell = float(cell)
        except ValueError:
            return None
    if isinstance(cell, int):
        return cell
    return int(cell) if isinstance(cell, float) and math.isfinite(cell) and cell == int(cell) else None
