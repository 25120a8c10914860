"""The benchmarks by name, and how their files are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import DataError
from assay.evaluation.benchmarks import llmbar, rewardbench, rewardbench2, rmbench
from assay.evaluation.benchmarks.items import Item, Line, Scored
from assay.feedback.problems import RowError
from assay.feedback.sources import open_source


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark is read and told.

    Attributes
    ----------
    title
        Its name.
    item
        Reads a row of the file at a place.
    table
        Turns scores into lines, the whole benchmark's first.
    file
        Name of the files that hold it: of a folder, others are left alone where there are such.
    """

    title: str
    item: Callable[[Mapping[str, Any], str], Item]
    table: Callable[[Sequence[Scored]], list[Line]]
    file: str = ""

    def read(self, source: str, split: str | None = None) -> list[Item]:
        """Read all items of a file, a folder or a data set of the Hub; every row must be one.

        Raises
        ------
        DataError
            If a row is none, or there is none.
        """
        found = []
        parts = open_source(source, split).parts
        for part in [part for part in parts if Path(part.name).name == self.file] or parts:
            for number, row in part.rows():
                try:
                    if isinstance(row, RowError):
                        raise row
                    found.append(self.item(row, str(Path(part.name))))
                except RowError as error:
                    column = f":{error.column}" if error.column else ""
                    raise DataError(
                        f"this is no row of {self.title}: {error.problem}",
                        where=f"{part.name}:{number}{column}",
                        expected=error.expected,
                        got=error.got,
                        remedy="a benchmark is judged whole or not at all: mend the row, or name another --format",
                    ) from error
        if not found:
            raise DataError("there is no row", where=source, expected=f"rows of {self.title}")
        return found


#: ``--format`` -> benchmark.
BENCHMARKS: dict[str, Benchmark] = {
    "rewardbench": Benchmark("RewardBench", rewardbench.item, rewardbench.table),
    "rewardbench2": Benchmark("RewardBench 2", rewardbench2.item, rewardbench2.table),
    "rm-bench": Benchmark("RM-Bench", rmbench.item, rmbench.table, "total_dataset.json"),
    "llmbar": Benchmark("LLMBar", llmbar.item, llmbar.table, "dataset.json"),
}
