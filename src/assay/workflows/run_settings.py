"""Settings that most verbs share: how a run goes, and what the data looks like."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field

from assay.config import Settings
from assay.feedback import ColumnMapping


class RunSettings(Settings):
    """How it runs."""

    seed: int = Field(default=0, ge=0, description="decides splits, batches and initial weights")
    overwrite: bool = Field(default=False, description="replace the output if it exists")
    dry_run: bool = Field(default=False, description="check everything and say what would be done; write nothing")


class ReadingSettings(Settings):
    """What the data looks like."""

    format: str = Field(default="auto", description="name of the layout; auto: by columns and values")
    mapping: ColumnMapping | None = Field(
        default=None, description="which cells hold what, for any other layout (docs/data.md)"
    )
    split: str | None = Field(default=None, description="split of DATA, a Hub data set or folder; others: NAME:SPLIT")
    tokenizer: str | None = Field(default=None, description="decodes data that comes as token ids")
    group: str | None = Field(default=None, description="column that must not be on both sides of a split")
    ties: Literal["keep", "drop"] = Field(default="keep", description="equal grades: keep as ties (p = 0.5), or drop")

    def reading(self) -> dict[str, Any]:
        """Return the options of `assay.feedback.read`; the split is that of DATA, other sources name their own."""
        return {
            "format": self.format,
            "mapping": self.mapping,
            "split": self.split,
            "tokenizer": self.tokenizer,
            "group": self.group,
            "ties": self.ties,
        }


def not_among(name: str, known: Sequence[str]) -> str | None:
    """Say that a name is not known, with the nearest one; None where it is."""
    if name in known:
        return None
    near = get_close_matches(name, known, n=1)
    return f"{name!r} is not one of {', '.join(sorted(known))}" + (f"; did you mean {near[0]!r}?" if near else "")
