"""``assay task``: examples of a classification task become what policies and reward models learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from assay.console import say
from assay.errors import DataError
from assay.evaluation.baselines import BagOfWords
from assay.evaluation.chance import near_chance
from assay.evaluation.intervals import SHARE, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms
from assay.evaluation.words import percent, percent_interval
from assay.feedback import from_rows
from assay.feedback import pairs as feedback_pairs
from assay.feedback.tasks.known import TASKS
from assay.feedback.tasks.label_pairs import PairReport, control_pairs, label_pairs, rationale_pairs
from assay.feedback.tasks.loading import TaskReport, read_examples
from assay.feedback.tasks.rationales import Borrowed, RationaleSource, Remembered, Written
from assay.feedback.tasks.shares import TaskShares, share_out_task
from assay.feedback.tasks.task import Example, Task
from assay.output import check_new, new_folder, write_json
from assay.workflows.task_files import BuiltPairs, write_task
from assay.workflows.task_settings import TaskSettings
from assay.workflows.task_sources import Prefer, confusion_of, preferring, sources, with_rationales

#: Share of the groups that tests where the data name no test.
DRAWN = 0.2
SHARES = ("teaching", "pairs", "pairs_test", "asked", "test")


def build_task(settings: TaskSettings) -> dict[str, Any]:
    """Run `assay task`; return what ``metrics.json`` holds.

    The folder holds ``teach.jsonl`` (answers with rationales where there are any), ``teach_label.jsonl`` (labels alone)
    and ``explain.jsonl`` (rationales for labels that are told) for `assay align --method sft`; ``label.parquet``,
    ``rationale.parquet`` and their ``_test`` for `assay train`; ``swapped_label.parquet`` and
    ``wrong_rationale.parquet`` for `assay evaluate`; ``prompts.jsonl`` and ``test.jsonl`` with ``ground_truth``,
    ``choices``, ``task``, ``texts`` and ``split_group``; ``task.json`` (`read_task`).

    Raises
    ------
    AssayError
        If data cannot be read, or what is asked for cannot be built of it; nothing is then written.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    task = TASKS[settings.task].task
    confused = None if settings.confused is None else confusion_of(settings.confused, task)
    divided, readings = _shares(settings, task)
    shares, argued = with_rationales(settings, task, divided)
    pairs = _pairs(settings, task, shares, argued, confused)
    told: dict[str, Any] = {
        "task": task.name,
        "read": {part: report.to_dict() for part, report in readings.items()},
        "shares": {name: len(getattr(shares, name)) for name in SHARES},
        "removed": shares.removed,
        "repeated": shares.repeated,
        "contradicted": shares.contradicted,
        "labels": _labels(shares),
        "pairs": {kind: report.to_dict() for kind, (_, report) in pairs.items()},
    }
    for _, report in pairs.values():
        say("\n".join(report.lines()))
    told["blind"] = _blind(pairs, "label")
    if pairs.get("rationale", ([],))[0] and pairs.get("rationale_test", ([],))[0]:
        told["blind_rationale"] = _blind(pairs, "rationale")
    if settings.dry_run:
        return {"dry_run": True, **told}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        write_task(settings, task, shares, pairs, folder)
        write_json(folder / "metrics.json", told)
    return told


def _shares(settings: TaskSettings, task: Task) -> tuple[TaskShares, dict[str, TaskReport]]:
    """Read and divide; return also what reading did."""
    known = TASKS[settings.task]
    examples, report = read_examples(known, settings.data, settings.split)
    readings, test = {"data": report}, None
    if settings.test is not None:
        test, readings["test"] = read_examples(known, settings.test, first=report.first)
        if report.first is None and readings["test"].first:
            # how labels are numbered shows in the test alone
            examples, readings["data"] = read_examples(
                known, settings.data, settings.split, first=readings["test"].first
            )
    part = _test_part(settings, examples)
    if part is not None:
        test = [one for one in examples if one.part == part]
        if not test:
            parts = sorted({one.part for one in examples if one.part is not None})
            raise DataError(
                "no example is of that part",
                where=f"{settings.data}, column split",
                expected=", ".join(parts) or "a column split with the part of each row",
                got=part,
                remedy="one of these" if parts else "name the file of the test with --test, or none for a share",
            )
        examples = [one for one in examples if one.part != part]
    for own in readings.values():
        say("\n".join(own.lines()))
    named = Counter(one.part or "without a name" for one in examples)
    if set(named) != {"without a name"}:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(named.items()))
        say(f"divided is, by the column split: {told}")
    found = share_out_task(
        task,
        examples,
        test=test,
        test_share=DRAWN if settings.test_share is None else settings.test_share,
        shares=settings.shares.model_dump(),
        most=settings.most,
        seed=settings.seed,
    )
    if settings.most_test is not None and len(found.test) > settings.most_test:
        found = replace(found, test=_some(found.test, settings.most_test, settings.seed))
    if found.removed:
        say(f"left out {found.removed:,} examples whose texts or groups the test holds too")
    if found.repeated:
        other = f", {found.contradicted:,} of them with another label" if found.contradicted else ""
        say(f"left out {found.repeated:,} examples whose texts an earlier one has{other}")
    return found, readings


def _test_part(settings: TaskSettings, examples: Sequence[Example]) -> str | None:
    """Return which part of the data tests: the one that is asked for, else the set's own test, where it has one."""
    if settings.test_part is not None or settings.test is not None or settings.test_share is not None:
        return settings.test_part
    parts = {one.part for one in examples}
    test = next((part for part in parts if part is not None and part.casefold() == "test"), None)
    if test is None or len(parts) < 2:
        return None
    say(f"what the column split calls {test} is the test (--test-share {DRAWN} would draw one)")
    return test


