"""A tree of given values to a settings object, or every problem in one error."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from assay.config.fields import Settings, is_settings, kinds_with, members
from assay.config.gather import Given, Keys, merge
from assay.errors import ConfigError

S = TypeVar("S", bound=Settings)
#: Where errors name the words that were allowed.
_CHOICES = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
_COMBINATIONS = {"conflicts", "value_error", "assertion_error"}


def to_plain(settings: Settings) -> dict[str, Any]:
    """Return nested dictionaries of JSON types only."""
    return settings.model_dump(mode="json")


def diff_from_defaults(settings: Settings) -> dict[str, Any]:
    """Return, nested and plain, the settings that differ from the defaults of their model; required ones always."""
    return _difference(settings, None)


def _difference(settings: Settings, base: Settings | None) -> dict[str, Any]:
    """Return what differs from ``base``, or from the defaults of the class; a union's tag is always named."""
    plain, differs = to_plain(settings), {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        default = getattr(base, name) if base else field.get_default(call_default_factory=True)
        if default is PydanticUndefined or value != default:
            differs[name] = plain[name]
            if isinstance(value, Settings):
                tag = {field.discriminator: plain[name][field.discriminator]} if _tag(field) else {}
                differs[name] = tag | _difference(value, default if type(default) is type(value) else None)
    return differs


def _tag(field: FieldInfo) -> str | None:
    return field.discriminator if isinstance(field.discriminator, str) else None


def _complete(model: type[Settings], tree: dict[str, Any]) -> dict[str, Any]:
    """Lay a group given in part over the group that is the field's default, not over the defaults of its class."""
    tree = dict(tree)
    for name, field in model.model_fields.items():
        default, given = field.get_default(call_default_factory=True), tree.get(name)
        if not isinstance(given, dict):
            continue
        nested = [member for member in members(field.annotation) if is_settings(member)]
        if isinstance(default, Settings):
            tag = _tag(field)
            if not tag or given.get(tag, getattr(default, tag)) == getattr(default, tag):
                base = _difference(default, None) | ({tag: getattr(default, tag)} if tag else {})
                given = merge(base, given)
        tree[name] = _complete(nested[0], given) if len(nested) == 1 else given
    return tree


def validate(given: Given, model: type[S], remedy: str) -> S:
    """Build the settings.

    Raises
    ------
    ConfigError
        With one line for each problem: the flag or file and key, what was expected, what came.
    """
    tree, lines, failed = _complete(model, given.tree), list(given.problems), set[Keys]()
    settings: S | None = None
    try:
        settings = model.model_validate(tree)
    except ValidationError as error:
        problems = _by_path(tree, error.errors(include_url=False))
        failed = {path for path, _ in problems}
        lines += [line for path, details in problems for line in _lines(given, path, details)]
        lines += _hidden(given, model, _complete(model, _repair(given.tree, problems)), failed)
    if lines or settings is None:
        lines = list(dict.fromkeys(lines))
        count = "one problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError("\n  ".join([f"{count} in the settings", *lines]), remedy=remedy)
    return settings


def _hidden(given: Given, model: type[S], tree: dict[str, Any], failed: set[Keys]) -> Iterator[str]:
    """Find the impossible combinations among the good values; pydantic stops before them where a field fails."""
    try:
        model.model_validate(tree)
    except ValidationError as error:
        for path, details in _by_path(tree, error.errors(include_url=False)):
            found = [item for item in details if item["type"] in _COMBINATIONS]
            if path not in failed or not path:
                yield from _lines(given, path, found)


def _by_path(tree: Any, errors: list[ErrorDetails]) -> list[tuple[Keys, list[ErrorDetails]]]:
    """Group errors by the place in the given tree; the branches of a union, which pydantic inserts, fall out."""
    grouped: dict[Keys, list[ErrorDetails]] = {}
    for error in errors:
        node, path = tree, list[Any]()
        for index, part in enumerate(error["loc"]):
            absent = error["type"] in ("missing", "extra_forbidden") and index == len(error["loc"]) - 1
            held = isinstance(node, dict) and part in node
            if held or absent or (isinstance(node, list) and isinstance(part, int) and part < len(node)):
                path.append(part)
                node = None if absent and not held else node[part]
        grouped.setdefault(tuple(path), []).append(error)
    return list(grouped.items())


def _lines(given: Given, path: Keys, details: list[ErrorDetails]) -> Iterator[str]:
    """Say what is wrong at one place."""
    where = given.source(path) if path else ""
    for error in (item for item in details if item["type"] == "conflicts"):
        for field, problem in error["ctx"]["found"]:
            yield f"{given.source((*path, *field.split('.')))}: {problem}"
    plain = [item for item in details if item["type"] != "conflicts"]
    if not plain:
        return
    kind, message = plain[0]["type"], plain[0]["msg"]
    prefix = f"{where}: " if where else ""
    if kind == "missing":
        yield f"{prefix}required, and not given"
    elif kind == "extra_forbidden":
        kinds = kinds_with(given.model, path)
        yield f"{prefix}" + (
            f"belongs to {given.source((*path[:-1], 'kind'))} {' or '.join(kinds)}"
            if kinds
            else "does not belong to the kind chosen beside it"
        )
    elif kind == "union_tag_invalid":
        guess = _nearest_choice(plain)
        yield f"{prefix}expected {_listed(plain[0]['ctx']['expected_tags'])}, got {plain[0]['ctx']['tag']!r}" + (
            f"; did you mean {guess}?" if guess else ""
        )
    elif kind in _COMBINATIONS:
        yield prefix + message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    elif message.startswith("Input should "):
        wanted = " or ".join(dict.fromkeys(_expected(item) for item in plain))
        guess = _nearest_choice(plain)
        yield f"{prefix}expected {wanted}, got {_short(plain[0]['input'])}" + (
            f"; did you mean {guess}?" if guess else ""
        )
    else:
        yield f"{prefix}{message[:1].lower()}{message[1:]}, got {_short(plain[0]['input'])}"


def _expected(error: ErrorDetails) -> str:
    if error["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return "a mapping"
    text = re.split(r", (?:unable|got)", error["msg"])[0].removeprefix("Input should ").removeprefix("be ")
    return text.replace("a valid string", "text").replace("valid integer", "whole number").replace("valid ", "")


def _nearest_choice(details: list[ErrorDetails]) -> str | None:
    """Return the nearest of the words that were allowed."""
    told = [e["ctx"][_CHOICES[e["type"]]] for e in details if e["type"] in _CHOICES]
    allowed = [word for choices in told for word in re.findall("'([^']*)'", choices)]
    given = details[0]["ctx"]["tag"] if details[0]["type"] == "union_tag_invalid" else details[0]["input"]
    close = difflib.get_close_matches(str(given), allowed, n=1)
    return close[0] if close else None


def _listed(tags: str) -> str:
    """Join the tags of a union as pydantic joins the choices of a literal."""
    *first, last = re.findall("'[^']*'", tags)
    return f"{', '.join(first)} or {last}" if first else last


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _repair(tree: dict[str, Any], problems: list[tuple[Keys, list[ErrorDetails]]]) -> dict[str, Any]:
    """Replace each bad value by the nearest choice, or leave it out."""
    tree = copy.deepcopy(tree)
    for path, details in problems:
        node: Any = tree
        for key in path[:-1]:
            node = node[key] if isinstance(node, list) and isinstance(key, int) else (node or {}).get(key)
        if path and isinstance(node, dict) and path[-1] in node:
            if guess := _nearest_choice(details):
                node[path[-1]] = guess
            else:
                del node[path[-1]]
    return tree
