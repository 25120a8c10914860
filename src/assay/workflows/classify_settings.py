"""Settings of ``assay classify``: which labels policies tell, and what choosing among answers is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from assay.config import Positional
from assay.workflows.run_settings import RunSettings


class ClassifySettings(RunSettings):
    """Which policies answer which task."""

    policy: Annotated[str, Positional] = Field(description="a run of assay align, a folder or a Hub id")
    data: Annotated[str, Positional] = Field(description="folder that assay task wrote")
    out: str = Field(description="folder to make: metrics.json, answers.jsonl, report.html")
    also: tuple[str, ...] = Field(
        default=(), description="further policies, compared with the first on the same examples"
    )
    examples: int | None = Field(default=None, ge=2, description="test examples, at random; none: all")
    all_templates: bool = Field(default=False, description="ask in every way that the task knows, and tell the spread")
    by: tuple[str, ...] = Field(
        default=(), description="reward models, judged on the task's pairs and by whom of the first policy they choose"
    )
    best_of: tuple[int, ...] = Field(default=(1, 2, 4, 8), description="among so many answers each")
    max_new_tokens: int = Field(default=64, ge=1, description="longest answer")
    max_length_tokens: int | None = Field(default=None, ge=8, description="prompt and answer; none: as was trained")
    token_budget: int = Field(default=16384, ge=16, description="tokens of a batch, prompts and answers")
    include_seen: bool = Field(default=False, description="also ask what trained the models, as their folders tell")
    shown: int = Field(default=12, ge=0, description="examples in the table of samples")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what would be ignored or cannot be."""
        if not self.by and self.best_of != type(self).model_fields["best_of"].default:
            yield "best_of", "needs a reward model that chooses: --by"
        if any(n < 1 for n in self.best_of) or not self.best_of:
            yield "best_of", "are numbers of answers, 1 or more"
        if self.policy in self.also or len(set(self.also)) < len(self.also):
            yield "also", "names a policy twice"
