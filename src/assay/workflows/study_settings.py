"""Settings of ``assay study``: which methods, on how much of the data, how often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Positional
from assay.workflows.run_settings import ReadingSettings, RunSettings


class StudySettings(RunSettings, ReadingSettings):
    """What is compared on what."""

    data: Annotated[str, Positional] = Field(description="judgements: a file, a folder, or a Hub id")
    out: str = Field(description="folder to make")
    methods: tuple[str, ...] = Field(
        default=("bt", "mlp", "kernel", "prototypes", "ensemble", "gpm"),
        description="names: of those that assay brings (docs/few_labels.md), or that --define defines; with --define "
        "and without names: all that are defined",
    )
    define: str | None = Field(
        default=None, description="YAML file of further methods: a name, and below it settings of assay train"
    )
    baseline: str = Field(default="bt", description="the method that all others are compared with")
    fractions: tuple[float, ...] = Field(
        default=(0.05, 0.1, 0.2, 0.5, 1.0),
        description="of the training judgements, each within the next; unless named, those too small are left out",
    )
    seeds: int = Field(default=10, ge=2, description="how often everything is repeated: other fractions, other weights")
    test: str | None = Field(default=None, description="judgements to test on; none: a share of the data")
    test_share: float = Field(default=0.2, gt=0, lt=1, description="share of the groups held out as test")
    test_groups_seed: int | None = Field(default=None, ge=0, description="seed of the split; none: --seed")
    folds: int = Field(
        default=0, ge=0, description="test each seed on another of so many parts of the groups; 0: all on one test"
    )
    keep: int | None = Field(
        default=None,
        ge=1,
        description="train all methods for one epoch, and only so many, the best, to the end",
    )
    most_steps: int = Field(default=1000, ge=1, description="optimiser steps of a training, about; one epoch at least")
    smallest_effect: float = Field(default=0.02, gt=0, lt=1, description="difference in accuracy that would matter")
    backbone: str = Field(default="minilm", description="Hub id, folder, or minilm (packaged, needs no network)")
    template: str = Field(default="auto", description="as in training")
    max_length_tokens: int | None = Field(default=None, ge=8, description="longest text; none: the backbone's, <= 1024")
    truncation: Literal["left", "right"] = Field(default="left", description="side of the prompt that is cut")
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass; memory, not results")
    freeze_backbone: bool = Field(default=True, description="train heads only, unless a method says otherwise")
    epochs: int | None = Field(default=None, ge=1, description="passes over the data; none: 3, frozen backbone 30")
    calibration_folds: int = Field(default=3, ge=2, description="cross-fitting folds where the backbone is frozen")
    workers: int | None = Field(default=None, ge=1, description="processes; none: one per core, with a GPU one")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    resume: bool = Field(default=False, description="continue an interrupted study, or begin if there is none")

    @property
    def names_methods(self) -> bool:
        """Whether methods were named."""
        return "methods" in self.model_fields_set

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what contradicts itself, or would be ignored."""
        if self.resume and self.overwrite:
            yield "resume", "continues what --overwrite would delete; choose one"
        if self.test is not None:
            for name in ("test_share", "test_groups_seed", "folds"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield name, "nothing is split off beside --test"
        elif self.folds == 1:
            yield "folds", "one part would leave nothing to learn from; 0, or 2 and more"
        elif self.folds and self.seeds % self.folds:
            yield "seeds", f"leaves parts untested or tests some more often; a multiple of --folds {self.folds}"
        elif self.folds and self.test_share != type(self).model_fields["test_share"].default:
            yield "test_share", "each of --folds is a test by itself"
        if wrong := [share for share in self.fractions if not 0 < share <= 1]:
            yield "fractions", f"shares lie above 0 and reach 1; got {wrong[0]}"
        if len(set(self.fractions)) < len(self.fractions) or not self.fractions:
            yield "fractions", "names each share once, and at least one"
        if len(set(self.methods)) < len(self.methods) or not self.methods:
            yield "methods", "names each method once, and at least one"
