"""Typed access to the cells of a row; every mismatch becomes a ``RowError`` that names the column."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from assay.feedback.problems import RowError

Row = Mapping[str, Any]
#: What a weight may be; sums and squares of larger ones overflow.
WEIGHT: dict[str, Any] = {"low": 0.0, "high": 1e12, "what": "a weight from 0 to 1e12"}
_TRUE, _FALSE = ("true", "yes", "good", "desirable"), ("false", "no", "bad", "undesirable")


def shown(value: Any, limit: int = 60) -> str:
    """Return a short, typed picture of a value for an error message."""
    if value is None:
        return "null"
    text = repr(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{text} ({type(value).__name__})"


def cell(row: Row, column: str) -> Any:
    """Return a cell that must exist (it may be null)."""
    try:
        return row[column]
    except KeyError:
        raise RowError(
            "a column is missing",
            column=column,
            expected=f"the column {column!r}",
            got=f"the columns {', '.join(map(str, row)) or '(none)'}",
            remedy="name the right column with a mapping, or remove the row",
        ) from None


def text(row: Row, column: str) -> str:
    """Return a cell that must hold text; the empty string is text."""
    value = cell(row, column)
    if isinstance(value, str):
        return value
    raise RowError("wrong type", column=column, expected="text", got=shown(value))


def number(
    value: Any, column: str, *, low: float = -math.inf, high: float = math.inf, what: str = "a finite number"
) -> float:
    """Return a finite number in [low, high]; numeric text (csv) counts, booleans do not."""
    result = _to_float(value)
    if result is None or not math.isfinite(result):
        raise RowError("not a usable number", column=column, expected=what, got=shown(value))
    if not low <= result <= high:
        raise RowError("a number is out of range", column=column, expected=what, got=shown(value))
    return result


def _to_float(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value) if isinstance(value, str) or hasattr(value, "__float__") else None
    except (TypeError, ValueError, OverflowError):
        return None


def optional_number(row: Row, column: str, **limits: Any) -> float | None:
    """Return a number, or None where the column is absent, null or (csv) empty text."""
    value = row.get(column)
    return None if value is None or value == "" else number(value, column, **limits)


def judgement_numbers(row: Row) -> dict[str, Any]:
    """Return what a row says about its edge: ``p`` from target, ``m`` from margin, ``w`` from weight."""
    found: dict[str, Any] = {}
    if (target := optional_number(row, "target", low=0.0, high=1.0, what="a probability in [0, 1]")) is not None:
        found["p"] = target
    if (margin := optional_number(row, "margin")) is not None:
        found["m"] = margin
    if (weight := optional_number(row, "weight", **WEIGHT)) is not None:
        found["w"] = weight
    return found


def whole(value: Any, column: str, choices: Sequence[int] | None = None) -> int:
    """Return a whole number, one of ``choices`` if given."""
    what = f"one of {', '.join(map(str, choices))}" if choices is not None else "a whole number"
    result = number(value, column, what=what)
    if result != int(result) or (choices is not None and int(result) not in choices):
        raise RowError("not a usable whole number", column=column, expected=what, got=shown(value))
    return int(result)


def flag(value: Any, column: str) -> bool:
    """Return a truth value: a boolean, 0 or 1, or a word for one (csv, named classes)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in (*_TRUE, *_FALSE):
        return word in _TRUE
    if (found := _to_float(value)) in (0.0, 1.0):
        return found == 1.0
    raise RowError("wrong type", column=column, expected="true or false", got=shown(value))


def unpack(value: Any) -> Any:
    """Return parsed JSON where a text cell holds a JSON list or object (csv, arena); anything else unchanged."""
    if isinstance(value, str) and value[:1] in "[{" and value[-1:] in "]}":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def items(row: Row, column: str) -> list[Any]:
    """Return a cell that must hold a list (or JSON text of one)."""
    value = unpack(cell(row, column))
    if isinstance(value, (list, tuple)):
        return list(value)
    raise RowError("wrong type", column=column, expected="a list", got=shown(value))


def plain(value: Any) -> str | None:
    """Return an id or a name as text; null stays None."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def truth_text(value: Any) -> str | None:
    """Return the truth that answers are compared with as text; of a list, each member is one, as JSON of texts."""
    if isinstance(value, (list, tuple)):
        value = [each if isinstance(each, str) else json.dumps(each, default=str) for each in value]
    return plain(value)


def leftover(row: Row, used: Collection[str]) -> dict[str, Any]:
    """Return the cells that a reader did not use and that are not null: they go to ``meta``."""
    return {key: value for key, value in row.items() if key not in used and value is not None}
