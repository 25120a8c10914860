"""From the settings to what training learns: transformed judgements, grades in score units, and the objective."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.feedback import Pairs, algebra
from assay.feedback.annotators import agreement, dawid_skene, noise_ceiling, pooled, votes
from assay.feedback.cross_prompts import CROSS_PROMPT
from assay.feedback.drafts import GRADES_SOURCE
from assay.feedback.gamma import fit_gamma, pair_numbers, repeated_gaps
from assay.feedback.grades import GradeTable, grade_table
from assay.feedback.targets import TargetWarning, margin_targets, target_summary, transformed, warn_of_extremes
from assay.scorers.encoding import EncodedRecords
from assay.training.objective import GradedObjective, ListwiseObjective, Objective, PairwiseObjective
from assay.training.terms import (
    AttributeRegression,
    Centring,
    Contrast,
    LengthDecorrelation,
    Penalty,
    Term,
    TextRegulariser,
    Triplet,
)
from assay.workflows import feedback_settings as kinds
from assay.workflows.graded import with_grades
from assay.workflows.prepared import Prepared
from assay.workflows.settings import TrainSettings
from assay.workflows.strength import Strength, clean


def make_targets(target: Any, loss: Any, data: Dataset, given: Prepared, *, like: Prepared | None = None) -> Prepared:
    """Apply the settings of targets and loss to the records of one share.

    Parameters
    ----------
    target, loss
        `assay.workflows.feedback_settings`, any of their kinds.
    data, given
        The records, and the same encoded, perhaps cleaned.
    like
        The training share, prepared: a share that is held out decides nothing, and may lack what it has.

    Raises
    ------
    DataError
        If the training share lacks what the settings need.
    """
    table = grade_table(data) if needs_grades(target, loss) else None
    made = _TARGETS[target.kind](target, given, table, like)
    return made if loss.kind == "pairwise" else with_grades(loss, made, table, like)


def each_of_sweep(target: Any) -> list[Any]:
    """Return the settings that a sweep tries, one for each gamma; settings without a sweep as they are."""
    several = getattr(target, "sweep", ())
    return [target.model_copy(update={"gamma": gamma, "sweep": ()}) for gamma in several] or [target]


def cleaned(given: Prepared, settings: Any, strength: Strength) -> Prepared:
    """Return the same after cleaning by strength."""
    pairs, name = clean(settings, given.records.pairs, strength)
    return given.after(name, pairs, **strength.summary())


def objective_of(settings: TrainSettings) -> Objective:
    """Return the objective that the settings name."""
    loss, auxiliary, head = settings.objective, settings.auxiliary, settings.head
    if loss.kind == "pairwise":
        terms: dict[Term, float] = {
            Centring(settings.centring): settings.centring,
            Contrast(auxiliary.contrast, auxiliary.contrast_temperature): auxiliary.contrast,
            Triplet(auxiliary.triplet): auxiliary.triplet,
            AttributeRegression(auxiliary.attributes): auxiliary.attributes if head.kind == "attributes" else 0.0,
            Penalty(head.diversity if head.kind == "prototypes" else 0.0): head.diversity
            if head.kind == "prototypes"
            else 0.0,
            LengthDecorrelation(auxiliary.length_decorrelation): auxiliary.length_decorrelation,
        }
        used = tuple(term for term, factor in terms.items() if factor > 0)
        grm = settings.grm
        text = None if grm is None else TextRegulariser(grm.share, grm.kind, grm.beta)
        clip = np.inf if loss.clip is None else loss.clip
        return PairwiseObjective(clip=clip, terms=used, text=text, prefixes=loss.average == "tokens")
    if loss.kind == "listnet" or loss.kind == "listmle":
        return ListwiseObjective(loss.kind)
    return GradedObjective(loss.kind, getattr(loss, "levels", ()))


def needs_grades(target: Any, loss: Any) -> bool:
    """Tell whether grades are looked at."""
    return isinstance(target, kinds.Graded) or loss.kind != "pairwise"


@dataclass(frozen=True)
class Gaps:
    """The transformed gap of every judgement, NaN where there is none; where gaps come from; and the raw ones."""

    value: np.ndarray
    signal: str
    raw: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Mask of the judgements with a gap."""
        return np.isfinite(self.value)

    def filled(self) -> np.ndarray:
        """Return the gaps, 0 where there is none."""
        return np.where(self.there, self.value, 0.0)

    def told(self) -> dict[str, Any]:
        """Return what is reported of them."""
        return {"signal": self.signal, "without_gap": int((~self.there).sum())}


