"""Settings of ``assay curriculum``: one policy, several tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Positional
from assay.evaluation.transfer import MOST_TASKS
from assay.workflows.online_settings import KlSettings, OnlineMethod, RolloutSettings
from assay.workflows.run_settings import RunSettings


class CurriculumSettings(RunSettings):
    """Which policy learns which tasks online, and in which order."""

    backbone: Annotated[str, Positional] = Field(
        description="the policy to begin with: a run of assay align, Hub id or folder of a causal language model"
    )
    tasks: tuple[str, ...] = Field(description="folders that assay task wrote, two or more")
    out: str = Field(description="folder of all runs, with metrics.json")
    order: Literal["transfer", "given", "joint"] = Field(
        default="transfer",
        description="one task after the other, so that later ones harm earlier ones least, which is measured first by "
        "learning each alone (Omni-Thinker); as given; or all at once",
    )
    method: OnlineMethod = Field(default="grpo", description="of assay align")
    rewards: dict[str, str] = Field(
        default_factory=dict,
        description="task -> reward model of its answers, or verifier (the right label is rewarded), for all tasks; "
        "none: verifier for each",
    )
    rollout: RolloutSettings = Field(
        default=RolloutSettings(max_new_tokens=64), description="what is written in a cycle"
    )
    kl: KlSettings = Field(default=KlSettings(), description="how far the policy may go")
    learning_rate: float | None = Field(default=None, gt=0, description="none: as assay align")
    max_length_tokens: int | None = Field(
        default=None, ge=8, description="prompt and answer; none: as the backbone was taught, else as assay align"
    )
    cycles: int = Field(default=50, ge=1, description="cycles of a task; all at once: so many for each on average")
    measured: int = Field(default=15, ge=1, description="cycles in which each task is learned alone, to measure")
    examples: int | None = Field(default=None, ge=2, description="test examples of a task, at random; none: all")
    resume: bool = Field(default=False, description="continue an interrupted run; what is finished is kept")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what cannot be ordered, or would be ignored."""
        if not 2 <= len(self.tasks) <= MOST_TASKS:
            yield "tasks", f"are two to {MOST_TASKS}"
        if len(set(self.tasks)) < len(self.tasks):
            yield "tasks", "names a folder twice"
        if self.order != "transfer" and self.measured != type(self).model_fields["measured"].default:
            yield "measured", "belongs to --order transfer"
        if self.resume and self.overwrite:
            yield "resume", "continues what --overwrite would delete; choose one"
