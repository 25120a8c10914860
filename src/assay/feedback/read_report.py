"""What reading a source did: rows in, records out, drops by reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from assay.feedback.records import Kind


@dataclass
class ReadReport:
    """What reading did.

    Attributes
    ----------
    rows
        Rows of the source (for jsonl: lines that are not blank).
    records, responses, edges
        What came out; ``merged`` rows went into the record of an earlier row with the same prompt.
    dropped
        Rows left out, by reason. ``notes``: everything else worth knowing, by name.
    places
        The first ``file:row`` of each reason and note.
    """

    source: str
    format: str
    kind: Kind
    rows: int = 0
    records: int = 0
    responses: int = 0
    edges: int = 0
    merged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values (JSON)."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        judged = f", {self.edges} judgements of {self.responses} responses" if self.kind == "comparisons" else ""
        lines = [f"{self.source}: {self.rows} rows read as {self.format} -> {self.records} {self.kind}{judged}"]
        lines += [f"  merged: {self.merged} rows into an earlier row's prompt"] if self.merged else []
        for title, counts in (("dropped", self.dropped), ("note", self.notes)):
            for name, count in counts.items():
                first = f" (first: {self.places[name]})" if name in self.places else ""
                lines.append(f"  {title}: {count} {name}{first}")
        return lines
