"""What transforms found, in sentences for the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_LEAST_ACCURATE = 3


def notes(figures: Mapping[str, Any]) -> list[str]:
    """Return a line for everything among the figures of a transform that a reader should see."""
    return [line for name, tell in _TELLERS.items() if figures.get(name) is not None for line in tell(figures)]


def _gaps(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["without_gap"]:
        yield f"{figures['without_gap']} judgements without a gap keep their own target"


def _quantiles(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["quantiles"]:
        levels = ", ".join(f"{name} {value:.2g}" for name, value in figures["quantiles"].items())
        shares = f"{figures['saturated']:.0%} of the targets beyond 0.99, {figures['flat']:.0%} within 0.05 of one half"
        yield f"|gamma * gap|: {levels}; {shares}, {figures['tied']:.0%} tied"


def _fitted(figures: Mapping[str, Any]) -> Iterator[str]:
    found = figures["fitted"]
    low, high = found["ci95"]
    yield f"gamma {found['value']:.3g} ({low:.3g} to {high:.3g}) is the likeliest on {found['items']} pairs"


def _agreement(figures: Mapping[str, Any]) -> Iterator[str]:
    of = f"{figures['units']} pairs with two votes or more"
    if figures["alpha"] is None:
        yield "no pair has two votes, so nothing is known of agreement"
        return
    low, high = figures["ci95"]
    yield f"Krippendorff's alpha {figures['alpha']:.2f} ({low:.2f} to {high:.2f}) on {of}"
    if figures.get("accuracy_ceiling"):
        least, most = figures["accuracy_ceiling"]
        agreeing = f"{figures['agreeing']:.1%} of two votes on a pair agree"
        yield f"{agreeing}: no model can be right with more than {least:.1%} to {most:.1%} of single votes"


def _quality(figures: Mapping[str, Any]) -> Iterator[str]:
    worst = sorted(figures["quality"].items(), key=lambda each: each[1]["accuracy"])[:_LEAST_ACCURATE]
    told = ", ".join(f"{name} {row['accuracy']:.2f} of {row['votes']} votes" for name, row in worst)
    yield f"least accurate annotators: {told}"


def _doubted(figures: Mapping[str, Any]) -> Iterator[str]:
    low, high = figures["doubted_ci95"]
    yield (
        f"{figures['doubted']:.1%} ({low:.1%} to {high:.1%}) of {figures['judgements']:,} preferences would have been "
        "judged the other way"
    )


def _grades(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["grades"]["ungraded"]:
        yield f"{figures['grades']['ungraded']} responses without a grade are no part of the loss"


_TELLERS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "without_gap": _gaps,
    "fitted": _fitted,
    "saturated": _quantiles,
    "units": _agreement,
    "quality": _quality,
    "doubted": _doubted,
    "grades": _grades,
}
