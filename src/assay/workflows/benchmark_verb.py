"""``assay evaluate --format rewardbench`` and its like: public benchmarks from local files, in their published form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from assay.console import progress, say, show_table
from assay.evaluation.benchmarks import Benchmark, Item, Line, Scored
from assay.output import check_new, new_folder, write_json
from assay.scorers.core import ScoringCore
from assay.scorers.scored import Conversation
from assay.scorers.served import ServedModel, is_address
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.judge_settings import EvaluateSettings
from assay.workflows.judging import load_judged

_ITEMS_AT_ONCE = 32


def evaluate_benchmark(settings: EvaluateSettings, benchmark: Benchmark) -> dict[str, Any]:
    """Judge a model, a policy or a server on a public benchmark; return what ``metrics.json`` holds.

    With ``--out`` the folder holds ``metrics.json`` and ``table.md``.
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    items = benchmark.read(settings.data, settings.split)
    scorer = Lists(settings)
    if settings.dry_run:
        return {"dry_run": True, "items": len(items), "benchmark": benchmark.title}
    scored = list(progress(_scored(scorer, items), "scoring: prompts"))
    lines = benchmark.table(scored)
    equal = sum(int((one.margins == 0).sum()) for one in scored)
    if equal:
        say(f"{equal:,} choices are between equal scores: none of them counts as right (RewardBench 2: as its share)")
    if scorer.truncated:
        say(f"{scorer.truncated:,} responses or their prompts were truncated")
    metrics = {
        "benchmark": benchmark.title,
        "table": [asdict(line) for line in lines],
        "items": len(items),
        "equal": equal,
        "truncated": scorer.truncated,
        "model": settings.model,
        "reference": settings.reference,
        "fingerprint": scorer.fingerprint,
        "data": settings.data,
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    if settings.out:
        with new_folder(settings.out, overwrite=settings.overwrite) as folder:
            write_json(folder / "metrics.json", metrics)
            (folder / "table.md").write_text(markdown(benchmark.title, lines), encoding="utf-8")
    show_table([_cells(line) for line in lines], ("", "%", "items"), title=benchmark.title)
    return metrics


class Lists:
    """Scores the responses to each prompt, by a model here or by a server.

    Attributes
    ----------
    fingerprint
        Of the model.
    truncated
        How many responses were cut so far, or lost part of their prompt.
    """

    def __init__(self, settings: EvaluateSettings) -> None:
        self.truncated = 0
        self._server = ServedModel(settings.model) if is_address(settings.model) else None
        self._core = None if self._server else ScoringCore(load_judged(settings)[0], settings.token_budget)
        self.fingerprint = self._server.fingerprint if self._server else self._core.fingerprint  # type: ignore[union-attr]

    def __call__(
        self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return scores ``[k]`` and margins ``[k, k]``, row over column, of the responses to each prompt."""
        if self._server is not None:
            told = self._server.ranked(prompts, responses)
            self.truncated += sum(cut for _, _, cut in told)
            return [(values, margins) for values, margins, _ in told]
        assert self._core is not None
        given = [Conversation(prompt, text) for prompt, some in zip(prompts, responses, strict=True) for text in some]
        scores = self._core.score(given)
        self.truncated += sum(score.truncated for score in scores)
        found, start = [], 0
        for some in responses:
            own = scores[start : start + len(some)]
            start += len(some)
            found.append((np.array([score.value for score in own]), self._core.prefer_all(own)[0]))
        return found


def _scored(scorer: Lists, items: Sequence[Item]) -> Iterator[Scored]:
    for start in range(0, len(items), _ITEMS_AT_ONCE):
        some = items[start : start + _ITEMS_AT_ONCE]
        found = scorer([one.prompt for one in some], [[*one.chosen, *one.rejected] for one in some])
        for one, (values, margins) in zip(some, found, strict=True):
            k = len(one.chosen)
            yield Scored(one, values[:k], values[k:], margins[:k, k:])


def _cells(line: Line) -> tuple[str, str, int]:
    value = "-" if line.value is None else f"{100 * line.value:.1f}"
    return "  " * line.level + line.name, value, line.count


def markdown(title: str, lines: Sequence[Line]) -> str:
    """Return a published table as Markdown."""
    rows = []
    for line in lines:
        name, value, count = _cells(line)
        rows.append(f"| {'**' * (line.level < 2)}{name.strip()}{'**' * (line.level < 2)} | {value} | {count} |")
    return "\n".join([f"# {title}", "", "| | % | items |", "|---|---:|---:|", *rows, ""])
