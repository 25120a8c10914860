"""What a data check found: errors, warnings, counts; as JSON and as a terminal table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from assay.feedback.records import Kind

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: its name, how often, what it means or what becomes of it, and first places."""

    name: str
    count: int
    message: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.count} × {self.name}: {self.message}" if self.message else f"{self.count} × {self.name}"


@dataclass
class CheckReport:
    """The result of a check; ``errors`` must be mended, ``warnings`` are handled as their message says."""

    source: str
    format: str
    kind: Kind
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Tell whether there are no errors."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain values (JSON)."""
        return {**asdict(self), "ok": self.ok}

    def render(self, console: Console | None = None) -> None:
        """Print counts as a table, then errors and warnings with their first places."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = console or Console()
        table = Table(title=f"{self.source} ({self.format}: {self.kind})", show_header=False, title_justify="left")
        table.add_column("what", style="bold")
        table.add_column("value")
        for name, value in _flat_rows(self.counts):
            table.add_row(Text(name), Text(value))
        console.print(table)
        for title, style, findings in (("error", "bold red", self.errors), ("warning", "yellow", self.warnings)):
            for finding in findings:
                console.print(Text.assemble((f"{title}: ", style), str(finding)))
                for example in finding.examples:
                    console.print(Text(f"    {example}"))
        verdict = "no errors" if self.ok else f"{sum(finding.count for finding in self.errors)} errors"
        warned = f", {len(self.warnings)} kinds of warning" if self.warnings else ""
        console.print(Text(verdict + warned, style="green" if self.ok else "bold red"))


def _flat_rows(counts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in counts.items():
        title = f"{prefix}{name}".replace("_", " ") if not prefix else f"{prefix}{name}"
        if isinstance(value, dict) and any(isinstance(entry, dict) for entry in value.values()):
            yield from _flat_rows(value, f"{title}: ")
        elif isinstance(value, dict):
            if value:
                yield title, ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
        else:
            yield title, _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return "[" + ", ".join(_shown(entry) for entry in value) + "]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
