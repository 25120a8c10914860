"""What the user gave, from files and flags, as one tree that remembers where each value came from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assay.config.fields import (
    Settings,
    Slot,
    as_kind,
    container,
    flag,
    has_kinds,
    is_list,
    is_positional,
    is_settings,
    locate,
    members,
    nearest,
)
from assay.config.values import count_words, load_yaml, read_words

Keys = tuple[str | int, ...]


def put(tree: dict[Any, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value at a path, making the mappings on the way."""
    for key in path[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[path[-1]] = value


def merge(below: dict[Any, Any], above: dict[Any, Any]) -> dict[Any, Any]:
    """Lay one tree over another; lists and single values are replaced whole."""
    both = {key: merge(below[key], above[key]) for key in below.keys() & above.keys() if _mappings(below, above, key)}
    return {**below, **above, **both}


def _mappings(below: dict[Any, Any], above: dict[Any, Any], key: Any) -> bool:
    return isinstance(below[key], dict) and isinstance(above[key], dict)


@dataclass
class Given:
    """Values that were given for ``model``, where each came from, and what is wrong so far."""

    model: type[Settings]
    tree: dict[str, Any] = field(default_factory=dict)
    sources: dict[Keys, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    guessed: set[Keys] = field(default_factory=set)

    def source(self, path: Keys) -> str:
        """Name the place that a value came from, or the flag that would set it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.sources:
                inside = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path[end:])
                return self.sources[path[:end]] + inside
        info = self.model.model_fields.get(str(path[0])) if len(path) == 1 else None
        return str(path[0]).replace("_", "-").upper() if info and is_positional(info) else flag(path)

    def add_file(self, file: str) -> None:
        """Lay a YAML file over what was given so far."""
        try:
            content = load_yaml(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}")
            return
        except yaml.YAMLError as error:
            self.problems.append(f"{file}: not YAML: {' '.join(str(error).split())}")
            return
        if not isinstance(content, dict | None):
            self.problems.append(f"{file}: expected a mapping of settings, got {type(content).__name__}")
            return
        self.add_mapping(content or {}, f"{file}: ")

    def add_mapping(self, content: dict[Any, Any], where: str) -> None:
        """Lay nested values over what was given so far; ``where`` begins the name of each in messages."""
        self.tree = merge(self.tree, self._normal(self.model, content, (), where))

    def _normal(self, annotation: Any, value: Any, path: Keys, where: str) -> Any:
        """Spell all keys as the models do; unknown ones are noted, and read as their nearest to go on."""
        value = as_kind(annotation, value)
        inner = {kind: value_type for kind, value_type in map(container, members(annotation)) if kind}
        if isinstance(value, list) and list in inner:
            return [
                self._normal(inner[list], item, (*path, i), f"{where.removesuffix('.')}[{i}].")
                for i, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            return value
        if dict in inner:
            for key in value:
                self.sources[(*path, key)] = f"{where}{key}"
            return {key: self._normal(inner[dict], item, (*path, key), f"{where}{key}.") for key, item in value.items()}
        result: dict[str, Any] = {}
        if not any(is_settings(member) for member in members(annotation)):
            return value
        for key, item in value.items():
            slot = locate(annotation, str(key)) or self._unknown(annotation, str(key), f"{where}{key}", "")
            if slot:
                self.sources[(*path, *slot.path)] = f"{where}{key}"
                put(result, slot.path, self._normal(slot.annotation, item, (*path, *slot.path), f"{where}{key}."))
        return result

    def _unknown(self, annotation: Any, name: str, shown: str, dashes: str) -> Slot | None:
        guess = nearest(annotation, name)
        spelled = flag((guess or "",)) if dashes else guess
        self.problems.append(f"{shown}: no such setting" + (f"; did you mean {spelled}?" if guess else ""))
        slot = locate(annotation, guess) if guess else None
        self.guessed |= {slot.path} if slot else set()
        return slot

    def add_flags(self, argv: list[str]) -> None:
        """Read flags, positionals and the files named by ``--config``; flags win over files, wherever they stand."""
        rest, words, flags = list(argv), [], list[tuple[str, Slot, Any]]()
        while rest:
            token = rest.pop(0)
            if token == "--":
                words += rest
                break
            if re.match("-[A-Za-z]", token):
                self.problems.append(f"{token}: no such flag; flags begin with two dashes")
            elif not token.startswith("--"):
                words.append(token)
            elif read := self._flag(token, rest):
                flags.append(read)
        given: dict[tuple[str, ...], Any] = {}
        for shown, slot, value in flags:
            if slot.path in given and is_list(slot.annotation) and isinstance(value, list):
                value = [*given[slot.path], *value]
            elif given.get(slot.path, value) != value and slot.path not in self.guessed:
                self.problems.append(f"{shown}: given twice, {given[slot.path]!r} and {value!r}")
            given[slot.path] = value
            self.sources[slot.path] = shown
            put(self.tree, slot.path, self._normal(slot.annotation, value, slot.path, f"{shown}: "))
        self._place(words)

    def _flag(self, token: str, rest: list[str]) -> tuple[str, Slot, Any] | None:
        """Read one flag, taking its words from the front of ``rest``."""
        name, equals, text = token[2:].partition("=")
        shown, slot = f"--{name}", locate(self.model, name)
        positive = locate(self.model, name[3:]) if name.startswith(("no-", "no_")) and not equals else None
        if not slot and positive and bool in members(positive.annotation):
            return shown, positive, False
        slot = slot or self._unknown(self.model, name, shown, "--")
        following = text if equals else next(iter(rest), "")
        if slot and has_kinds(slot.annotation) and following and not following.startswith(("--", "{")):
            # one word names the kind, and leaves what else was given of it
            kind = locate(slot.annotation, "kind")
            slot = Slot((*slot.path, "kind"), kind.annotation if kind else str)
        count = 0 if equals else count_words(slot.annotation if slot else str, rest)
        if count is None and slot:
            self.problems.append(f"{shown}: needs a value")
        taken = [text] if equals else [rest.pop(0) for _ in range(count or 0)]
        if slot is None or count is None:
            return None
        try:
            return shown, slot, read_words(slot.annotation, taken)
        except json.JSONDecodeError:
            self.problems.append(f"{shown}: expected JSON, got {taken[0]!r}")
        return None

    def _place(self, words: list[str]) -> None:
        """Give words to the positional fields, in order; a list takes all that are left."""
        for name, info in self.model.model_fields.items():
            if words and is_positional(info):
                count = len(words) if is_list(info.annotation) else 1
                taken, words = words[:count], words[count:]
                self.sources[(name,)] = name.replace("_", "-").upper()
                self.tree[name] = taken if is_list(info.annotation) else taken[0]
        self.problems += [f"{word!r}: one argument too many" for word in words]
