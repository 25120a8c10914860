"""How another process finds the functions of a user's file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any


def load_module(name: str, path: str) -> ModuleType:
    """Run a Python file as a module of this name, once in each process.

    Raises
    ------
    ImportError
        If it is no Python file; whatever the file raises comes too.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file", name=name, path=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def file_of(module: str) -> str | None:
    """Return the file of a module that is there, by which another process finds it too."""
    return getattr(sys.modules.get(module), "__file__", None)


def named_object(module: str, name: str, path: str | None = None) -> Any:
    """Return what a module calls by this (dotted) name; a module that cannot be imported is loaded from its file."""
    found: Any
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        if path is None:
            raise
        found = load_module(module, path)
    for part in name.split("."):
        found = getattr(found, part)
    return found
