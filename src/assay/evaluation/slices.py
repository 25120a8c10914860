"""Accuracy on parts of the judgements: by size of the margin, by length difference, by source."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from assay.evaluation.intervals import SHARE, Estimate, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms, decided
from assay.feedback.pairs import Pairs

MARGIN_BINS = 5
LENGTH_BINS = 6
MAX_SOURCES = 20


@dataclass(frozen=True)
class Slice:
    """Accuracy on one part of the judgements.

    Attributes
    ----------
    label
        What the part is, in words.
    accuracy
        On the decided judgements of the part.
    low, high
        The quantity's range for a bin of |delta| or of length difference (characters); None elsewhere.
    """

    label: str
    accuracy: Estimate
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        row: dict[str, Any] = {"label": self.label, "accuracy": self.accuracy.to_dict()}
        return row if self.low is None else {**row, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class LengthSlices:
    """Accuracy where the judged-better response is the longer, the shorter, or neither; and by binned difference.

    ``bins`` run over length of the better minus length of the worse response, in characters: a scorer that merely likes
    length is right at the right end and wrong at the left.
    """

    longer_wins: Slice
    shorter_wins: Slice
    equal: Slice
    bins: tuple[Slice, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        named = {name: getattr(self, name).to_dict() for name in ("longer_wins", "shorter_wins", "equal")}
        return {**named, "bins": [part.to_dict() for part in self.bins]}


def _slices(
    parts: list[tuple[str, np.ndarray]], delta: np.ndarray, pairs: Pairs, bootstrap: GroupBootstrap
) -> list[Slice]:
    if not parts:
        return []
    keep = decided(pairs.p)
    weights = np.stack([pairs.w * (mask & keep) for _, mask in parts], axis=1)
    terms = np.where(keep, accuracy_terms(delta, pairs.p), 0.0)
    estimates = bootstrap.ratios(np.repeat(terms[:, None], len(parts), axis=1), weights, between=[SHARE] * len(parts))
    return [Slice(label, estimate) for (label, _), estimate in zip(parts, estimates, strict=True)]


def _quantile_bins(values: np.ndarray, used: np.ndarray, bins: int) -> list[tuple[float, float, np.ndarray]]:
    """Cut at quantiles of the used values -> (low, high, mask); equal values stay together, so bins may be fewer."""
    if not np.any(used):
        return []
    cuts = np.unique(np.quantile(values[used], np.linspace(0, 1, bins + 1)[1:-1]))
    index = np.searchsorted(cuts, values, side="left")
    parts = []
    for k in np.unique(index[used]):
        mask = used & (index == k)
        parts.append((float(values[mask].min()), float(values[mask].max()), mask))
    return parts


def by_margin(delta: np.ndarray, pairs: Pairs, bootstrap: GroupBootstrap, bins: int = MARGIN_BINS) -> list[Slice]:
    """Cut at quantiles of |delta|; a scorer that knows what it knows is better at larger margins."""
    used = decided(pairs.p) & (pairs.w > 0)
    parts = _quantile_bins(np.abs(delta), used, bins)
    tops = [f"{high:.3g}" for _, high, _ in parts]
    labels = [f"up to {tops[0]}", *(f"{low} to {high}" for low, high in pairwise(tops))] if parts else []
    if len(parts) > 1:
        labels[-1] = f"above {tops[-2]}"
    named = [(label, mask) for label, (_, _, mask) in zip(labels, parts, strict=True)]
    found = _slices(named, delta, pairs, bootstrap)
    return [Slice(s.label, s.accuracy, low, high) for s, (low, high, _) in zip(found, parts, strict=True)]


def _length_label(low: int, high: int) -> str:
    """Name a range of length differences, better minus worse response, in characters."""
    if low == high:
        return f"{abs(low):,} {'longer' if low > 0 else 'shorter'}" if low else "equally long"
    if low >= 0:
        return f"{low:,} to {high:,} longer"
    return f"{-high:,} to {-low:,} shorter" if high <= 0 else f"{-low:,} shorter to {high:,} longer"


def by_length(delta: np.ndarray, pairs: Pairs, bootstrap: GroupBootstrap, bins: int = LENGTH_BINS) -> LengthSlices:
    """Split by the length difference of better and worse response."""
    gain = (pairs.length_a - pairs.length_b) * np.sign(pairs.p - 0.5)
    used = decided(pairs.p) & (pairs.w > 0)
    parts = _quantile_bins(gain, used, bins)
    named = [
        ("the better response is longer", used & (gain > 0)),
        ("the better response is shorter", used & (gain < 0)),
        ("equally long", used & (gain == 0)),
        *((_length_label(round(low), round(high)), mask) for low, high, mask in parts),
    ]
    longer, shorter, equal, *rest = _slices(named, delta, pairs, bootstrap)
    binned = [Slice(s.label, s.accuracy, low, high) for s, (low, high, _) in zip(rest, parts, strict=True)]
    return LengthSlices(longer, shorter, equal, tuple(binned))


def by_source(delta: np.ndarray, pairs: Pairs, bootstrap: GroupBootstrap) -> list[Slice]:
    """Split by who judged, most judgements first; beyond 20 sources the rest are put together, their number named."""
    names, counts = np.unique(pairs.source.astype(str), return_counts=True)
    ranked = names[np.argsort(-counts, kind="stable")]
    source = pairs.source.astype(str)
    parts = [(str(name), source == name) for name in ranked[:MAX_SOURCES]]
    rest = ranked[MAX_SOURCES:]
    if len(rest):
        parts.append((f"{len(rest)} further sources", np.isin(source, rest)))
    return _slices(parts, delta, pairs, bootstrap)
