"""Text to values: YAML as people write it, and the words after a flag."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from assay.config.fields import container, is_list, is_optional, is_settings, members

_BOOLEAN_WORDS = {"true", "false", "yes", "no", "on", "off"}


class _Loader(yaml.SafeLoader):
    """YAML with only true/false as booleans, ``1e-5`` as a number, and repeated keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"key given twice: {repeated[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either reading would take for something other than text; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # YAML ends lines at these too, and only double quotes escape them
        style = '"' if any(mark in data for mark in "\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _BOOLEAN] for first, pairs in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))


_Dumper.add_representer(str, _Dumper.represent_str)


def load_yaml(text: str) -> Any:
    """Read one YAML document."""
    return yaml.load(text, Loader=_Loader)


def write_yaml(plain: Any) -> str:
    """Write plain data so that `load_yaml` gives it back."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def accepts(annotation: Any, value: Any) -> bool:
    """Tell whether a value fits a type."""
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def count_words(annotation: Any, following: list[str]) -> int | None:
    """Return how many of the ``following`` words belong to a flag of this type; None: its value is missing."""
    stop = next((i for i, word in enumerate(following) if word.startswith("--")), len(following))
    if is_list(annotation):
        return stop or None
    kinds, first = members(annotation), following[0] if stop else ""
    if bool in kinds:
        return int(first.lower() in _BOOLEAN_WORDS or bool(first and len(kinds) > 1 and accepts(annotation, first)))
    if any(is_settings(kind) for kind in kinds):
        return int(first.startswith("{") or (is_optional(annotation) and first.lower() in ("none", "null")))
    return 1 if stop else None


def read_words(annotation: Any, words: list[str]) -> Any:
    """Turn a flag's words into what YAML would have given (pydantic does the rest).

    Raises
    ------
    json.JSONDecodeError
        If a word that begins a JSON list or object is not one.
    """
    kinds = members(annotation)
    if len(words) == 1 and is_optional(annotation) and words[0].lower() in ("none", "null"):
        return None
    if not words:
        return True if bool in kinds else {}
    holds = any(container(kind)[0] or is_settings(kind) for kind in kinds)
    if len(words) == 1 and holds and words[0][:1] in ("[", "{"):
        return json.loads(words[0])
    if not is_list(annotation):
        return _scalar(kinds, words[0])
    if len(words) == 1 and not all(container(kind)[0] for kind in kinds) and accepts(annotation, words[0]):
        return words[0]
    item = next(inner for holder, inner in map(container, kinds) if holder is list)
    return [_scalar(members(item), part) for word in words for part in word.split(",") if part]


def _scalar(kinds: list[Any], text: str) -> Any:
    """Keep text where only text or one parsable type can be meant, else read it as YAML does."""
    if len(kinds) == 1 and kinds[0] not in (Any, object) and get_origin(kinds[0]) is not Literal:
        return text
    choices = [choice for kind in kinds for choice in (get_args(kind) if get_origin(kind) is Literal else [kind])]
    if all(isinstance(choice, str) or choice in (str, Path) for choice in choices):
        return text
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float) or (value is None and len(kinds) == 1) else text
