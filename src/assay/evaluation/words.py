"""What the numbers say, in sentences that need no statistics; used by the terminal and by the report."""

from __future__ import annotations

from collections.abc import Sequence

from assay.evaluation.calibration import FLAG_MEANINGS, Temperature
from assay.evaluation.comparison import BaselineResult, Comparison, verdict
from assay.evaluation.evaluate import Evaluation, Probabilities
from assay.evaluation.intervals import Estimate
from assay.evaluation.isotonic import Isotonic

#: Name of a baseline as a row of a table, and as part of a sentence.
BASELINE_LABELS = {
    "length": ("Longer response wins", "always choosing the longer response"),
    "bag_of_words": ("Bag of words", "a bag of words"),
    "blind": ("Same model, prompt hidden", "the same model without the prompt"),
}
#: Judgements to a group from which on they are too alike to count as so many.
MANY_JUDGEMENTS = 30
_REVERSED = {"length": "always choosing the shorter one"}


def label(name: str) -> str:
    """Name a baseline for a table."""
    return BASELINE_LABELS.get(name, (name.replace("_", " "), ""))[0]


def phrase(name: str) -> str:
    """Name a baseline within a sentence."""
    return BASELINE_LABELS.get(name, ("", name.replace("_", " ")))[1]


def percent(share: float) -> str:
    """Write a share as ``64.1 %``; a dash for NaN."""
    return f"{100 * share:.1f} %" if share == share else "–"


def points(share: float) -> str:
    """Write a difference of shares as ``+3.2 points``."""
    return f"{100 * share:+.1f} points" if share == share else "–"


def percent_interval(ci95: Sequence[float] | None) -> str:
    """Write an interval of shares as ``60.2 to 68.0 %``; ``no interval`` where there is none."""
    return f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f} %" if ci95 else "no interval"


def points_interval(ci95: Sequence[float] | None) -> str:
    """Write an interval of differences as ``+0.4 to +7.9``."""
    return f"{100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f}" if ci95 else "no interval"


