r"""The last number of a text, as people and models write numbers: signs, groups of digits, money, fractions, LaTeX.

Where nothing but a number is compared this is enough; it works nothing out (of ``2^3`` the last number is 3). For
algebra give a reward function of your own (`assay.scorers.verifiers`), such as one around the package math-verify.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import deque

#: Without a sign: commas part groups of three digits and nothing else; a point begins no number behind another point.
_PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+)(?:[eE][-+]?\d+)?"
#: Braces are left out around single digits.
_PART = rf"(?:\{{\s*([-+]?{_PLAIN})\s*\}}|\s*(\d))"
#: Three numbers with strokes, as in a date, are no fraction.
_NO_DATE = r"(?!\s*/|[\w.]*\d)"
_NUMBER = re.compile(
    rf"(?:(?P<whole>\d[\d,]*) *)?\\[cdt]?frac{_PART}{_PART}"
    rf"|(?P<units>(?<![/.\d])\d[\d,]*) +(?P<above>\d+) ?/ ?(?P<below>\d+){_NO_DATE}"
    rf"|(?<![/.\d])(?P<over>{_PLAIN})\s*/\s*(?P<under>[-+]?{_PLAIN}){_NO_DATE}"
    rf"|{_PLAIN}"
)
#: What parts groups of three digits beside commas: blanks that do not break, LaTeX's blanks, an apostrophe.
_GROUPS = re.compile(r"(?<=\d)(?:[\u00a0\u202f\u2009~'\u2019]|\\[,; ])(?=\d{3}(?!\d))")
#: Minus signs of print: the true one, and the short dash, which parts two numbers as a hyphen does.
_MINUS = str.maketrans(dict.fromkeys("\u2212\u2013", "-"))
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_MONEY = re.compile(r"\\?[$\u20ac\u00a3\u00a5]\Z")
#: What a sign apart from its number may stand behind; behind all else it parts two numbers, or it is a list's dash.
_OPENS = frozenset("=(:,[{<")


def last_number(text: str) -> float | None:
    r"""Return the last number of a text, or None where there is none, or it is not finite.

    Read are ``1,234.5``, ``-3``, ``= - 3``, ``-$3``, ``2e-3``, ``3/4``, ``3 1/2``, ``\frac{3}{4}``, ``\tfrac34``,
    ``10{,}080`` and ``1\,000``. Percent signs are not looked at: ``50 %`` is 50.
    """
    text = _VULGAR.sub(_as_fraction, text.translate(_MINUS).replace("{,}", ",").replace(r"\!", ""))
    text = _GROUPS.sub(",", text)
    last = deque(_NUMBER.finditer(text), maxlen=1)
    if not last:
        return None
    found = last[0]
    before = text[: found.start()]
    value = _value(found, before)
    if value is None or not math.isfinite(value):
        return None
    return -value if _is_negative(before, text[found.end() :]) else value


def _as_fraction(sign: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", sign.group()).replace("\u2044", "/")


def _value(found: re.Match[str], before: str) -> float | None:
    """Return what was found, without the sign before it."""
    parts = [part for part in found.groups()[1:5] if part is not None]
    if parts:
        value = _divided(*parts)
        # digits of a name or an index are no whole number; those behind a command of LaTeX are
        named = re.search(r"[\w.,/^]\Z", before) and not re.search(r"\\[A-Za-z]+\Z", before)
        whole = None if named or value is None or value < 0 else found["whole"]
        return value if whole is None or value is None else _number(whole) + value
    if found["units"] is not None:
        value = _divided(found["above"], found["below"])
        return value if value is None or value >= 1 else _number(found["units"]) + value
    return _number(found.group()) if found["over"] is None else _divided(found["over"], found["under"])


def _number(written: str) -> float:
    return float(written.replace(",", ""))


def _divided(above: str, below: str) -> float | None:
    return _number(above) / _number(below) if _number(below) else None


def _is_negative(before: str, behind: str) -> bool:
    """Tell whether a minus stands before a number as its sign, money in between; 5-3 ends in 3."""
    before = _MONEY.sub("", before)
    apart = before.rstrip(" ") != before
    before = before.rstrip(" ")
    if not before.endswith("-"):
        return False
    before = before[:-1]
    if not apart:
        return not re.search(r"[\w.)\]}]\$*\Z", before)
    if not before.strip():
        return not re.search(r"[^\s%)\]}$.]", behind)
    before = before.rstrip(" ")
    before = re.sub(r"(?<![\w)\]}])\$\Z", "(", before)  # what opens a formula
    return before[-1] in _OPENS