def gaps(target: kinds.Graded, given: Pairs, table: GradeTable, like: Prepared | None = None) -> Gaps:
    """Find the gap of every judgement.

    Raises
    ------
    DataError
        If no judgement of the training share has a gap.
    """
    signal = target.signal if like is None else like.fixed["signal"]
    raw = _grade_gaps(target, given, table, like) if signal != "confidence" else np.full(len(given), np.nan)
    if signal == "auto":
        signal = "grades" if np.isfinite(raw).any() else "confidence"
    if signal == "confidence":
        raw = np.sign(given.p - 0.5) * given.confidence
    there = np.isfinite(raw)
    if like is None and not there.any():
        raise DataError(
            "nothing says how much better one response is than the other",
            expected="grades of both responses, or the confidence of the judge",
            got=f"{len(given)} judgements without either",
            remedy="name their cells: --mapping.grades, --mapping.confidence (docs/data.md), or --target.kind judged",
        )
    raw = np.clip(raw, -target.clip, target.clip) if target.clip is not None else raw
    value = np.full(len(raw), np.nan)
    value[there] = transformed(raw[there], target.transform, None if like is None else like.fixed["gaps"])
    return Gaps(value, signal, raw)


def _grade_gaps(target: kinds.Graded, given: Pairs, table: GradeTable, like: Prepared | None) -> np.ndarray:
    if like is not None and not set(target.dimensions) <= set(table.dimensions):
        return np.full(len(given), np.nan)
    return table.gaps(given, target.dimensions, target.scale)


def _fixing(given: Prepared, found: Gaps, **more: Any) -> Prepared:
    raw = found.raw[found.there]
    return replace(given, fixed={**given.fixed, "signal": found.signal, "gaps": raw, **more})


def _mmpo(target: kinds.MarginMatching, given: Prepared, table: GradeTable, like: Prepared | None) -> Prepared:
    pairs = given.records.pairs
    found = gaps(target, pairs, table, like)
    there, told = found.there, found.told()
    gamma: float | None = 1.0
    if like is not None:
        gamma = like.fixed["gamma"]
    elif target.gamma == "fit":
        told["fitted"] = _fitted_gamma(pairs, found)
        gamma = told["fitted"]["value"]
    elif target.gamma is not None:
        gamma = None if target.gamma == "off" else float(target.gamma)
    told["gamma"] = gamma
    p = margin_targets(found.filled(), gamma)
    if gamma is not None and there.any():
        told |= target_summary(p[there], gamma * found.value[there])
        if like is None:
            warn_of_extremes(told, gamma)
    # a margin that came with the data may be the same gap once more
    plain = algebra.set_m(pairs, 0.0, found.signal, there)
    after = algebra.set_p(plain, p, found.signal, there)
    if target.ties == "drop":
        after = algebra.drop(after, there & (found.value == 0))
    name = "mmpo, gamma off" if gamma is None else f"mmpo, gamma {gamma:g}"
    return _fixing(given.after(name, after, **told), found, gamma=gamma)


def _fitted_gamma(pairs: Pairs, found: Gaps) -> dict[str, Any]:
    """Fit gamma on verdicts that are independent of the gap."""
    if found.signal == "grades":
        there = found.there & (pairs.source != GRADES_SOURCE)
        if not there.any():
            raise DataError(
                "the verdicts repeat the sign of the grade: they were made from the grades",
                expected="verdicts that are independent of the grades: of people who compared the responses",
                got=f"{int(found.there.sum())} verdicts that follow from grades",
                remedy="give target.gamma a number, or a list of numbers to sweep on the validation share",
            )
        gap, better = found.value[there], (np.sign(pairs.p - 0.5)[there] + 1.0) / 2.0
        fitted = fit_gamma(gap, better, pair_numbers(pairs)[there], grade="the grade")
    else:
        fitted = fit_gamma(*repeated_gaps(pairs, found.value), grade="the confidence")
    if not fitted.usable:
        raise DataError(
            f"the {found.signal} do not predict what others judge",
            expected="a gamma whose 95 % interval lies above 0",
            got=f"{fitted.value:.3g} ({fitted.ci95[0]:.3g} to {fitted.ci95[1]:.3g}) on {fitted.items} pairs",
            remedy="--target.kind judged, or give gamma a number",
        )
    return fitted.to_dict()


def _smooth(target: kinds.Smoothed, given: Prepared, table: Any, like: Prepared | None) -> Prepared:
    return given.after(f"smooth by {target.epsilon:g}", algebra.smooth(given.records.pairs, target.epsilon))


