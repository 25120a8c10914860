"""What a study of methods advises: which to use, and what it cannot tell."""

from __future__ import annotations

from assay.evaluation.efficiency import Comparison, Uncertain


def recommendation(comparison: Comparison, smallest: float) -> list[str]:
    """Return what a study advises, in sentences."""
    base, labels = comparison.baseline, comparison.curves[comparison.baseline].labels
    last = float(comparison.curves[base].fractions[-1])
    ahead, surer = (_certain(comparison, last, metric, smallest) for metric in ("accuracy", "nll"))
    compared = [name for name in comparison.curves if name != base and last in comparison.over_baseline(name)]
    told = []
    count = f"{round(labels[-1]):,} judgements"
    if ahead:
        best = max(ahead, key=lambda name: ahead[name].value)
        low, high = ahead[best].ci95
        told.append(
            f"With {count}, use {best}: {100 * ahead[best].value:+.1f} points of accuracy over {base} "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f})."
        )
    elif surer:
        best = max(surer, key=lambda name: surer[name].value)
        told.append(
            f"With {count}, no method is certainly more often right than {base}. The probabilities of {best} are "
            f"better: {surer[best].value:.4f} nats less, calibrated."
        )
    elif compared:
        told.append(f"With {count}, nothing is certainly better than {base}: use {base}.")
    else:
        told.append(f"With {count}, nothing was compared with {base}.")
    if len(labels) > 1:
        told += _at_few(comparison, smallest)
    needs = comparison.power(last, smallest)
    if needs is not None:
        tested = int((comparison.weight > 0).sum())
        what = f"To see a difference of {100 * smallest:g} points with 80 % power, "
        told.append(
            f"{what}a test needs about {needs['judgements']:,} judgements; this one has {tested:,}."
            if needs["judgements"] is not None
            else f"{what}more seeds are needed first, about {needs['seeds']:,}: they differ by too much."
        )
    return told


def _certain(comparison: Comparison, fraction: float, metric: str, smallest: float) -> dict[str, Uncertain]:
    """Return by how much those methods are ahead that certainly are, at a fraction."""
    found = {}
    for name in comparison.curves:
        estimate = comparison.over_baseline(name, metric).get(fraction) if name != comparison.baseline else None
        if estimate is not None and comparison.verdict(estimate, smallest) == "holds":
            found[name] = estimate
    return found


def _at_few(comparison: Comparison, smallest: float) -> list[str]:
    """Say what holds at smaller fractions, and whether more labels help at all."""
    base = comparison.baseline
    curve = comparison.curves[base]
    told = []
    for fraction, count in zip(curve.fractions[:-1], curve.labels[:-1], strict=True):
        found = _certain(comparison, float(fraction), "accuracy", smallest)
        if found:
            best = max(found, key=lambda name: found[name].value)
            told.append(f"With {round(count):,}, {best} is ahead by {100 * found[best].value:.1f} points.")
    gain = comparison.learns()
    if gain is not None and gain.value <= 2 * gain.standard_error:
        few, most = (round(curve.labels[at]) for at in (comparison.few, -1))
        told.append(
            f"{base} gains {100 * gain.value:.1f} points from {few:,} labels to {most:,}, within twice its error: "
            "these data say little about who needs fewer labels."
        )
    return told
