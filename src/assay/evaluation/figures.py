"""Figures of the report as inline SVG whose colours follow the page, light or dark.

Matplotlib writes fixed colours. Each role (ink, grid, a series) is drawn in a marker colour that occurs nowhere else
and is replaced by a CSS variable of the page afterwards. Text stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.evaluation.evaluate import MarginHistogram
from assay.evaluation.intervals import Estimate
from assay.evaluation.reliability import ReliabilityCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, BLUE, ORANGE, BAND, PAGE = (f"#0f1e{k:02x}" for k in range(1, 8))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BLUE: "--blue",
    ORANGE: "--orange",
    BAND: "--band",
    PAGE: "--card",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.0,
    "axes.axisbelow": True,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_LABEL_CHARACTERS = 27
Curve = Sequence[tuple[float, float]]


@contextmanager
def _axes(
    name: str, width: float = 5.2, height: float = 3.4, fixed: bool = False
) -> Iterator[tuple[Figure, Axes, list[str]]]:
    """Give axes in the house style; on leaving, the SVG is the only item of the list."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout=None if fixed else "constrained")
        axes = figure.add_subplot()
        result: list[str] = []
        yield figure, axes, result
        result.append(_svg(figure, name))


def _svg(figure: Figure, name: str) -> str:
    stream = io.StringIO()
    with warnings.catch_warnings():
        # Labels may hold any script. The browser has the glyphs; Matplotlib only measures the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<(metadata|style)[ >].*?</\1>", "", text, flags=re.DOTALL
    )  # that style would apply to the whole page
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" class="figure">', text, count=1)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over a twentieth of the curve; shorter at its ends, so that nothing is shifted."""
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def learning_curve(train: Curve, validation: Curve = (), guess: float | None = None) -> str:
    """Draw loss over step: training (faint: as logged, strong: smoothed), validation, and the loss of a coin."""
    with _axes("learning") as (_, axes, result):
        if train:
            steps, losses = np.array(train, dtype=np.float64).T
            many = len(steps) >= 20
            axes.plot(steps, losses, color=BLUE, linewidth=0.9 if many else 1.8, alpha=0.35 if many else 1.0)
            if many:
                axes.plot(steps, _smooth(losses), color=BLUE, linewidth=1.8)
            axes.plot([], [], color=BLUE, linewidth=1.8, label="training")
        if validation:
            steps, losses = np.array(validation, dtype=np.float64).T
            axes.plot(steps, losses, "o-", color=ORANGE, linewidth=1.8, markersize=4, label="validation")
        if guess is not None:
            axes.axhline(guess, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=f"a coin: {guess:.3f}")
        axes.set(xlabel="optimiser step", ylabel="loss (nats)")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.legend(frameon=False, fontsize=9)
    return result[0]


def curves(name: str, series: Mapping[str, Curve], x: str) -> str:
    """Draw up to three named curves over the same axis."""
    with _axes(name, height=2.4) as (_, axes, result):
        for (label, curve), colour in zip(series.items(), (BLUE, ORANGE, MUTED), strict=False):
            steps, values = np.array(curve, dtype=np.float64).T
            many = len(steps) >= 20
            axes.plot(steps, values, color=colour, linewidth=0.9 if many else 1.8, alpha=0.35 if many else 1.0)
            if many:
                axes.plot(steps, _smooth(values), color=colour, linewidth=1.8)
            axes.plot([], [], color=colour, linewidth=1.8, label=label)
        axes.set(xlabel=x)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
    return result[0]


def lowest_accuracy(*curves: ReliabilityCurve) -> float:
    """Return the lower end of an axis that holds the dots and bands of all curves."""
    return min(
        [
            0.5,
            *(float(c.accuracy.min(initial=0.5)) for c in curves),
            *(float(c.band_low.min(initial=0.5)) for c in curves),
        ]
    )


def calibration(curve: ReliabilityCurve, name: str, lowest: float) -> str:
    """Draw accuracy over confidence with the band in which a calibrated predictor stays; dot area follows the count."""
    with _axes(f"calibration-{name}", 4.0, 3.7) as (_, axes, result):
        axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.fill_between(curve.confidence, curve.band_low, curve.band_high, color=BAND, linewidth=0)
        inside = (curve.accuracy >= curve.band_low) & (curve.accuracy <= curve.band_high)
        area = 14 + 130 * curve.count / max(int(curve.count.max(initial=1)), 1)
        for colour, mask in ((BLUE, inside), (ORANGE, ~inside)):
            axes.scatter(curve.confidence[mask], curve.accuracy[mask], area[mask], color=colour, linewidth=0, zorder=3)
        axes.set(xlim=(0.49, 1.01), ylim=(lowest - 0.03, 1.03))
        axes.set(xlabel="the model says", ylabel="and is right")
        _percent_ticks(axes, "both")
        axes.grid(color=GRID, linewidth=0.8)
    return result[0]