def _margin(target: kinds.AdditiveMargin, given: Prepared, table: GradeTable, like: Prepared | None) -> Prepared:
    pairs = given.records.pairs
    found = gaps(target, pairs, table, like)
    after = algebra.set_m(pairs, target.factor * found.filled(), found.signal, found.there)
    return _fixing(given.after(f"margin, {target.factor:g} times the gap", after, **found.told()), found)


def _weight(target: kinds.WeightByGap, given: Prepared, table: GradeTable, like: Prepared | None) -> Prepared:
    pairs = given.records.pairs
    found = gaps(target, pairs, table, like)
    size = np.abs(found.filled())
    mean = size[found.there].mean() if found.there.any() else 0.0
    after = algebra.scale_w(pairs, size / (mean if mean > 0 else 1.0), found.there)
    return _fixing(given.after("weight by gap", after, **found.told()), found)


def _votes(target: kinds.Votes, given: Prepared, table: Any, like: Prepared | None) -> Prepared:
    if like is not None:
        return given  # each vote is asked by itself
    pairs = given.records.pairs
    added = pairs.source == CROSS_PROMPT  # nobody's votes
    found = votes(pairs.take(~added))
    told = agreement(found)
    if told["agreeing"] is not None:
        told["accuracy_ceiling"] = list(noise_ceiling(told["agreeing"]))
    decided = np.bincount(found.annotator[found.verdict != 0.5], minlength=len(found.names))
    if target.method == "dawid_skene":
        quality = dawid_skene(found)
        rows = zip(found.names, quality.count.tolist(), quality.accuracy.tolist(), strict=True)
        told["quality"] = {name: {"votes": count, "accuracy": accuracy} for name, count, accuracy in rows}
    _warn_of_single_votes(target.method, np.array(found.names)[decided < 2], len(found.names))
    return given.after(
        f"votes by {target.method}", _joined(pooled(pairs.take(~added), target.method), pairs.take(added)), **told
    )


def _warn_of_single_votes(method: str, once: np.ndarray, annotators: int) -> None:
    if len(once):
        named = ", ".join(map(str, once[:3])) + (" …" if len(once) > 3 else "")
        means = "their quality is a guess, near 0.8" if method == "dawid_skene" else "nothing tells how good they are"
        warnings.warn(
            f"{len(once)} of {annotators} annotators have one decided vote or none ({named}): {means}",
            TargetWarning,
            stacklevel=3,
        )


def _joined(one: Pairs, other: Pairs) -> Pairs:
    return one.joined(other) if len(other) else one


def _prior(target: kinds.PriorConstraint, given: Prepared, table: Any, like: Prepared | None) -> Prepared:
    if like is not None:
        return given  # the bound is a device of training
    similar = length_similarity(given.records) if target.similarity == "length" else angular_similarity(given)
    bound = target.bound(similar)
    after = algebra.reversed_copy(given.records.pairs, bound, "similarity")
    told = {"median_similarity": float(np.median(similar)), "median_bound": float(np.median(bound))}
    return given.after("prior constraint", after, **told)


def length_similarity(records: EncodedRecords) -> np.ndarray:
    """Return shorter over longer length of the two texts of each judgement, behind what they begin with in common."""
    found = np.ones(len(records.pairs))
    offsets, given = records.offsets, records.pairs
    for index, (row, a, b) in enumerate(zip(given.row, given.a, given.b, strict=True)):
        one, other = records.text(int(offsets[row] + a)), records.text(int(offsets[row] + b))
        least = min(len(one), len(other))
        differs = np.flatnonzero(one[:least] != other[:least])
        common = int(differs[0]) if len(differs) else least
        behind = len(one) - common, len(other) - common
        found[index] = min(behind) / max(behind) if max(behind) else 1.0
    return found


def angular_similarity(given: Prepared) -> np.ndarray:
    """Return ``1 - angle / pi`` of the backbone's states of the two texts of each judgement."""
    assert given.features is not None
    pairs, offsets = given.records.pairs, given.records.offsets
    one, other = (given.features[offsets[pairs.row] + side].astype(np.float64) for side in (pairs.a, pairs.b))
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(axis=1) / np.where(size > 0, size, 1.0)
    return np.asarray(1.0 - np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi)


def needs_features(settings: TrainSettings) -> bool:
    """Tell whether making the targets looks at the backbone's states."""
    target = settings.target
    return settings.clean.kind != "none" or (target.kind == "pcrm" and target.similarity == "cosine")


_TARGETS: dict[str, Callable[[Any, Prepared, Any, Prepared | None], Prepared]] = {
    "judged": lambda target, given, table, like: given,
    "mmpo": _mmpo,
    "smooth": _smooth,
    "margin": _margin,
    "weight": _weight,
    "votes": _votes,
    "pcrm": _prior,
}
