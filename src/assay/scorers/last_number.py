r"""The last number of a text, as people and models write numbers: signs, groups of digits, fractions, LaTeX.

Where nothing but a number is compared this is enough; it works nothing out (of ``2^3`` the last number is 3). For
algebra give a reward function of your own (`assay.scorers.verifiers`), such as one around the package math-verify.
"""

from __future__ import annotations

import math
import re

#: Without a sign: commas part groups of three digits and nothing else.
_PLAIN = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
#: A sign stands before a number, and not between two: 5-3 ends in 3.
_SIGN = r"(?<![\w.)\]}])[-+]"
_SIGNED = rf"(?:{_SIGN})?{_PLAIN}"
#: A whole number before a fraction, as in 3 1/2.
_WHOLE = r"(?:(?<![\w.,/])(\d{1,4}) *)?"
#: A fraction of two numbers; three, as in a date, are none.
_NUMBER = re.compile(rf"(?<![/.\d])({_SIGNED})\s*/\s*([-+]?{_PLAIN})(?!\s*/|[\w.]*\d)|{_SIGNED}")
_MIXED = re.compile(r"(?<![\w.,/])(\d{1,4}) +(\d{1,4}) ?/ ?(\d{1,4})(?!\s*/|[\w.]*\d)")
#: Braces are left out around single digits.
_PART = rf"(?:\{{\s*([-+]?{_PLAIN})\s*\}}|\s*(\d))"
_LATEX = re.compile(rf"{_WHOLE}\\[dt]?frac{_PART}{_PART}")
#: Minus signs of print; a short dash is one where no number ends before it.
_MINUS = re.compile("[\u2212\u2013](?=\\s*[\\d.\\\\$])")
#: What parts groups of three digits beside commas: blanks that do not break, and LaTeX's.
_GROUPS = re.compile(r"(?<=\d)(?:[\u00a0\u202f\u2009]|\\,|\\ )(?=\d{3}(?!\d))")
_MONEY = re.compile(r"((?<![\w.)\]}$])[-+])\s*\\?[$\u20ac\u00a3\u00a5]\s*(?=[\d.])")
#: A sign apart from its number, where nothing that it could be taken from stands before it; nor is it a list's dash.
_APART = re.compile(r"([=(:,\[{$<>] *)([-+]) +(?=[\d.\\])|^(\s*)([-+]) +(?=\S+\s*\Z)")


def last_number(text: str) -> float | None:
    r"""Return the last number of a text, or None where there is none, or it is not finite.

    Read are ``1,234.5``, ``-3``, ``= - 3``, ``-$3``, ``2e-3``, ``3/4``, ``3 1/2``, ``\frac{3}{4}``, ``\tfrac34``,
    ``10{,}080`` and ``1\,000``. Percent signs are not looked at: ``50 %`` is 50.
    """
    text = _GROUPS.sub(",", _MINUS.sub("-", text.replace("{,}", ",").replace(r"\!", "")))
    text = _MIXED.sub(_mixed, _LATEX.sub(_quotient, _MONEY.sub(r"\1", _APART.sub(r"\1\2\3\4", text))))
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    above, below = found[-1].groups()
    value = _value(found[-1].group()) if above is None else _divided(_value(above), _value(below))
    return value if value is not None and math.isfinite(value) else None


def _value(written: str) -> float:
    return float(written.replace(",", ""))


def _divided(above: float, below: float) -> float | None:
    return above / below if below else None


def _quotient(match: re.Match[str]) -> str:
    """Return a LaTeX fraction, with a whole number before it, as a number; a sign before it stays where it is."""
    whole, *parts = match.groups()
    above, below = (_value(a or b) for a, b in (parts[:2], parts[2:]))
    value = _divided(above, below)
    if value is None:
        return match.group()
    return f"{float(whole or 0) + value!r} " if value >= 0 else f"{whole or ''} {value!r} "


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = (int(part) for part in match.groups())
    return repr(whole + above / below) if above < below else match.group()
