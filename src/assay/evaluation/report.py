"""The report of a run: one HTML file that needs nothing else, for readers who have never seen the project."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.evaluation import figures, words
from assay.evaluation.data_rows import DataRow
from assay.evaluation.evaluate import Evaluation, Probabilities
from assay.evaluation.mistake import Mistake
from assay.output import write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment

_CLIP_CHARACTERS = 700


@dataclass(frozen=True)
class ReportContent:
    """What a report can show; every section whose part is empty is left out, or says why if ``missing`` names it.

    Attributes
    ----------
    title, sentence
        Heading, and what was trained on what in one plain sentence.
    model_name, other_name
        How sentences name the model, and the one it is compared with.
    evaluation
        Result of ``evaluate``.
    data_rows
        The data check, in order.
    train_loss, validation_loss
        (step, mean loss in nats) as logged.
    guess_loss
        Loss of a scorer that says nothing; None if the objective has none.
    mistakes
        Most confident mistakes first.
    throughput, config, versions
        Quantities by name (units in the name or value), resolved settings (may nest), versions by package.
    notes
        Cautions that the reader must not miss, one sentence each.
    missing
        Section name -> why it is absent. Sections: ``evaluation``, ``baselines``, ``against``, ``data``, ``learning``,
        ``mistakes``, ``throughput``, ``config``, ``versions``.
    created
        Date and time, as text.
    """

    title: str
    sentence: str = ""
    model_name: str = "the model"
    other_name: str = "the other model"
    evaluation: Evaluation | None = None
    data_rows: Sequence[DataRow] = ()
    train_loss: Sequence[tuple[float, float]] = ()
    validation_loss: Sequence[tuple[float, float]] = ()
    guess_loss: float | None = math.log(2)
    mistakes: Sequence[Mistake] = ()
    throughput: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None


def write_report(path: str | Path, content: ReportContent) -> None:
    """Write the report to ``path``, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_atomic(path, render_report(content))


def render_report(content: ReportContent) -> str:
    """Return the report as one HTML page: styles and figures inside, no scripts, no address of anything outside."""
    from markupsafe import Markup

    drawn = {name: Markup(svg) for name, svg in _figures(content).items()}
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            evaluation=content.evaluation,
            figures=drawn,
            words=words,
            clip=_CLIP_CHARACTERS,
            verdict=words.verdict_of(content.evaluation) if content.evaluation else None,
            probability_rows=_probability_rows(content.evaluation) if content.evaluation else [],
            config_text=_yaml(content.config) if content.config else "",
        )
    )


def now() -> str:
    """Return the time of day for a page's heading, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def page_environment() -> Environment:
    """Return what fills the templates of pages: everything is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("assay.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        show=_show, percent=words.percent, readable=_readable, capital=_capital, gaps_named=_gaps_named, yaml=_yaml
    )
    return environment


def _figures(content: ReportContent) -> dict[str, str]:
    drawn = {}
    if content.train_loss or content.validation_loss:
        drawn["learning"] = figures.learning_curve(content.train_loss, content.validation_loss, content.guess_loss)
    found = content.evaluation
    if found is None or found.accuracy.n == 0:
        return drawn
    drawn["margins"] = figures.margin_histogram(found.histogram)
    named = [("raw", found.raw), ("calibrated", found.calibrated)]
    curves = {name: probabilities.curve for name, probabilities in named if probabilities}
    lowest = figures.lowest_accuracy(*curves.values())
    drawn |= {name: figures.calibration(curve, name, lowest) for name, curve in curves.items()}
    ranked = [(words.label(name), result.accuracy) for name, result in found.baselines.items()]
    rows = [(_capital(content.model_name), found.accuracy), *ranked]
    limits = figures.share_limits([estimate for _, estimate in rows])
    drawn["baselines"] = figures.accuracies(rows, "baselines", limits=limits, highlight=0)
    return drawn | _slice_figures(found)


def _slice_figures(found: Evaluation) -> dict[str, str]:
    lengths = found.by_length
    groups = {
        "by_margin": [(f"margin {part.label}", part.accuracy) for part in found.by_margin],
        "by_length": [
            ("the better one is longer", lengths.longer_wins.accuracy),
            ("the better one is shorter", lengths.shorter_wins.accuracy),
        ],
        "by_length_bins": [(part.label, part.accuracy) for part in lengths.bins],
        "by_source": [(part.label, part.accuracy) for part in found.by_source] if len(found.by_source) > 1 else [],
    }
    limits = figures.share_limits([estimate for rows in groups.values() for _, estimate in rows])
    return {name: figures.accuracies(rows, name, limits=limits) for name, rows in groups.items() if rows}


def _probability_rows(evaluation: Evaluation) -> list[tuple[str, Probabilities]]:
    rows = [("raw", evaluation.raw)]
    return [*rows, ("calibrated", evaluation.calibrated)] if evaluation.calibrated else rows


def _gaps_named(text: str) -> str:
    """Shorten long runs of line breaks, saying how many there were."""
    return re.sub(r"\n(?:[ \t]*\n){3,}", lambda run: f"\n[{run[0].count(chr(10))} line breaks]\n", text.strip())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _show(value: Any) -> str:
    """Write a number with as many digits as one can use; a dash for nothing."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(config, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))
