"""Phrases that speak for or against a response, by theme: our own lists, which users may replace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from assay.errors import ConfigError

#: Theme -> phrases that careful answers hold. Regular expressions, matched anywhere, whatever the case.
GOOD: dict[str, tuple[str, ...]] = {
    "choices": (r"\beither\b.{1,80}\bor\b", r"\b(several|a few|many|different|various) (options|ways|kinds|types)\b"),
    "examples": (r"\bfor (example|instance)\b", r"\bsuch as\b", r"\be\.g\.", r"\bto illustrate\b"),
    "two sides": (
        r"\bon the (one|other) hand\b",
        r"\b(pros|advantages|benefits) and (cons|disadvantages|drawbacks)\b",
        r"\bhowever\b",
    ),
    "summary": (r"\bin (summary|conclusion|short)\b", r"\bto (sum up|summari[sz]e|conclude)\b", r"\boverall,"),
    "sources": (
        r"\baccording to\b",
        r"\b(studies|research|experts?|scientists) (show|shows|suggest|suggests|say|says|agree|found)\b",
    ),
    "care": (r"\bit depends\b", r"\bin (most|some|many) cases\b", r"\b(generally|typically|usually) speaking\b"),
    "steps": (r"\bfirst(ly)?,.{1,400}\b(second(ly)?|then|next)\b", r"\bstep (by step|\d)"),
}

#: Theme -> phrases of evasive or empty answers.
BAD: dict[str, tuple[str, ...]] = {
    "guessing": (r"\bI guess\b", r"\bmaybe\b", r"\bI('m| am) guessing\b"),
    "not knowing": (
        r"\bI('m| am) not (really )?sure\b",
        r"\bI (don't|do not) (really )?know\b",
        r"\bI have no idea\b",
    ),
    "not following": (
        r"\bI (don't|do not) understand\b",
        r"\bwhat do you mean\b",
        r"\bcould you (please )?(clarify|rephrase|explain what)\b",
    ),
    "asking back": (
        r"\bwhat (kind|sort|type) of .{1,60}\?",
        r"\bwhat (do|would|are) you .{1,60}\?",
        r"\b(do|would|are|have|can) you .{1,80}\?\s*$",
    ),
    "common places": (r"\bbest practices?\b", r"\bat the end of the day\b", r"\bit is what it is\b"),
}

#: Phrases by which a response declines.
REFUSALS: tuple[str, ...] = (
    r"\bI('m| am) (sorry|afraid)\b.{0,40}\b(can't|cannot|can not|unable|won't)\b",
    r"\bI (can't|cannot|can not|won't|will not|am (unable|not able) to) (help|assist|do|provide|answer|give|support)\b",
    r"\bas an? (AI|artificial intelligence|language model)\b",
    r"\bI (would|'d) (rather|prefer) not\b",
    r"\bagainst (my|the) (guidelines|policy|policies|principles)\b",
)


def themes_found(column: pa.Array, *, themes: Mapping[str, tuple[str, ...]]) -> Any:
    """Return how many themes each text touches, each counted once, int ``[N]``."""
    column = _plain(column)
    touched = (pc.match_substring_regex(column, _any_of(of), ignore_case=True) for of in themes.values())
    return sum(found.cast(pa.int64()).to_numpy() for found in touched)


def good_less_bad(column: pa.Array, *, good: Mapping[str, tuple[str, ...]], bad: Mapping[str, tuple[str, ...]]) -> Any:
    """Return themes that speak for the text, less those that speak against it, int ``[N]``."""
    return themes_found(column, themes=good) - themes_found(column, themes=bad)


def times_found(column: pa.Array, *, patterns: tuple[str, ...]) -> pa.Array:
    """Return how often one of the patterns occurs in each text, ``[N]``."""
    return pc.count_substring_regex(_plain(column), _any_of(patterns), ignore_case=True)


def _plain(column: pa.Array) -> pa.Array:
    """Write typographic apostrophes as plain ones, which patterns have."""
    return pc.replace_substring(column, "’", "'")


def _any_of(patterns: tuple[str, ...]) -> str:
    """Join patterns; ``.`` goes beyond the end of a line, as sentences do."""
    return "(?s)" + "|".join(f"(?:{pattern})" for pattern in patterns).replace("’", "'")


def read_themes(path: str | Path) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Read themes that speak for a response and against it from YAML: ``good`` and ``bad``, each theme -> patterns.

    Raises
    ------
    ConfigError
        If the file cannot be read, has another shape, or a pattern is no regular expression.
    """
    where = str(path)
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("the patterns cannot be read", where=where, got=str(error).splitlines()[0]) from error
    if not isinstance(found, dict) or not found or set(found) - {"good", "bad"}:
        raise ConfigError(
            "patterns have two sides",
            where=where,
            expected="good: {theme: [pattern, …], …} and bad: {…}",
            got=str(sorted(found)) if isinstance(found, dict) else type(found).__name__,
        )
    good, bad = (_side(found.get(side) or {}, f"{where}: {side}") for side in ("good", "bad"))
    return good, bad


def _side(given: Any, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict) or not all(
        isinstance(own, list) and own and all(isinstance(each, str) and each for each in own) for own in given.values()
    ):
        raise ConfigError("themes hold patterns", where=where, expected="{theme: [pattern, …], …}", got=str(given)[:80])
    for theme, own in given.items():
        for pattern in own:
            try:
                re.compile(pattern)
                pc.match_substring_regex(pa.array([""]), pattern)
            except (re.error, pa.ArrowInvalid) as error:
                raise ConfigError(
                    f"this is no regular expression: {error}", where=f"{where}: {theme}", got=pattern
                ) from error
    return {str(theme): tuple(own) for theme, own in given.items()}
