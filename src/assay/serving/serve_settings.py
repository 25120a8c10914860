"""Settings of ``assay serve``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from assay.config import Positional, Settings
from assay.workflows.judge_settings import ClassifierSettings
from assay.workflows.run_settings import ReadingSettings, RunSettings

#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class JudgingSettings(Settings):
    """Pairs that people judge in the page."""

    pairs: str | None = Field(
        default=None, description="what to judge: a folder of assay select, or data with unjudged pairs"
    )
    database: str = Field(
        default="judgements.db", description="where judgements are kept: a file (SQLite), or postgresql://…"
    )
    votes: int = Field(default=1, ge=1, description="judgements that each pair is to get")
    shared: float = Field(
        default=0.1, ge=0, le=1, description="share of pairs that every annotator judges, to see how far they agree"
    )
    count: int = Field(default=200, ge=1, description="pairs to choose, where the data is no folder of assay select")


class ServeSettings(RunSettings, ReadingSettings, ClassifierSettings):
    """What is served, to whom, and what the page shows."""

    model: Annotated[str, Positional] = Field(
        description="run or model folder, Hub id, any sequence classifier with one label, or a policy"
    )
    host: str = Field(default="127.0.0.1", description="address; others than this machine's need a key")
    port: int = Field(default=8000, ge=0, le=65535, description="0: a free one")
    key_variable: str = Field(default="ASSAY_SERVE_KEY", description="environment variable that holds the key")
    open: bool = Field(default=False, description="serve other machines without a key")
    allowed_hosts: list[str] | None = Field(
        default=None, description="names by which it may be asked; none: this machine's on its own address, else any"
    )
    name: str | None = Field(default=None, description="of the model, as clients see it; none: the folder's")
    batch_tokens: int | None = Field(
        default=None, ge=16, description="tokens scored together; none: 4,096 on a CPU, 16,384 elsewhere"
    )
    token_budget: int = Field(default=8192, ge=16, description="padded tokens per forward pass")
    wait_ms: float = Field(default=3.0, ge=0, description="how long a text waits for others to be scored with")
    waiting: int = Field(default=4096, ge=1, description="texts that may wait; more are refused (429)")
    timeout_s: float = Field(default=60.0, gt=0, description="seconds that a request may take")
    body_s: float = Field(default=30.0, gt=0, description="seconds until the body of a request must be there")
    body_mb: float = Field(default=8.0, gt=0, description="largest body, in MiB")
    connections: int = Field(default=1024, ge=1, description="open connections; more are refused (503)")
    against: str | None = Field(default=None, description="second model, for the largest disagreements in data")
    data: list[str] = Field(default=[], description="files of judgements to browse")
    rows: int = Field(default=2000, ge=1, description="records of each file of data that are scored and shown")
    runs: str | None = Field(default=None, description="folder with runs whose reports to browse")
    judging: JudgingSettings = JudgingSettings()

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that would be accepted and then ignored."""
        if self.against is not None and not self.data:
            yield "against", "is compared on --data"
        if self.judging.pairs is None:
            for name in ("database", "votes", "shared", "count"):
                if getattr(self.judging, name) != JudgingSettings.model_fields[name].default:
                    yield f"judging.{name}", "goes with --judging.pairs"
