"""Kinds of heads by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from assay.scorers.attributes import AttributeHead
from assay.scorers.heads import Head, LinearHead, MLPHead
from assay.scorers.kernel import KernelHead
from assay.scorers.preference import PreferenceHead
from assay.scorers.prototypes import PrototypeHead

HeadKind = Literal["linear", "mlp", "attributes", "prototypes", "kernel", "preference"]


def make_head(
    kind: str, width: int, *, members: int = 1, seed: int = 0, plain: int = 0, options: Mapping[str, Any] | None = None
) -> Head:
    """Build a head by name.

    Parameters
    ----------
    kind
        One of `HeadKind`.
    width, members
        d and M.
    seed
        Of what is drawn at random in it.
    plain
        See `layer_normed`.
    options
        What else the class of the head takes.

    Raises
    ------
    ValueError
        If there is no such head.
    """
    given = dict(options or {})
    makers: dict[str, Callable[[], Head]] = {
        "linear": lambda: LinearHead(width, members, seed=seed, plain=plain, **given),
        "mlp": lambda: MLPHead(width, members, seed=seed, plain=plain, **given),
        "attributes": lambda: AttributeHead(width, len(given["dimensions"]), members),
        "prototypes": lambda: PrototypeHead(width, members, seed=seed, plain=plain, **given),
        "preference": lambda: PreferenceHead(width, members, seed=seed, plain=plain, **given),
        "kernel": lambda: KernelHead(width, members, seed=seed, plain=plain, **given),
    }
    if kind not in makers:
        raise ValueError(f"unknown head {kind!r}; expected one of {', '.join(makers)}")
    return makers[kind]()
