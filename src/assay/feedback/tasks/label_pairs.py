"""Pairs that hinge on the label, on the rationale, or on one while the other is changed (RLLR, Liao et al. 2024)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from assay.errors import DataError
from assay.feedback.records import comparison, edge
from assay.feedback.tasks.following import Argued, Following, follows_labels
from assay.feedback.tasks.rationales import RationaleSource
from assay.feedback.tasks.task import Example, Task, answer, read_answer
from assay.feedback.tasks.wrong_labels import WrongRule, balanced, wrong_labels

PairKind = Literal["label", "rationale", "swapped label", "wrong rationale"]


@dataclass
class PairReport:
    """What building pairs did.

    Attributes
    ----------
    kind, source, rule
        Of the pairs, of their rationales, and how wrong labels were chosen.
    pairs
        How many there are.
    dropped
        Reason -> examples without a pair.
    better, worse
        Label -> pairs (weighted) in which it is on that side; empty where each example has its own choices.
    characters
        Mean length of the better and the worse answer, over pairs as they are weighted.
    longer
        Share of pairs (weighted) whose better answer is the longer one, equal lengths as one half.
    follows
        Whether the rationales depend on the label that they are for; None: it was not asked.
    """

    kind: PairKind
    source: str
    rule: str
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    better: Counter[str] = field(default_factory=Counter)
    worse: Counter[str] = field(default_factory=Counter)
    characters: tuple[float, float] = (0.0, 0.0)
    longer: float = 0.5
    follows: Following | None = None

    def lines(self) -> list[str]:
        """Return it in words."""
        told = [f"{self.pairs:,} pairs of kind {self.kind}; rationales: {self.source}; wrong labels: {self.rule}"]
        told += [f"  without a pair {count:,}: {reason}" for reason, count in self.dropped.items()]
        told.append(
            f"  characters: {self.characters[0]:.0f} of the better, {self.characters[1]:.0f} of the worse side; the "
            f"better one is longer in {100 * self.longer:.0f} %"
        )
        if self.better:
            each = (f"{n} {self.better[n]:.0f}/{self.worse[n]:.0f}" for n in sorted({*self.better, *self.worse}))
            told.append(f"  labels by side, better/worse: {', '.join(each)}")
        return told + ([] if self.follows is None else [f"  {self.follows.line()}"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found = {name: dict(v) if isinstance(v, Counter) else v for name, v in vars(self).items()}
        return found | {"follows": None if self.follows is None else vars(self.follows)}


def label_pairs(
    task: Task,
    examples: Sequence[Example],
    source: RationaleSource,
    rule: WrongRule = "uniform",
    *,
    balance: bool = True,
    confused: Mapping[str, Mapping[str, float]] | None = None,
    template: int = 0,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], PairReport]:
    """Build label-sensitive pairs: the right label, argued for, over a wrong one, argued for by the same source.

    Parameters
    ----------
    task, examples
        What is asked.
    source
        Of both rationales.
    rule, confused, seed
        See `wrong_labels`.
    balance
        Weigh pairs by `balanced`: then a model that does not see the text gains nothing by preferring the more frequent
        label. Not where every example has its own choices.
    template
        Way to ask.

    Returns
    -------
    tuple
        Records and a report. Each record's ``meta`` has the kind, both labels and the source.
    """
    wrong = wrong_labels(task, examples, rule, confused=confused, seed=seed)
    right = [one.label for one in examples]
    ours, theirs = source(examples, right), source(examples, wrong)
    report, kept = PairReport("label", source.name, rule), list[Argued]()
    for one, label, why, why_not in zip(examples, wrong, ours, theirs, strict=True):
        if why is None or why_not is None:
            report.dropped["no rationale for both labels"] += 1
        else:
            kept.append((one, (one.label, why), (label, why_not)))
    kept, weights = _weighed(task, kept, report) if balance else (kept, None)
    report.follows = follows_labels(task, kept)
    return _records(task, kept, report, template, weights)


def control_pairs(
    task: Task,
    examples: Sequence[Example],
    source: RationaleSource,
    kind: Literal["swapped label", "wrong rationale"],
    rule: WrongRule = "uniform",
    *,
    confused: Mapping[str, Mapping[str, float]] | None = None,
    template: int = 0,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], PairReport]:
    """Build pairs that differ in one thing: the label under one rationale, or the rationale under the right label.

    A reward model that merely notices forced rationales prefers the right rationale. One that does not prefer the right
    label under the same rationale does not look at labels. One that does need not know what is right: there only the
    right label agrees with the rationale, which can be seen without what is asked.

    Parameters
    ----------
    task, examples, source, rule, confused, template, seed
        As of `label_pairs`.
    kind
        ``swapped label``: the rationale for the right label on both sides; ``wrong rationale``: the right label on both
        sides, argued for, and with what argues for the wrong one.

    Returns
    -------
    tuple
        Rows as `assay.feedback.from_rows` takes them, and what building them did.

    Raises
    ------
    ConfigError
        If wrong labels cannot be chosen by the rule.
    DataError
        If a pair is not of its kind.
    """
    wrong = wrong_labels(task, examples, rule, confused=confused, seed=seed)
    ours = source(examples, [one.label for one in examples])
    theirs = source(examples, wrong)
    report, kept = PairReport(kind, source.name, rule), list[Argued]()
    for one, label, why, why_not in zip(examples, wrong, ours, theirs, strict=True):
        if why is None or (kind == "wrong rationale" and why_not is None):
            report.dropped["no rationale"] += 1
        elif kind == "swapped label":
            kept.append((one, (one.label, why), (label, why)))
        elif why == why_not:
            report.dropped["the same rationale for both labels"] += 1
        else:
            kept.append((one, (one.label, why), (one.label, str(why_not))))
    kept, weights = _weighed(task, kept, report) if kind == "swapped label" else (kept, None)
    return _records(task, kept, report, template, weights)


def rationale_pairs(
    task: Task,
    examples: Sequence[Example],
    sources: tuple[RationaleSource, RationaleSource],
    prefer: Callable[[list[str], list[str], list[str]], np.ndarray],
    *,
    template: int = 0,
    name: str = "judge",
) -> tuple[list[dict[str, Any]], PairReport]:
    """Build rationale-sensitive pairs: the right label on both sides, two rationales, ranked by someone.

    Parameters
    ----------
    task, examples
        What is asked.
    sources
        Of the two rationales.
    prefer
        Prompts, first and second answers -> P(the first is better) ``[n]``; NaN where it abstains. A person's choice, a
        scorer, a judge or weak labels.
    template
        Way to ask.
    name
        Of who prefers.

    Raises
    ------
    DataError
        If the preferences are not as many as pairs.
    """
    right = [one.label for one in examples]
    first, second = (source(examples, right) for source in sources)
    report = PairReport("rationale", f"{sources[0].name} and {sources[1].name}", "none")
    report.rule = f"none; ranked by {name}"
    both = []
    for one, why, other in zip(examples, first, second, strict=True):
        if why is None or other is None or why == other:
            report.dropped["no two rationales"] += 1
        else:
            both.append((one, answer(one.label, why), answer(one.label, other)))
    asked = [task.ask(one, template) for one, _, _ in both]
    said = np.asarray(prefer(asked, [own for _, own, _ in both], [other for _, _, other in both]), np.float64)
    if said.shape != (len(both),):
        raise DataError(
            "preferences came for another number of pairs", where=name, expected=str(len(both)), got=str(said.shape)
        )
    rows, kept = [], []
    for (one, own, other), prompt, p in zip(both, asked, said, strict=True):
        if not np.isfinite(p) or p == 0.5:
            report.dropped["not ranked"] += 1
            continue
        sides = (own, other) if p > 0.5 else (other, own)
        verdict = edge(0, 1, float(max(p, 1 - p)), source=name)
        meta = {"kind": "rationale", "better": one.label, "worse": one.label, "rationales": report.source}
        meta |= _otherwise(task, one, template)
        rows.append(comparison(prompt, sides, [verdict], split_group=one.group, meta=meta))
        kept.append(one)
    check_label_pairs(task, rows, kept)
    _tell(task, report, rows)
    return rows, report


def check_label_pairs(task: Task, rows: Sequence[dict[str, Any]], examples: Sequence[Example]) -> None:
    """Refuse pairs that are not what their kind says: the builders' own last look at what they made.

    Parameters
    ----------
    task
        Of the pairs.
    rows, examples
        Records, and what each is about.

    Raises
    ------
    DataError
        If a better side has no right label, a worse side of a label-sensitive pair has it, or labels of a
        rationale-sensitive pair differ.
    """
    for number, (row, one) in enumerate(zip(rows, examples, strict=True)):
        labels = [read_answer(text, one.choices).label for text in row["responses"]]
        kind = _meta(row)["kind"]
        hinges = kind in ("label", "swapped label")
        if labels[0] != one.label or labels[1] is None or (labels[1] == one.label) == hinges:
            raise DataError(
                "a pair is not of its kind",
                where=f"{task.name}, pair {number + 1}",
                expected=f"{one.label} over {'another label' if hinges else one.label}",
                got=f"{labels[0]} over {labels[1]}",
            )


def _weighed(task: Task, kept: list[Argued], report: PairReport) -> tuple[list[Argued], np.ndarray | None]:
    """Return the pairs that can be balanced, and their weights; all as they are where each has its own choices."""
    if task.kind == "choices":
        return kept, None
    weights = balanced([(better[0], worse[0]) for _, better, worse in kept])
    if not weights.all():
        report.dropped["no pair has these labels the other way round"] += int((weights == 0).sum())
    return [own for own, weight in zip(kept, weights, strict=True) if weight], weights[weights > 0]


def _records(
    task: Task,
    kept: Sequence[Argued],
    report: PairReport,
    template: int,
    weights: np.ndarray | None,
) -> tuple[list[dict[str, Any]], PairReport]:
    rows = []
    for number, (one, better, worse) in enumerate(kept):
        weight = 1.0 if weights is None else float(weights[number])
        meta = {"kind": report.kind, "better": better[0], "worse": worse[0], "rationales": report.source}
        meta |= _otherwise(task, one, template)
        verdict = edge(0, 1, w=weight, source="label")
        sides = [answer(*better), answer(*worse)]
        rows.append(comparison(task.ask(one, template), sides, [verdict], split_group=one.group, meta=meta))
    check_label_pairs(task, rows, [one for one, _, _ in kept])
    _tell(task, report, rows)
    return rows, report


def _otherwise(task: Task, one: Example, template: int) -> dict[str, Any]:
    """Return the other ways to ask, for terms and figures over paraphrases."""
    ways = [task.ask(one, way) for way in range(len(task.templates)) if way != template]
    return {"otherwise": ways} if ways else {}


def _tell(task: Task, report: PairReport, rows: Sequence[dict[str, Any]]) -> None:
    """Count what is on which side, and how long."""
    report.pairs = len(rows)
    for row in rows if task.kind != "choices" else ():
        meta, weight = _meta(row), row["edges"][0]["w"]
        report.better[meta["better"]] += weight
        report.worse[meta["worse"]] += weight
    if rows:
        lengths = np.array([[len(text) for text in row["responses"]] for row in rows], np.float64)
        weights = np.array([row["edges"][0]["w"] for row in rows], np.float64)
        better, worse = np.average(lengths, axis=0, weights=weights)
        report.characters = (float(better), float(worse))
        gap = np.sign(lengths[:, 0] - lengths[:, 1])
        report.longer = float((1 + np.average(gap, weights=weights)) / 2)


def _meta(row: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(row["meta"]))
