"""A settings model with one field of every shape that the parser reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from assay.config import Positional, Settings


class Target(Settings):
    """What a judgement becomes."""

    kind: Literal["plain", "mmpo", "smooth"] = Field(default="plain", description="how it is made")
    gamma: float = Field(default=1.0, gt=0, description="sharpness")


class Lora(Settings):
    """Low-rank adapters."""

    rank: int = Field(default=8, ge=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class Common(Settings):
    """Where and how it runs."""

    seed: int = Field(default=0, description="seed of everything random")
    overwrite: bool = Field(default=False, description="replace the output")


class Train(Common):
    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder or a Hub id")
    other: Annotated[str | None, Positional] = None
    test_share: float = Field(default=0.2, ge=0, lt=1, description="share of the groups held out")
    epochs: int = 3
    target: Target = Target(kind="mmpo", gamma=2.0)
    lora: Lora | None = None
    freeze_backbone: bool = False
    center: bool = True
    precision: bool | Literal["auto"] = "auto"
    bits: Literal[4, 8] | None = None
    name: str | None = None
    out: Path = Path("runs/new")
    shares: tuple[float, ...] = ()
    words: list[str] = Field(default_factory=list)
    mapping: dict[str, str] = Field(default_factory=dict)
    extras: dict[str, Any] = Field(default_factory=dict)
    stages: tuple[Target, ...] = ()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.freeze_backbone and self.lora:
            yield "freeze_backbone", "not with --lora"
        if self.target.kind == "plain" and self.target.gamma != 1:
            yield "target.gamma", "only with --target.kind mmpo"
