"""Settings of ``assay task``: a classification task as prompts, answers and pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.feedback.tasks.known import TASKS
from assay.feedback.tasks.shares import USUAL
from assay.workflows.label_settings import JudgeAsking
from assay.workflows.run_settings import RunSettings, not_among


class TaskShareSettings(Settings):
    """How examples that do not test are divided, by group; only the proportions count."""

    teaching: float = Field(default=USUAL["teaching"], gt=0, description="answers that a policy is taught (SFT)")
    pairs: float = Field(default=USUAL["pairs"], gt=0, description="made into pairs for reward models")
    pairs_test: float = Field(default=USUAL["pairs_test"], gt=0, description="made into pairs that test reward models")
    asked: float = Field(default=USUAL["asked"], gt=0, description="prompts that a policy answers for reward")


class GeneratorSettings(Settings):
    """A model that writes a rationale for the label that it is told."""

    model: str = Field(description="a run of assay align on explain.jsonl, a folder or a Hub id")
    shots: int = Field(default=0, ge=0, description="explained examples that are shown before each question")
    max_new_tokens: int = Field(default=64, ge=1, description="longest rationale")
    max_length_tokens: int | None = Field(default=None, ge=8, description="question and rationale; none: as trained")
    temperature: float = Field(default=1.0, ge=0, description="of sampling; 0: the likeliest")


class RankSettings(Settings):
    """Who says which of two rationales for the right label is better."""

    model: str | None = Field(default=None, description="reward model: run folder or Hub id")
    judge: JudgeAsking | None = Field(default=None, description="a language model that grades from 1 to 10")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what leaves nobody to rank, or two."""
        if (self.model is None) == (self.judge is None):
            yield "model", "or --rank.judge ranks, one of them"
        if self.judge is not None and self.judge.rules is not None:
            yield "judge.rules", "is of assay label; here the judge is asked one question"


class TaskSettings(RunSettings):
    """A classification task as prompts, answers and pairs that hinge on the label or on the rationale (RLLR)."""

    task: Annotated[str, Positional] = Field(description=f"name: {', '.join(TASKS)}")
    data: Annotated[str, Positional] = Field(description="examples: a file, a folder or a Hub id")
    out: str = Field(description="folder of prompts, answers and pairs")
    split: str | None = Field(default=None, description="split of DATA, a Hub data set or folder")
    test: str | None = Field(default=None, description="examples that test; none: --test-part, or a share of DATA")
    test_part: str | None = Field(
        default=None,
        description="value of the column split whose rows test, and no others; none: test, where it has that",
    )
    test_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of the groups that tests; none: 0.2, where the data name no test"
    )
    most: int | None = Field(default=None, ge=4, description="examples beside those that test, at random; none: all")
    most_test: int | None = Field(default=None, ge=1, description="examples that test, at random; none: all")
    shares: TaskShareSettings = Field(default=TaskShareSettings(), description="of what does not test")
    rationales: Literal["auto", "borrowed", "words", "templates", "generated", "none"] = Field(
        default="auto",
        description="what argues for both sides of a label-sensitive pair: people's words for that label about another "
        "example; telling words of another example's texts, where nobody explained; sentences that name the label; a "
        "model; or nothing. auto: borrowed where the set has any, else words; templates for choices",
    )
    generator: GeneratorSettings | None = Field(default=None, description="the model of --rationales generated")
    rank: RankSettings | None = Field(
        default=None,
        description="who ranks two rationales for the right label; none: what is about the example is the better one",
    )
    wrong: Literal["uniform", "confusion", "nearest"] = Field(
        default="uniform", description="wrong labels: any alike, what policies take the right one for, or the nearest"
    )
    confused: str | None = Field(
        default=None, description="folder of assay classify, whose first policy tells --wrong confusion"
    )
    require: Literal["label", "rationale"] = Field(
        default="label",
        description="pairs without which nothing is written: label-sensitive ones, or rationale-sensitive ones too",
    )
    balance: bool = Field(
        default=True,
        description="weigh label-sensitive pairs so that of any two labels each is as often the better one",
    )
    template: int = Field(default=0, ge=0, description="way to ask, from 0")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other, or names that are none."""
        problem = not_among(self.task, tuple(TASKS))
        if problem:
            yield "task", problem
            return
        if self.test is not None and self.test_part is not None:
            yield "test_part", "and --test both say what tests; choose one"
        if (self.test or self.test_part) and self.test_share is not None:
            yield "test_share", "nothing is drawn beside --test and --test-part"
        task = TASKS[self.task].task
        if self.wrong == "nearest" and task.kind != "ordinal":
            yield "wrong", f"nearest labels belong to ordinal tasks; {self.task} has {task.kind}"
        if (self.wrong == "confusion") != (self.confused is not None):
            yield "confused", "tells --wrong confusion, and --wrong confusion needs it"
        if self.wrong == "confusion" and task.kind == "choices":
            yield "wrong", f"every example of {self.task} has its own labels, so none is confused with another"
        if (self.rationales == "generated") != (self.generator is not None):
            yield "generator", "writes for --rationales generated, which needs --generator.model"
        if self.rationales == "words" and task.kind == "choices":
            yield "rationales", f"words speak for classes, and every example of {self.task} has its own labels"
        if self.rank is not None and self.rationales in ("none", "templates"):
            yield "rank", f"there are no two rationales to rank with --rationales {self.rationales}"
        if self.rank is not None and self.generator is not None and self.generator.temperature == 0:
            yield "generator.temperature", "0 writes the same twice, and --rank chooses between two rationales"
        if self.template >= len(task.templates):
            yield "template", f"{self.task} has {len(task.templates)}, counted from 0"
