"""Questions of several turns, as MT-bench asks them (Zheng et al. 2023): a file of JSON Lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import DataError

#: Sampling temperatures of MT-bench's categories; those that have one right answer are answered greedily.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
_SHAPE = '{"question_id": 81, "category": "writing", "turns": ["first", "second"], "reference": ["…", "…"]}'


@dataclass(frozen=True)
class Question:
    """What is asked in turn.

    Attributes
    ----------
    key
        Its name, unique in a file.
    category
        ``""`` where the file names none.
    turns
        What the user says, in order; at least one.
    reference
        A right answer to each turn; ``()`` where there is none.
    temperature
        At which it is answered: the file's own, or that of its category; None: as the user says.
    """

    key: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    temperature: float | None = None


def read_questions(path: str | Path) -> list[Question]:
    """Read questions from JSON Lines (``question_id``, ``category``, ``turns``, ``reference``, ``temperature``).

    ``turns`` is needed, the rest is not.

    Raises
    ------
    DataError
        If the file cannot be read, a line has another shape, two questions have one name, or there is none.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the questions cannot be read", where=str(path), got=str(error)[:120]) from error
    found: dict[str, Question] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        one = _question(line, f"{path}:{number}", number)
        if one.key in found:
            raise DataError("two questions have one name", where=f"{path}:{number}", got=one.key)
        found[one.key] = one
    if not found:
        raise DataError("there are no questions", where=str(path), expected=_SHAPE)
    return list(found.values())


def _question(line: str, where: str, number: int) -> Question:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError("a question is no JSON", where=where, expected=_SHAPE, got=line[:80]) from error
    turns = row.get("turns") if isinstance(row, dict) else None
    if not _texts(turns) or not turns:
        raise DataError("a question has no turns", where=where, expected=_SHAPE, got=line[:80])
    reference = row.get("reference") or []
    if not _texts(reference) or len(reference) not in (0, len(turns)):
        raise DataError(
            "references do not fit the turns",
            where=where,
            expected=f"none, or a list of {len(turns)} texts",
            got=str(reference)[:80],
        )
    category = str(row.get("category") or "")
    own = row.get("temperature")
    if own is not None and not (isinstance(own, (int, float)) and not isinstance(own, bool) and own >= 0):
        raise DataError("a temperature is out of range", where=where, expected="0 or more", got=str(own)[:40])
    return Question(
        str(row.get("question_id", number)),
        category,
        tuple(turns),
        tuple(reference),
        float(own) if own is not None else TEMPERATURES.get(category.lower()),
    )


def _texts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(text, str) and text.strip() for text in given)
