"""Settings of ``assay task``: a classification task as prompts, answers and pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.feedback.tasks.known import TASKS
from assay.feedback.tasks.shares import USUAL
from assay.workflows.run_settings import RunSettings, not_among


class TaskShareSettings(Settings):
    """How examples that do not test are divided, by group; only the proportions count."""

    teaching: float = Field(default=USUAL["teaching"], gt=0, description="answers that a policy is taught (SFT)")
    pairs: float = Field(default=USUAL["pairs"], gt=0, description="made into pairs for reward models")
    asked: float = Field(default=USUAL["asked"], gt=0, description="prompts that a policy answers for reward")


class TaskSettings(RunSettings):
    """A classification task as prompts, answers and pairs that hinge on the label or on the rationale (RLLR)."""

    task: Annotated[str, Positional] = Field(description=f"name: {', '.join(TASKS)}")
    data: Annotated[str, Positional] = Field(description="examples: a file, a folder or a Hub id")
    out: str = Field(description="folder of prompts, answers and pairs")
    split: str | None = Field(default=None, description="split of DATA, a Hub data set or folder")
    test: str | None = Field(default=None, description="examples that test; none: --test-part, or a share of DATA")
    test_part: str | None = Field(
        default=None, description="value of the column split whose rows test; the rest does not"
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="share of the groups that tests, without the two")
    most: int | None = Field(default=None, ge=3, description="examples beside those that test, at random; none: all")
    most_test: int | None = Field(default=None, ge=1, description="examples that test, at random; none: all")
    shares: TaskShareSettings = Field(default=TaskShareSettings(), description="of what does not test")
    rationales: Literal["auto", "borrowed", "templates", "none"] = Field(
        default="auto",
        description="what argues for both sides of a label-sensitive pair: people's words for that label about another "
        "example, sentences that name it, or nothing; auto: people's where the set has any",
    )
    wrong: Literal["uniform", "nearest"] = Field(
        default="uniform", description="wrong labels: any alike, or the nearest of an ordinal task"
    )
    balance: bool = Field(default=True, description="weigh label-sensitive pairs so that all labels count alike")
    pairs_test_share: float = Field(default=0.25, gt=0, lt=1, description="share of the pairs' groups that tests them")
    template: int = Field(default=0, ge=0, description="way to ask, from 0")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or names that are none."""
        problem = not_among(self.task, tuple(TASKS))
        if problem:
            yield "task", problem
            return
        if self.test is not None and self.test_part is not None:
            yield "test_part", "and --test both say what tests; choose one"
        if (self.test or self.test_part) and self.test_share != type(self).model_fields["test_share"].default:
            yield "test_share", "nothing is drawn beside --test and --test-part"
        task = TASKS[self.task].task
        if self.wrong == "nearest" and task.kind != "ordinal":
            yield "wrong", f"nearest labels belong to ordinal tasks; {self.task} has {task.kind}"
        if self.template >= len(task.templates):
            yield "template", f"{self.task} has {len(task.templates)}, counted from 0"
