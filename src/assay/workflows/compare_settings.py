"""Settings of ``assay compare``: what two policies write, and who prefers which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from assay.config import Positional, Settings
from assay.workflows.label_settings import JudgeAsking
from assay.workflows.run_settings import ReadingSettings, RunSettings


class Writing(Settings):
    """How policies write."""

    responses: int = Field(default=1, ge=1, description="responses of each policy to a prompt")
    max_new_tokens: int = Field(default=256, ge=1, description="longest response")
    temperature: float = Field(default=1.0, ge=0, description="of sampling; 0: the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1, description="share of probability that is sampled from")
    token_budget: int = Field(default=16384, ge=16, description="tokens of a batch, prompts and responses")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what could only give one response several times."""
        if self.temperature == 0 and self.responses > 1:
            yield "responses", "are all alike at temperature 0"


class CompareSettings(RunSettings, ReadingSettings):
    """Which policies answer which prompts, and who prefers what."""

    policy: Annotated[str, Positional] = Field(description="a run of assay align, a folder or a Hub id")
    data: Annotated[str, Positional] = Field(description="prompts: a file, a folder, or a Hub id")
    out: str = Field(description="folder to make: metrics.json, samples.jsonl, report.html")
    against: str | None = Field(default=None, description="other policy; none: what the policy was before training")
    also: tuple[str, ...] = Field(
        default=(), description="further policies on the curve, such as checkpoints that trained longer"
    )
    by: str | None = Field(default=None, description="reward model that prefers, which trained none of the policies")
    judge: JudgeAsking | None = Field(default=None, description="a language model as a judge, instead of --by")
    gold: str | None = Field(
        default=None, description="reward model that is trusted more: over-optimisation of --by is judged by it"
    )
    best_of: tuple[int, ...] = Field(default=(), description="also the best of so many samples of --against, by --by")
    text: str | None = Field(
        default=None, description="held-out texts (JSON Lines with text, or paragraphs): what training unlearned"
    )
    protocol: Literal["prompts", "mt_bench"] = Field(
        default="prompts",
        description="one answer to each prompt; or mt_bench: DATA is a file of questions of several turns, and answers "
        "are graded one by one too",
    )
    prompts: int = Field(default=200, ge=2, description="prompts that are answered, drawn by the seed")
    max_length_tokens: int | None = Field(
        default=None, ge=8, description="longest prompt and response together; none: as the policies were trained"
    )
    write: Writing = Field(default=Writing(), description="how they write")
    pairs: bool = Field(
        default=False,
        description="also write pairs.jsonl: the policy's responses as better than the other's, from which assay train "
        "recovers the reward that it learned from (IRL)",
    )
    include_seen: bool = Field(default=False, description="also prompts that trained a policy")
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples behind every interval")
    shown: int = Field(default=12, ge=0, description="prompts in the table of samples")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what leaves nobody to prefer, or two, and what nobody could judge."""
        if (self.by is None) == (self.judge is None):
            yield "by", "name a reward model that prefers, or a judge (--judge.local, --judge.url), and not both"
        if self.judge is not None and self.judge.rules is not None:
            yield "judge.rules", "is of assay label; here the judge is asked one question"
        if self.by is None:
            for name in ("gold", "best_of", "also"):
                if getattr(self, name):
                    yield name, "needs the scores of --by"
        if self.protocol == "mt_bench":
            for name in ("gold", "best_of", "also", "text", "pairs"):
                if getattr(self, name):
                    yield name, "goes with prompts, not with mt_bench"
            if self.write.responses > 1:
                yield "write.responses", "mt_bench asks for one answer to a turn"
        if any(n < 1 for n in self.best_of):
            yield "best_of", "are numbers of samples, 1 or more"