def _pairs(
    settings: TaskSettings, task: Task, shares: TaskShares, argued: str, confused: dict[str, dict[str, float]] | None
) -> BuiltPairs:
    """Build what teaches reward models, and of other groups what tests them, controls among it."""
    source_of, prefer = sources(settings, task, shares, argued), preferring(settings.rank)
    common: dict[str, Any] = {"template": settings.template, "seed": settings.seed, "confused": confused}
    found: BuiltPairs = {}
    for behind, examples in (("", shares.pairs), ("_test", shares.pairs_test)):
        # rationales are borrowed within a share
        source = Remembered(source_of(examples))
        rows = label_pairs(task, examples, source, settings.wrong, balance=settings.balance, **common)
        if not rows[0]:
            reasons = "; ".join(f"{count} without a pair: {reason}" for reason, count in rows[1].dropped.items())
            raise DataError(
                "no label-sensitive pair could be built",
                where=f"{task.name}, share {'pairs_test' if behind else 'pairs'}",
                expected="examples of two labels at least, each with a rationale for both sides",
                got=f"{len(examples)} examples; {reasons}",
                remedy="bring more examples, or raise --shares.pairs and --shares.pairs-test"
                + ("" if argued in ("none", "templates") else ", or --rationales templates"),
            )
        found[f"label{behind}"] = rows
        if behind and argued != "none":
            for kind in ("swapped label", "wrong rationale"):
                own = control_pairs(task, examples, source, kind, settings.wrong, **common)
                found[kind.replace(" ", "_")] = own
        if any(one.rationales for one in examples) or argued == "generated":
            author = Written("words" if argued == "words" else "human")
            found[f"rationale{behind}"] = _of_rationales(settings, task, examples, (author, source), prefer)
    empty = [f"pairs{behind}" for behind in ("", "_test") if not found.get(f"rationale{behind}", ([],))[0]]
    if empty:
        _without_rationales(settings, task, argued, " and ".join(empty))
    return found


def _without_rationales(settings: TaskSettings, task: Task, argued: str, empty: str) -> None:
    """Say, or refuse, that a share gives no pairs for a reward model of rationales."""
    if settings.require != "rationale":
        say(f"no rationale-sensitive pairs could be built of {empty}: no example has two rationales for its label")
        return
    raise DataError(
        "no rationale-sensitive pair could be built",
        where=f"{task.name}, {empty}, --require rationale",
        expected="examples with people's rationales, --rationales words, or generated ones and who ranks them (--rank)",
        got=f"--rationales {argued}, and no two rationales for one label",
        remedy="another --rationales; where only some examples are explained, larger --shares.pairs, .pairs-test",
    )


def _of_rationales(
    settings: TaskSettings,
    task: Task,
    examples: list[Example],
    known: tuple[RationaleSource, Remembered],
    prefer: tuple[Prefer, str],
) -> tuple[list[dict[str, Any]], PairReport]:
    """Build pairs of what is about the example and of what is written for another one: with its label, where it may be.

    Where nothing is about examples, a generator writes twice, and somebody ranks.
    """
    author, source = known
    if any(one.rationales for one in examples):
        other = Borrowed(examples, settings.seed, any_label=task.kind == "choices")
        both: tuple[RationaleSource, RationaleSource] = (author, other)
    elif settings.rank is None:
        return [], PairReport("rationale", source.name, "none; nobody ranks")
    else:
        both = (source, source.source)
    return rationale_pairs(task, examples, both, prefer[0], template=settings.template, name=prefer[1])


def _blind(pairs: BuiltPairs, kind: str) -> dict[str, Any]:
    """Say how well a bag of words of the answers alone tells which side is right: pairs that carry an artefact do so.

    Returns
    -------
    dict
        Accuracy with its interval by group, weighted as the pairs are.
    """
    train, test = (feedback_pairs(from_rows(pairs[name][0])) for name in (kind, f"{kind}_test"))
    margins = BagOfWords().fit(train).delta(test)
    bootstrap = GroupBootstrap(test.group)
    found = bootstrap.ratio(accuracy_terms(margins, test.p), test.w, between=SHARE)
    interval = found.ci95 or (0.0, 1.0)
    say(
        f"a bag of words that does not see what is asked tells the right side of {percent(found.value)} "
        f"({percent_interval(interval)}) of {found.n:,} {kind}-sensitive pairs; chance is 50 %"
    )
    clean = near_chance(interval)
    if clean == "no":
        say(f"  the pairs carry an artefact: what reward models learn from them may not be the {kind}")
    # labels are what a task is for: that their pairs are clean is to be shown; of the others only what is sure is said
    elif kind == "label" and clean == "undecided":
        say("  too few pairs to tell an artefact of 2 points: raise --shares.pairs-test, or bring more examples")
    return found.to_dict()


def _labels(shares: TaskShares) -> dict[str, dict[str, int]]:
    """Count labels by share, where there are few."""
    found = {}
    for name in SHARES:
        own = [one.label for one in getattr(shares, name)]
        names = sorted(set(own))
        found[name] = {label: own.count(label) for label in names} if len(names) <= 20 else {}
    return found


def _some(examples: list[Example], most: int, seed: int) -> list[Example]:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(examples))[:most])
    return [examples[int(k)] for k in chosen]
