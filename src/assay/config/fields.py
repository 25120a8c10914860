"""Settings models seen as a tree of dotted names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Self, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class Positional:
    """Marks a field that the command line reads by place: ``data: Annotated[str, Positional]``."""


class Settings(BaseModel):
    """Base of all settings: immutable; unknown keys and NaN are refused; ``Field(description=...)`` is the help."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), ser_json_inf_nan="constants"
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield (dotted field, what is wrong) for *every* impossible combination; a subclass overrides this."""
        yield from ()

    @model_validator(mode="before")
    @classmethod
    def _spell_kinds(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            name: as_kind(fields[name].annotation, value) if name in fields else value for name, value in given.items()
        }

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        if found := list(self.conflicts()):
            text = "; ".join(f"{field}: {problem}" for field, problem in found)
            raise PydanticCustomError("conflicts", "{text}", {"text": text, "found": found})
        return self


class Slot(NamedTuple):
    """Where a dotted name leads: the path of keys, and the type that belongs there."""

    path: tuple[str, ...]
    annotation: Any


def members(annotation: Any) -> list[Any]:
    """Return the alternatives of a type other than None, without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [] if annotation is NoneType else [annotation]


def is_optional(annotation: Any) -> bool:
    """Tell whether a type admits None."""
    if get_origin(annotation) is Annotated:
        return is_optional(get_args(annotation)[0])
    is_union = get_origin(annotation) in (Union, UnionType)
    return annotation is NoneType or (is_union and any(is_optional(part) for part in get_args(annotation)))


def is_settings(member: Any) -> TypeGuard[type[Settings]]:
    """Tell whether a type is a settings model."""
    return isinstance(member, type) and issubclass(member, Settings)


def container(member: Any) -> tuple[type | None, Any]:
    """Return (list or dict, type of its values) for a container type, else (None, the type itself)."""
    origin, arguments = get_origin(member) or member, get_args(member)
    if origin is dict:
        return dict, arguments[1] if arguments else Any
    if origin in (list, tuple, set, frozenset):
        return list, arguments[0] if arguments else Any
    return None, member


def is_list(annotation: Any) -> bool:
    """Tell whether a flag of this type takes several words."""
    return any(container(member)[0] is list for member in members(annotation))


def has_kinds(annotation: Any) -> bool:
    """Tell whether a type is one of several settings models, told apart by their ``kind``."""
    models = [member for member in members(annotation) if is_settings(member)]
    return len(models) > 1 and all("kind" in model.model_fields for model in models)


def as_kind(annotation: Any, value: Any) -> Any:
    """Return the settings that a single word stands for: ``mlp`` is ``{"kind": "mlp"}`` where there are kinds."""
    return {"kind": value} if isinstance(value, str) and has_kinds(annotation) else value


def kinds_with(annotation: Any, path: tuple[str | int, ...]) -> list[str]:
    """Return the kinds of the settings at a path's end that know its last name; empty where there are no kinds."""
    for key in path[:-1]:
        held = [member.model_fields[str(key)] for member in members(annotation) if _knows(member, str(key))]
        if not held:
            return []
        annotation = held[0].annotation
    if not path or not has_kinds(annotation):
        return []
    fields = [member.model_fields["kind"] for member in members(annotation) if _knows(member, str(path[-1]))]
    return [str(kind) for field in fields for kind in get_args(field.annotation)]


def _knows(member: Any, name: str) -> bool:
    return is_settings(member) and name in member.model_fields


def locate(annotation: Any, name: str) -> Slot | None:
    """Find the dotted ``name`` (kebab or snake) below a type; everything after a dictionary's name is one key."""
    head, _, rest = name.partition(".")
    for member in members(annotation):
        kind, inner = container(member)
        if is_settings(member) and (field := member.model_fields.get(head.replace("-", "_"))):
            key = head.replace("-", "_")
            if not rest:
                return Slot((key,), field.annotation)
            if slot := locate(field.annotation, rest):
                return Slot((key, *slot.path), slot.annotation)
        elif kind is dict and name:
            if not any(is_settings(value) for value in members(inner)):
                return Slot((name,), inner)
            if not rest:
                return Slot((head,), inner)
            if slot := locate(inner, rest):
                return Slot((head, *slot.path), slot.annotation)
    return None


def names(annotation: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and field of every setting below a type, groups before their members."""
    for member in members(annotation):
        if is_settings(member):
            for name, field in member.model_fields.items():
                yield prefix + name, field
                yield from names(field.annotation, f"{prefix}{name}.")


def nearest(annotation: Any, name: str) -> str | None:
    """Return the known dotted name nearest to an unknown one: the same last part first, then the least edited."""
    wanted, known = name.replace("-", "_"), [known for known, _ in names(annotation)]
    same_last = [k for k in known if k.rpartition(".")[2] == wanted.rpartition(".")[2]]
    close = same_last or difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
    return close[0] if close else None


def is_positional(field: FieldInfo) -> bool:
    """Tell whether a field is read by place."""
    return any(mark is Positional or isinstance(mark, Positional) for mark in field.metadata)


def flag(path: tuple[str | int, ...]) -> str:
    """Spell a path as its flag."""
    return "--" + ".".join(str(part).replace("_", "-") for part in path)
