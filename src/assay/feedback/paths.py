"""Paths to the cells of a row, and rules on them.

A *path* names cells of a row: a column (``post``), a key within it (``info.post``), an element (``responses[0]``, from
0), or all elements (``solutions[].solution``). A name that holds dots or brackets is quoted (``"a.b"[0]``); a path that
is a column's whole name means that column. A path that begins with ``=`` is the text after it (``=gpt-4``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.feedback.fields import shown, unpack
from assay.feedback.problems import RowError

_PIECE = re.compile(r'"([^"]+)"|([^.\[\]"]+)|\[(\d*)\]|(\.)')
_RULE = re.compile(r"^(?P<path>.+?)\s*(?P<test>!=|=|\bis not null\b|\bis null\b)\s*(?P<value>.*)$")
#: A whole number as pandas writes it into a csv where others of its column are missing.
_WHOLE = re.compile(r"^[+-]?\d+\.0+$")
_ALL = -1


@dataclass(frozen=True)
class CellPath:
    """A parsed path; ``parts`` are keys, indices, or -1 for all elements."""

    text: str
    parts: tuple[str | int, ...]
    constant: str | None = None

    @classmethod
    def parse(cls, path: str) -> CellPath:
        """Parse a path.

        Raises
        ------
        ValueError
            If it does not follow the grammar.
        """
        if path.startswith("="):
            return cls(path, (), path[1:])
        parts: list[str | int] = []
        position = 0
        for match in _PIECE.finditer(path):
            if match.start() != position:
                break
            position = match.end()
            quoted, name, index, _ = match.groups()
            if index is not None:
                parts.append(int(index) if index else _ALL)
            elif quoted or name:
                parts.append(quoted or name)
        if position != len(path) or not parts or isinstance(parts[0], int):
            raise ValueError(f"{path!r} is not a path such as post, info.post, responses[0] or solutions[].text")
        return cls(path, tuple(parts))

    @property
    def column(self) -> str | None:
        """Return the column that the path starts from."""
        return None if self.constant is not None else str(self.parts[0])

    def get(self, row: Mapping[str, Any]) -> Any:
        """Return the cell, or for a path with ``[]`` the list of cells.

        Raises
        ------
        RowError
            If the row has no such cell.
        """
        if self.constant is not None:
            return self.constant
        if self.text in row:
            return row[self.text]
        return self._walk(row, 0)

    def _walk(self, value: Any, depth: int) -> Any:
        if depth == len(self.parts):
            return value
        part, value = self.parts[depth], unpack(value) if depth else value
        if value is None:
            return None
        if part == _ALL and isinstance(value, (list, tuple)):
            return [self._walk(element, depth + 1) for element in value]
        if isinstance(part, str) and isinstance(value, Mapping) and part in value:
            return self._walk(value[part], depth + 1)
        if isinstance(part, int) and part != _ALL and isinstance(value, (list, tuple)) and part < len(value):
            return self._walk(value[part], depth + 1)
        have = f"the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else shown(value)
        raise RowError("the path leads nowhere", column=self.text, expected=f"{_part_name(part)} there", got=have)


def _part_name(part: str | int) -> str:
    if isinstance(part, str):
        return f"{part!r}"
    return "a list" if part == _ALL else f"element [{part}]"


@dataclass(frozen=True)
class DropRule:
    """A rule such as ``lang != en``; null and missing are the same here."""

    text: str
    path: CellPath
    test: str
    value: str

    @classmethod
    def parse(cls, rule: str) -> DropRule:
        """Parse a rule.

        Raises
        ------
        ValueError
            If it does not follow the grammar.
        """
        match = _RULE.match(rule)
        if match is None or (match["test"].startswith("is") and match["value"]):
            raise ValueError(f"{rule!r} is not a rule such as 'lang != en', 'split = test' or 'answer is null'")
        return cls(rule, CellPath.parse(match["path"]), match["test"], match["value"])

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the row is to be dropped."""
        try:
            cell = self.path.get(row)
        except RowError:
            cell = None
        if self.test.startswith("is"):
            return (cell is None) == (self.test == "is null")
        return (key_text(cell) == key_text(self.value)) == (self.test == "=")


def key_text(value: Any) -> str:
    """Return a cell as the text that keys and rules compare with: true, false, null, 1 (also for 1.0, as text too)."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    written = str(value).strip()
    return written.partition(".")[0] if _WHOLE.match(written) else written


def path_problem(path: str) -> str | None:
    """Return what is wrong with a path, or None."""
    try:
        CellPath.parse(path)
    except ValueError as error:
        return str(error)
    return None


def rule_problem(rule: str) -> str | None:
    """Return what is wrong with a rule, or None."""
    try:
        DropRule.parse(rule)
    except ValueError as error:
        return str(error)
    return None