def _percent_ticks(axes: Axes, which: str) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    for axis in (axes.xaxis, axes.yaxis) if which == "both" else (axes.xaxis,):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        low, high = axis.get_view_interval()
        axis.set_major_locator(MultipleLocator(0.1 if high - low < 0.65 else 0.2))


def margin_histogram(histogram: MarginHistogram) -> str:
    """Draw how far apart the model puts the two responses: right of 0 it agrees with the judge, left it does not."""
    edges, count = histogram.edges, histogram.count
    with _axes("margins") as (_, axes, result):
        widths = np.diff(edges)
        colours = [BLUE if centre > 0 else ORANGE for centre in edges[:-1] + widths / 2]
        axes.bar(edges[:-1], count, width=widths * 0.9, align="edge", color=colours, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1)
        top = float(count.max(initial=1))
        axes.set_ylim(0, top * 1.16)
        reach = float(edges[-1]) if len(edges) > 1 else 1.0
        axes.text(-reach, top * 1.14, "← disagrees with the judge", ha="left", va="top", color=ORANGE)
        axes.text(reach, top * 1.14, "agrees with the judge →", ha="right", va="top", color=BLUE)
        axes.set(xlabel="margin: score of the judge's choice minus score of the other", ylabel="judgements")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
    return result[0]


def accuracies(
    rows: Sequence[tuple[str, Estimate]], name: str, *, limits: tuple[float, float], highlight: int | None = None
) -> str:
    """Draw one line per row: accuracy as a dot with its 95 % interval; 50 % dashed. ``highlight``: the row in blue."""
    rows = [(label, found) for label, found in rows if found.n]
    height = 0.62 + 0.36 * max(len(rows), 1)
    with _axes(f"accuracy-{name}", 5.9, height, fixed=True) as (figure, axes, result):
        # Fixed margins, so that the axes of several figures stand below one another.
        figure.subplots_adjust(left=0.36, right=0.82, top=1 - 0.06 / height, bottom=0.5 / height)
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for place, (_, found) in enumerate(rows):
            colour = BLUE if highlight is None or place == highlight else MUTED
            if found.ci95:
                axes.plot(found.ci95, [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(found.value, place, "o", color=colour, markersize=7, markeredgecolor=PAGE, markeredgewidth=1.2)
            text = f"{100 * found.value:.1f} %  of {found.n:,}"
            axes.annotate(text, (1.03, place), xycoords=("axes fraction", "data"), va="center", color=MUTED)
        axes.set_yticks(range(len(rows)), [_short(label) for label, _ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set(xlim=limits, xlabel="picks the better response")
        _percent_ticks(axes, "x")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
    return result[0]


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"


def share_limits(found: Sequence[Estimate]) -> tuple[float, float]:
    """Return one range of accuracies for several figures, so that equal places mean equal shares."""
    ends = [0.45, 0.75, *(estimate.value for estimate in found if estimate.n)]
    ends += [end for estimate in found if estimate.ci95 for end in estimate.ci95]
    return max(min(ends) - 0.03, -0.02), min(max(ends) + 0.03, 1.02)


def data_efficiency(curves: Mapping[str, Sequence[tuple[float, float, float, float]]], baseline: str) -> str:
    """Draw accuracy over the number of labels; per method points of (labels, accuracy, low, high).

    The baseline is dashed and has its 95 % interval as a band; a plain SVG with colours of its own.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "efficiency", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        colours = iter(matplotlib.color_sequences["tab20"] * (1 + len(curves) // 20))
        for name, points in curves.items():
            labels, value, low, high = (np.array(column) for column in zip(*points, strict=True))
            if name == baseline:
                axes.fill_between(labels, 100 * low, 100 * high, color="0.85", linewidth=0)
                axes.plot(labels, 100 * value, "o--", color="0.25", linewidth=1.6, markersize=3.5, label=name)
            else:
                axes.plot(labels, 100 * value, "o-", color=next(colours), linewidth=1.4, markersize=3.5, label=name)
        axes.set_xscale("log")
        ticks = sorted({point[0] for points in curves.values() for point in points})
        axes.set_xticks(ticks, [f"{round(tick):,}" for tick in ticks], minor=False)
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.set(xlabel="labels to learn from", ylabel="picks the better response, %")
        axes.grid(color="0.9", linewidth=0.7)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return stream.getvalue()
