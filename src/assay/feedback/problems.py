"""What can be wrong with one row, and how such troubles are gathered into one message."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from assay.errors import DataError

SHOWN_PLACES = 5


class RowError(Exception):
    """Raised inside a reader when a row breaks its layout; the stream goes on with the next row."""

    def __init__(
        self,
        problem: str,
        *,
        column: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.column = problem, column
        self.expected, self.got, self.remedy = expected, got, remedy

    def place(self, file: str, row: int) -> str:
        """Return ``file:row:column`` (without a column where the whole row is at fault)."""
        return f"{file}:{row}:{self.column}" if self.column else f"{file}:{row}"


class Dropped(Exception):
    """Raised inside a reader when a sound row carries no usable judgement; ``reason`` is what gets counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Problems:
    """Rows that could not be read: all counted, the first ``keep`` remembered with their place."""

    keep: int = SHOWN_PLACES
    count: int = 0
    first: list[tuple[str, RowError]] = field(default_factory=list)

    def add(self, file: str, row: int, error: RowError) -> None:
        """Count one bad row."""
        self.count += 1
        if len(self.first) < self.keep:
            self.first.append((error.place(file, row), error))

    def lines(self) -> list[str]:
        """Return one line per remembered place."""
        return [f"{place}: {describe(error)}" for place, error in self.first]

    def error(self) -> DataError:
        """Build the one message: the first trouble in full, the next places by name, and how many there are."""
        place, worst = self.first[0]
        problem, remedy = worst.problem, worst.remedy or "mend or remove this row"
        if self.count > 1:
            problem += f" (the first of {self.count} rows that cannot be read)"
            left = self.count - len(self.first)
            others = [*self.lines()[1:], *([f"and {left} more"] if left else [])]
            remedy = (worst.remedy or "mend or remove these rows") + "".join(f"\n  also:     {line}" for line in others)
        return DataError(problem, where=place, expected=worst.expected, got=worst.got, remedy=remedy)


def describe(error: RowError) -> str:
    """Return problem, expected and got on one line."""
    text = error.problem
    text += f"; expected {error.expected}" if error.expected else ""
    return text + (f", got {error.got}" if error.got else "")


@dataclass
class Tally:
    """Named counts, each with the first place where it happened."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, place: str = "", times: int = 1) -> None:
        """Count ``times`` occurrences of ``name``."""
        if times:
            self.counts[name] += times
            if place:
                self.places.setdefault(name, place)
