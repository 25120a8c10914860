"""A classification task as writing: what is asked, how an answer looks, and which label a text gives."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

from assay.errors import ConfigError

#: How the last line of an answer begins.
MARK = "Answer:"
#: The same as models write it that were not taught it: in bold, quoted, with another colon.
_MARKED = re.compile(r"[\s*_#>`\"'-]*answer[\s*_`\"']*[:\uff1a](.*)", re.I)
#: What may stand around a label.
_AROUND = " \t*_`\"'\u201c\u201d\u2018\u2019\u00ab\u00bb()[]{}.,;!\u3002"

#: ``classes``: the same labels for all examples; ``ordinal``: classes that are numbers, in order; ``choices``: every
#: example has its own.
TaskKind = Literal["classes", "ordinal", "choices"]

#: Why a text gives no label.
Unread = Literal["no last line", "unknown label", "two labels"]


@dataclass(frozen=True)
class Example:
    """One thing to be judged.

    Attributes
    ----------
    texts
        Name -> text.
    label
        The right one.
    choices
        Labels that there are.
    group
        Examples of one group are never on both sides of a division.
    rationales
        Label -> what people wrote for it; most sets explain the right label only.
    part
        Side that the set's makers gave it; None: none.
    """

    texts: dict[str, str]
    label: str
    choices: tuple[str, ...]
    group: str
    rationales: dict[str, tuple[str, ...]] = field(default_factory=dict)
    part: str | None = None


@dataclass(frozen=True)
class Answer:
    """What was read from a text.

    Attributes
    ----------
    label
        One of the choices; None: none was given.
    rationale
        What stands before the last line.
    unread
        Why there is no label; None: there is one.
    """

    label: str | None
    rationale: str
    unread: Unread | None = None


@dataclass(frozen=True)
class Task:
    """Texts, labels and how one is asked for the other.

    Attributes
    ----------
    name
        For files and reports.
    templates
        Ways to ask, the first the usual one: text with the names of the example's texts in braces, and ``{labels}``.
    labels
        Of all examples; empty with ``choices``. Those of ordinal tasks are numbers, rising.
    kind
        See `TaskKind`.
    symmetric
        Whether texts may change places: examples with a text in common are then one group.

    Raises
    ------
    ConfigError
        If labels cannot be told apart when written, are no rising numbers, or a template is none.
    """

    name: str
    templates: tuple[str, ...]
    labels: tuple[str, ...] = ()
    kind: TaskKind = "classes"
    symmetric: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "choices") != (not self.labels):
            raise ConfigError("a task has labels, or every example has its own choices", where=self.name)
        if self.labels:
            check_choices(self.labels, self.name)
        if self.kind == "ordinal":
            numbers = [_number(label) for label in self.labels]
            if None in numbers or numbers != sorted(set(numbers)):  # type: ignore[type-var]
                raise ConfigError(
                    "labels of an ordinal task are rising numbers", where=self.name, got=", ".join(self.labels)
                )
        if not self.templates:
            raise ConfigError("a task needs a template", where=self.name)
        for number, template in enumerate(self.templates):
            _check_template(template, f"{self.name}, template {number + 1}")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the texts that templates write."""
        named = [name for template in self.templates for _, name, _, _ in string.Formatter().parse(template) if name]
        return tuple(dict.fromkeys(name for name in named if name != "labels"))

    def ask(self, example: Example, template: int = 0) -> str:
        """Write the prompt of an example.

        Raises
        ------
        ConfigError
            If a template names a text that the example has not.
        """
        missing = [name for name in self.fields if name not in example.texts]
        if missing:
            raise ConfigError(
                "a template names a text that is not there",
                where=f"{self.name}, template {template + 1}",
                expected=", ".join(example.texts),
                got=", ".join(missing),
            )
        return self.templates[template].format(**example.texts, labels=", ".join(example.choices))

    def ask_why(self, example: Example, label: str, template: int = 0) -> str:
        """Write what asks for a rationale of a label that is told."""
        return f"{self.ask(example, template)}\nThe answer is {label}. Why?"

    def distance(self, label: str, other: str) -> float:
        """Return how far two labels of an ordinal task lie apart."""
        return abs(float(label) - float(other))


def as_rationale(text: str) -> str:
    """Return a rationale in one line that does not begin like the last line of an answer: that beginning is left out.

    Else a rationale would give a label of its own, and the answer two.
    """
    kept = " ".join(text.split())
    while found := _MARKED.match(kept):
        kept = found[1].strip()
    return kept


def begins_as_answer(line: str) -> bool:
    """Tell whether a line begins like the last line of an answer."""
    return _MARKED.match(line) is not None


def answer(label: str, rationale: str = "") -> str:
    """Write an answer: the rationale, if there is one, as of `as_rationale`, and the label in a last line."""
    kept = as_rationale(rationale)
    return f"{kept}\n{MARK} {label}" if kept else f"{MARK} {label}"


def read_answer(text: str, choices: tuple[str, ...]) -> Answer:
    """Read the label from the last line of a text.

    The whole of what stands behind the mark must be a label, so ``entail`` is not ``entailment`` and a label may begin
    another; case, and emphasis, quotes, brackets and marks around it do not count, and a number may be written
    otherwise. Earlier lines of the same form must say the same.

    Parameters
    ----------
    text
        As written by a model.
    choices
        Labels that there are.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    marked = [_MARKED.match(line) for line in lines]
    if not lines or marked[-1] is None:
        return Answer(None, text.strip(), "no last line")
    rationale = "\n".join(line for line, mark in zip(lines, marked, strict=True) if mark is None)
    found = [_choice(mark[1], choices) for mark in marked if mark is not None]
    if len(set(found) - {None}) > 1:
        return Answer(None, rationale, "two labels")
    if None in found:
        return Answer(None, rationale, "unknown label")
    return Answer(found[-1], rationale)


def check_choices(choices: tuple[str, ...], where: str) -> None:
    """Refuse labels that are fewer than two, or that cannot be told apart in an answer's last line.

    Raises
    ------
    ConfigError
        Naming them.
    """
    if len(choices) < 2:
        raise ConfigError("one class alone is no task", where=where, expected="2 labels", got=", ".join(choices))
    written = [plain(label) for label in choices]
    same = sorted({label for label, own in zip(choices, written, strict=True) if written.count(own) > 1 or not own})
    if same or any(len(label.splitlines()) > 1 for label in choices):
        raise ConfigError(
            "labels cannot be told apart when written in a line",
            where=where,
            expected="names that differ in more than case, blanks and a final full stop",
            got=", ".join(repr(label) for label in same or choices),
        )


def _choice(written: str, choices: tuple[str, ...]) -> str | None:
    for tried in (written, written.strip(_AROUND)):
        found = [label for label in choices if plain(label) == plain(tried)]
        if found:
            return found[0]
    numbers = [_number(label) for label in choices]
    value = None if None in numbers else _number(written.strip(_AROUND))
    return choices[numbers.index(value)] if value is not None and value in numbers else None


def plain(label: str) -> str:
    """Return what of a label counts: case, blanks, ways to store a letter and a final full stop do not."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split()).removesuffix(".").strip()


def _check_template(template: str, where: str) -> None:
    """Refuse a template that cannot be written, before any example is asked."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            "a template cannot be read",
            where=where,
            expected="names in single braces; {{ and }} for braces of the text",
            got=f"{error}: {template[:80]}",
        ) from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ConfigError(
                "a template names no text",
                where=where,
                expected="the name of a text, or labels, in braces and nothing else",
                got="{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}",
            )


def _number(label: Any) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
