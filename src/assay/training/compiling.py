"""Compilation of a backbone's layers for as long as it trains."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from assay.errors import ConfigError

# What torch looks for where CXX names nothing else.
_COMPILER = {"darwin": "clang++", "win32": "cl"}


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model that stand in a list of their like; lists inside such a layer are parts of it."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList) and len(child) and len({type(layer) for layer in child}) == 1:
            found.extend(child)
        else:
            found.extend(repeated_layers(child))
    return found


def check_compilable(model: nn.Module) -> None:
    """Refuse to compile where it would fail in the middle of the first step.

    Raises
    ------
    ConfigError
        If there is no C++ compiler, or the model has no repeated layers.
    """
    compiler = os.environ.get("CXX") or _COMPILER.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            "layers cannot be compiled here",
            expected="a C++ compiler",
            got=f"{compiler} is not there",
            remedy=f"install {compiler}, name another in CXX, or leave out --compile",
        )
    if not repeated_layers(model):
        raise ConfigError(
            "this model has no repeated layers to compile",
            expected="a list of layers of one class",
            got=type(getattr(model, "backbone", model)).__name__,
            remedy="leave out --compile",
        )


@contextmanager
def compiled_layers(model: nn.Module) -> Iterator[None]:
    """Run every repeated layer of a model, and of what it is compared with, through ``torch.compile`` for a while.

    Layers of one class share what is compiled, and sizes are symbols, so the number of compilations depends neither on
    depth nor on the lengths of texts. What lies around the layers differs from block to block and stays as it is.
    """
    reference = getattr(model, "reference", None)
    models = [model, *(reference.models if reference is not None else [])]
    layers = [layer for each in models for layer in repeated_layers(each)]
    for layer in layers:
        vars(layer)["forward"] = torch.compile(layer.forward, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
