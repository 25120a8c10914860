"""The evaluation as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.evaluation import words
from assay.evaluation.evaluate import Evaluation, Probabilities
from assay.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 else "right")
    return table


def _share(name: str, estimate: Estimate, *rest: str) -> Iterator[Text]:
    interval = words.percent_interval(estimate.ci95)
    return _cells(name, words.percent(estimate.value), interval, f"{estimate.n:,}", *rest)


def _cells(*texts: str) -> Iterator[Text]:
    """Wrap texts so that brackets in names are never read as markup."""
    from rich.text import Text

    return (Text(text) for text in texts)


def _accuracy_table(evaluation: Evaluation) -> Table:
    table = _table("Picks the better response", "", "accuracy", "95 % interval", "judgements", "model ahead by")
    table.add_row(*_share("model", evaluation.accuracy, ""))
    for name, result in evaluation.baselines.items():
        ahead = f"{words.points(result.difference.value)} [{words.points_interval(result.difference.ci95)}]"
        table.add_row(*_share(words.label(name), result.accuracy, ahead))
    for part in evaluation.by_source if len(evaluation.by_source) > 1 else []:
        table.add_row(*_share(f"source {part.label}", part.accuracy, ""))
    lengths = evaluation.by_length
    for part in (lengths.longer_wins, lengths.shorter_wins):
        table.add_row(*_share(part.label, part.accuracy, ""))
    return table


def _probability_row(name: str, found: Probabilities) -> Iterator[Text]:
    low, high = found.ece.null_band95
    return _cells(
        name,
        f"{found.nll.value:.4f}",
        f"{found.brier.value:.4f}",
        f"{found.ece.value:.4f}",
        f"{found.ece.debiased:+.4f}",
        f"{low:.4f} to {high:.4f}",
    )


def render(evaluation: Evaluation, console: Console) -> None:
    """Print the headline, the accuracy table with baselines, and the probability metrics."""
    console.print(*_cells(words.headline(evaluation)))
    console.print(_accuracy_table(evaluation))
    table = _table("How far to trust P", "", "NLL", "Brier", "ECE", "debiased", "ECE if calibrated")
    table.add_row(*_probability_row("raw", evaluation.raw))
    if evaluation.calibrated:
        table.add_row(*_probability_row("calibrated", evaluation.calibrated))
    console.print(table)
    for sentence in (
        words.verdict_of(evaluation)[1],
        words.comparison_sentence(evaluation.against) if evaluation.against else None,
        evaluation.ceiling.sentence() if evaluation.ceiling else None,
        evaluation.powered.sentence() if evaluation.powered else None,
        evaluation.uncertainty.sentence() if evaluation.uncertainty else None,
        words.fitted_sentence(evaluation),
        words.dependence_sentence(evaluation),
        words.ties_sentence(evaluation),
    ):
        if sentence:
            console.print(*_cells(sentence))
