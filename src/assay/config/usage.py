"""The help page, from the models; argparse lays it out."""

from __future__ import annotations

import argparse
import shutil
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from assay.config.fields import Settings, container, flag, is_list, is_positional, is_settings, members

_WORDS = {int: "INT", float: "NUMBER", str: "TEXT", bool: ""}


def usage(model: type[Settings], prog: str, summary: str) -> str:
    """Write the help page of one verb, wrapped to the terminal."""
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    places = [_place(name, field) for name, field in model.model_fields.items() if is_positional(field)]
    page = argparse.ArgumentParser(
        usage=" ".join([prog, *places, "[--flag value ...]"]),
        description=summary,
        add_help=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=width),
    )
    groups: dict[str, Any] = {"": page.add_argument_group("arguments")} if places else {}
    _add_fields(page, groups, model, (), None)
    files = page.add_argument_group("files and help")
    files.add_argument("--config", metavar="FILE.yaml", help="settings from a file; flags win; may be repeated")
    files.add_argument("--help", action="store_true", help="show this page")
    return page.format_help()


def _add_fields(page: Any, groups: dict[str, Any], model: type[Settings], path: tuple[str, ...], base: Any) -> None:
    """Add plain fields under the class that declares them, then each nested model as a group; ``base``: its default."""
    nested = []
    for name, field in model.model_fields.items():
        models = [member for member in members(field.annotation) if is_settings(member)]
        nested += [(name, field, member) for member in models]
        if models:
            continue
        owner = next(cls for cls in reversed(model.__mro__) if name in getattr(cls, "model_fields", {}))
        title = ".".join(path) or ("settings" if owner is model else _first_line(owner) or "settings")
        title = "" if is_positional(field) and not path else title
        groups[title] = groups.get(title) or page.add_argument_group(title)
        _add_entry(
            groups[title], flag((*path, name)) if title else _place(name, field), field, _default(base, name, field)
        )
    for name, field, member in nested:
        title = ".".join((*path, name))
        default = _default(base, name, field)
        if len([other for other, _, _ in nested if other == name]) > 1:
            _add_kind(page, groups, field, member, (*path, name), default)
            continue
        about = field.description or _first_line(member)
        groups[title] = page.add_argument_group(
            title, about + (" (off unless one is given)" if default is None else "")
        )
        _add_fields(page, groups, member, (*path, name), default if isinstance(default, member) else None)


def _add_kind(
    page: Any, groups: dict[str, Any], field: FieldInfo, member: type[Settings], path: tuple[str, ...], default: Any
) -> None:
    """Add one of several models that a field may hold, told apart by their ``kind``."""
    title, kind = ".".join(path), member.model_fields["kind"]
    choices = "|".join(str(name) for name in get_args(kind.annotation))
    if title not in groups:
        groups[title] = page.add_argument_group(title, field.description)
    chosen = " (default)" if isinstance(default, member) else ""
    _show(groups[title], f"{flag((*path, 'kind'))} {choices}", f"{kind.description or ''}{chosen}")
    for name, setting in member.model_fields.items():
        if name == "kind":
            continue
        metavar, note = _metavar(setting.annotation), _note(_default(None, name, setting))
        many = ".KEY" if any(container(each)[0] is dict for each in members(setting.annotation)) else ""
        label = f"{flag((*path, name))}{many} {metavar}".rstrip()
        _show(groups[title], f"  {label}", f"{setting.description or ''} {note}".strip())


def _show(group: Any, label: str, text: str) -> None:
    # as a positional, which argparse lets stand twice: several kinds may have a setting of the same name
    group.add_argument(" ", metavar=label, help=text.replace("%", "%%"))


def _note(default: Any) -> str:
    if default is PydanticUndefined:
        return "(required)"
    return "" if default in (None, False, [], (), {}, "") else f"(default: {to_jsonable_python(default, fallback=str)})"


def _default(base: Any, name: str, field: FieldInfo) -> Any:
    return getattr(base, name) if base else field.get_default(call_default_factory=True)


def _add_entry(group: Any, label: str, field: FieldInfo, default: Any) -> None:
    kinds, metavar = members(field.annotation), None
    if label.startswith("--"):
        label += ".KEY" if any(container(kind)[0] is dict for kind in kinds) else ""
        metavar = _metavar(field.annotation)
    text = f"{field.description or ''} {_note(default)}".strip().replace("%", "%%")
    spellings = [label, f"--no-{label[2:]}"] if kinds == [bool] and default is True else [label]
    group.add_argument(*spellings, help=text, **({"metavar": metavar} if metavar else {}), **_no_value(metavar, label))


def _no_value(metavar: str | None, label: str) -> dict[str, Any]:
    return {"action": "store_true"} if not metavar and label.startswith("--") else {}


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().split("\n")[0].rstrip(".")


def _place(name: str, field: FieldInfo) -> str:
    word = name.replace("_", "-").upper() + (" ..." if is_list(field.annotation) else "")
    return word if field.is_required() else f"[{word}]"


def _metavar(annotation: Any) -> str:
    words = []
    for member in members(annotation):
        kind, inner = container(member)
        if get_origin(member) is Literal:
            words += [str(choice) for choice in get_args(member)]
        elif kind:
            words.append(_metavar(inner) + (" ..." if kind is list else ""))
        else:
            words.append(_WORDS.get(member, getattr(member, "__name__", "value").upper()))
    return "|".join(dict.fromkeys(word for word in words if word))
