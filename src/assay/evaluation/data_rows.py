"""The data check of a run as the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from assay.feedback.check_report import CheckReport


@dataclass(frozen=True)
class DataRow:
    """One line of the data check: what was counted, in the training and the test share, and what it means.

    ``train`` and ``test`` are numbers or text, None where it does not apply; ``level`` colours the note.
    """

    label: str
    train: float | int | str | None = None
    test: float | int | str | None = None
    note: str = ""
    level: Literal["ok", "warning", "error"] = "ok"


# label, path into the counts, whether it is a share, note
_COUNTS: tuple[tuple[str, tuple[str, ...], bool, str], ...] = (
    ("rows", ("rows",), False, ""),
    ("prompts", ("prompts",), False, ""),
    ("split groups", ("split_groups",), False, "never on both sides of a split"),
    ("responses", ("responses",), False, ""),
    ("judgements", ("judgements",), False, ""),
    ("soft judgements", ("soft_targets",), False, "a probability instead of a side"),
    ("ties", ("ties", "share"), True, "judged equally good"),
    ("longer response wins", ("longer_wins", "share"), True, "50 % would mean that length says nothing"),
    ("prompt cut to fit", ("truncation", "prompt_cut_share"), True, "too long for the model; the response stays whole"),
    ("response cut to fit", ("truncation", "response_cut_share"), True, "too long for the model by itself"),
)


def data_rows(train: CheckReport | None, test: CheckReport | None = None) -> list[DataRow]:
    """Put the counts of two data checks side by side, then every error and warning with its number."""
    rows = []
    for label, path, is_share, note in _COUNTS:
        values = [_value(report, path, is_share) for report in (train, test)]
        if any(value is not None for value in values):
            rows.append(DataRow(label, values[0], values[1], note))
    return rows + list(_findings(train, test))


def _value(report: CheckReport | None, path: tuple[str, ...], is_share: bool) -> float | int | str | None:
    found: Any = report.counts if report else None
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if found is None:
        return None
    return f"{100 * found:.1f} %" if is_share else int(found)


def _findings(train: CheckReport | None, test: CheckReport | None) -> Iterator[DataRow]:
    levels: tuple[tuple[Literal["error", "warning"], str], ...] = (("error", "errors"), ("warning", "warnings"))
    for level, attribute in levels:
        sides = [{f.name: f for f in getattr(report, attribute)} if report else {} for report in (train, test)]
        for name in dict.fromkeys([*sides[0], *sides[1]]):
            first, second = sides[0].get(name), sides[1].get(name)
            known = first or second
            counts = [f.count if f else (0 if report else None) for f, report in ((first, train), (second, test))]
            yield DataRow(name, counts[0], counts[1], known.message if known else "", level)