def joined(parts: Sequence[str]) -> str:
    """Join parts as ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def headline(evaluation: Evaluation, model: str = "the model") -> str:
    """Say how often the model picks the better response, and how often simple rules do."""
    accuracy = evaluation.accuracy
    if accuracy.n == 0:
        return "No held-out judgement takes a side, so there is no accuracy to report."
    text = (
        f"{_capital(model)} picks the better response in {percent(accuracy.value)} of {accuracy.n:,} held-out "
        f"judgements (95 % interval {percent_interval(accuracy.ci95)})."
    )
    others = [f"{phrase(name)} gets {percent(r.accuracy.value)}" for name, r in evaluation.baselines.items()]
    for name, result in evaluation.baselines.items():
        if result.reversed_difference and name in _REVERSED:
            others.append(f"{_REVERSED[name]} gets {percent(1 - result.accuracy.value)}")
    return f"{text} {_capital(joined(others))}; a coin gets 50 %." if others else f"{text} A coin gets 50 %."


def ties_sentence(evaluation: Evaluation) -> str | None:
    """Say what was left out of accuracy, or None."""
    parts = []
    if evaluation.ties:
        parts.append(f"{evaluation.ties:,} judged ties are left out of accuracy and calibration error")
    if evaluation.predicted_ties:
        parts.append(f"{evaluation.predicted_ties:,} judgements to which the model gives equal scores count one half")
    if evaluation.zero_weight:
        parts.append(f"{evaluation.zero_weight:,} judgements of weight 0 do not count")
    return f"{_capital(joined(parts))}." if parts else None


def baseline_sentence(name: str, result: BaselineResult) -> str:
    """Say whether the model beats one baseline, by the paired interval."""
    difference, rule = result.difference, phrase(name)
    if result.reversed_difference:
        difference, rule = result.reversed_difference, _REVERSED.get(name, f"{rule}, turned round")
    size = f"{points(difference.value)}, 95 % interval {points_interval(difference.ci95)}"
    if result.verdict == "better":
        return f"It beats {rule} ({size})."
    if result.verdict == "worse":
        return f"It is worse than {rule} ({size})."
    return f"Whether it beats {rule} is not decided ({size}): more judgements would tell."


def verdict_of(evaluation: Evaluation) -> tuple[str, str]:
    """Sum up against all baselines -> (``better`` | ``worse`` | ``undecided`` | ``none``, one sentence)."""
    results = evaluation.baselines
    if not results:
        return "none", "No baseline was given, so nothing says whether the model knows more than simple rules."
    found = {result.verdict for result in results.values()}
    if found == {"better"}:
        which = "the baseline" if len(results) == 1 else "both baselines" if len(results) == 2 else "all baselines"
        return "better", f"The model knows more than simple rules: it beats {which}, beyond chance."
    beaten = [phrase(name) for name, result in results.items() if result.verdict == "better"]
    lost = [phrase(name) for name, result in results.items() if result.verdict == "worse"]
    if lost:
        return "worse", f"The model is worse than {joined(lost)}: do not use it in this state."
    if beaten:
        return "undecided", f"The model beats {joined(beaten)} beyond chance, but not every baseline."
    return "undecided", "On these judgements the model cannot be told apart from simple rules."


def calibration_sentence(probabilities: Probabilities, after: bool = False) -> str:
    """Say whether the probabilities can be believed, by the band of a calibrated predictor."""
    error = probabilities.ece
    if error.n == 0:
        return "There are no decided judgements to measure calibration on."
    low, high = error.null_band95
    when = "The calibrated" if after else "The raw"
    size = f"calibration error {error.value:.3f}; a perfectly calibrated model would get {low:.3f} to {high:.3f} here"
    if error.value <= high:
        return f"{when} probabilities show no sign of miscalibration ({size})."
    curve = probabilities.curve
    gap = float(curve.count @ (curve.confidence - curve.accuracy)) / max(int(curve.count.sum()), 1)
    kind = "over-confident" if gap > 0 else "under-confident"
    return f"{when} probabilities are {kind} ({size})."


def dependence_sentence(evaluation: Evaluation) -> str | None:
    """Warn that the band of a calibrated model is too narrow for long lists of responses, or return None.

    The band takes judgements as independent; those that follow from one ranking of many responses are not.
    """
    each = evaluation.n_pairs / max(evaluation.n_groups, 1)
    if each < MANY_JUDGEMENTS:
        return None
    return (
        f"With {each:.0f} judgements to a group, even a calibrated model leaves the range of its calibration error "
        "more often than one time in twenty: believe a miscalibration only where it is large."
    )


def fitted_sentence(evaluation: Evaluation) -> str | None:
    """Say how probabilities were calibrated and how sound the fit is, or None where they were not."""
    fitted = evaluation.calibration
    if fitted is None:
        return None
    if isinstance(fitted, Temperature):
        name = f"Temperature {fitted.value:.3g}"
    elif isinstance(fitted, Isotonic):
        name = f"Isotonic calibration of {len(fitted.margin)} points"
    else:
        name = f"Slope {fitted.slope:.3g} of single responses"
    text = f"{name}, fitted on {fitted.n:,} other judgements."
    return " ".join([text, *(f"Caution: {FLAG_MEANINGS.get(flag, flag)}." for flag in fitted.flags)])


def comparison_sentence(comparison: Comparison, model: str = "the model", other: str = "the other model") -> str:
    """Say which of two models is more often right on the same judgements."""
    difference: Estimate = comparison.accuracy
    size = f"{points(difference.value)}, 95 % interval {points_interval(difference.ci95)}"
    found = verdict(difference)
    if found == "undecided":
        return f"Which of {model} and {other} is more often right is not decided ({size})."
    return f"{_capital(model)} is {'more' if found == 'better' else 'less'} often right than {other} ({size})."
