"""Signs that a text was damaged on its way: wrong code page, lost characters, control characters, HTML entities."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[0-9a-fA-F]{2,5});")
# UTF-8 read as Latin-1 or Windows-1252: a lead byte as a letter, followed by what a continuation byte becomes there.
_CONTINUATION = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(rf"[ÂÃÐÑÎ][{_CONTINUATION}]|â[€\u0080-\u0084™œž][{_CONTINUATION}]|ð[Ÿ\u009f][{_CONTINUATION}]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

KINDS = ("mojibake", "replacement character", "lone surrogate", "control character", "HTML entity")


def damage(text: str) -> list[str]:
    """Return the kinds of damage that a text shows, names from ``KINDS``; an empty list for a clean text."""
    found = []
    if not text.isascii():
        if _MOJIBAKE.search(text):
            found.append("mojibake")
        if "\ufffd" in text:
            found.append("replacement character")
        if _SURROGATE.search(text):
            found.append("lone surrogate")
    if _CONTROL.search(text):
        found.append("control character")
    if "&" in text and _ENTITY.search(text):
        found.append("HTML entity")
    return found
