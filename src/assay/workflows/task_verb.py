"""``assay task``: examples of a classification task become what policies and reward models learn from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.console import say
from assay.errors import DataError
from assay.feedback import from_rows, split
from assay.feedback.labeling.writing import write_records
from assay.feedback.tasks.known import TASKS
from assay.feedback.tasks.label_pairs import PairReport, control_pairs, label_pairs, rationale_pairs
from assay.feedback.tasks.loading import read_examples
from assay.feedback.tasks.rationales import Borrowed, NoRationale, RationaleSource, Templates, Written
from assay.feedback.tasks.shares import TaskShares, share_out_task
from assay.feedback.tasks.task import Example, Task, answer
from assay.output import as_bytes, check_new, new_folder, write_json
from assay.workflows.task_settings import TaskSettings

#: Pairs by kind, and whether a share of them tests reward models; controls do nothing else.
Pairs = dict[str, tuple[list[dict[str, Any]], PairReport]]
CONTROLS = ("swapped_label", "wrong_rationale")


def build_task(settings: TaskSettings) -> dict[str, Any]:
    """Run `assay task`; return what ``metrics.json`` holds.

    The folder holds ``teach.jsonl`` (answers with people's rationales where there are any) and ``teach_label.jsonl``
    (labels alone) for `assay align --method sft`; ``label.parquet``, ``rationale.parquet`` and their ``_test`` for
    `assay train`; ``swapped_label.parquet`` and ``wrong_rationale.parquet`` for `assay evaluate`; ``prompts.jsonl`` and
    ``test.jsonl`` with ``ground_truth``, ``choices``, ``texts`` and ``group``; ``task.json`` (`read_task`).

    Raises
    ------
    AssayError
        If data cannot be read, or what is asked for cannot be built of it; nothing is then written.
    """
    check_new(settings.out, overwrite=settings.overwrite)
    task = TASKS[settings.task].task
    shares = _shares(settings, task)
    pairs = _pairs(settings, task, shares)
    told: dict[str, Any] = {
        "task": task.name,
        "shares": {name: len(getattr(shares, name)) for name in ("teaching", "pairs", "asked", "test")},
        "removed": shares.removed,
        "labels": _labels(shares),
        "pairs": {kind: report.to_dict() for kind, (_, report) in pairs.items()},
    }
    for _, report in pairs.values():
        say("\n".join(report.lines()))
    if settings.dry_run:
        return {"dry_run": True, **told}
    with new_folder(settings.out, overwrite=settings.overwrite) as folder:
        _write(settings, task, shares, pairs, folder)
        write_json(folder / "metrics.json", told)
    return told


def _shares(settings: TaskSettings, task: Task) -> TaskShares:
    known = TASKS[settings.task]
    examples, report = read_examples(known, settings.data, settings.split)
    say("\n".join(report.lines()))
    test = None
    if settings.test is not None:
        test, other = read_examples(known, settings.test)
        say("\n".join(other.lines()))
    elif settings.test_part is not None:
        test = [one for one in examples if one.part == settings.test_part]
        if not test:
            raise DataError(
                "no example is of that part",
                where=f"{settings.data}, column split",
                expected=", ".join(sorted({str(one.part) for one in examples})),
                got=settings.test_part,
            )
        examples = [one for one in examples if one.part != settings.test_part]
    if test is not None and settings.most_test is not None:
        test = _some(test, settings.most_test, settings.seed)
    found = share_out_task(
        task,
        examples,
        test=test,
        test_share=settings.test_share,
        shares=settings.shares.model_dump(),
        most=settings.most,
        seed=settings.seed,
    )
    if found.removed:
        say(f"left out {found.removed:,} examples whose texts or groups the test holds too")
    return found


def _pairs(settings: TaskSettings, task: Task, shares: TaskShares) -> Pairs:
    """Build all kinds; rationale-sensitive ones only where people wrote rationales."""
    written = any(one.rationales for one in shares.pairs)
    chosen = settings.rationales
    if chosen == "auto":
        chosen = "borrowed" if written and task.kind != "choices" else "templates"
    if chosen == "borrowed" and not written:
        raise DataError(
            "nobody explained a label of this set",
            where=task.name,
            expected="examples with people's rationales",
            remedy="--rationales templates",
        )
    known: dict[str, RationaleSource] = {
        "borrowed": Borrowed(shares.pairs, settings.seed),
        "templates": Templates(seed=settings.seed),
        "none": NoRationale(),
    }
    source = known[chosen]
    common: dict[str, Any] = {"template": settings.template, "seed": settings.seed}
    found: Pairs = {
        "label": label_pairs(task, shares.pairs, source, settings.wrong, balance=settings.balance, **common)
    }
    if chosen != "none":
        found["swapped_label"] = control_pairs(task, shares.pairs, source, "swapped label", settings.wrong, **common)
        found["wrong_rationale"] = control_pairs(
            task, shares.pairs, source, "wrong rationale", settings.wrong, **common
        )
    if written:
        # what people wrote about this example over what they wrote about another one with the same label
        other = known["templates" if task.kind == "choices" else "borrowed"]
        found["rationale"] = rationale_pairs(
            task,
            shares.pairs,
            (Written(), other),
            lambda prompts, *_: np.ones(len(prompts)),
            template=settings.template,
            name="human",
        )
    if not found["label"][0]:
        raise DataError("no label-sensitive pair could be built", where=task.name, got=f"{len(shares.pairs)} examples")
    return found


def _write(settings: TaskSettings, task: Task, shares: TaskShares, pairs: Pairs, folder: Path) -> None:
    for name, reasons in (("teach", True), ("teach_label", False)):
        lines = [
            {
                "prompt": _chat(task.ask(one, settings.template)),
                "completion": [{"role": "assistant", "content": answer(one.label, _reason(one) if reasons else "")}],
                "label": True,
            }
            for one in shares.teaching
        ]
        _lines(folder / f"{name}.jsonl", lines)
    tested: set[str] = set()
    for kind, (rows, _) in pairs.items():
        if not rows:
            continue
        if kind in CONTROLS:
            # controls judge what learned from the other pairs, so they are about groups that it did not see
            own = [row for row in rows if row["split_group"] in tested]
            write_records(folder / f"{kind}.parquet", from_rows(own or rows))
            continue
        train, test = split(from_rows(rows), test=settings.pairs_test_share, seed=settings.seed)
        tested |= set(test["split_group"])
        write_records(folder / f"{kind}.parquet", train)
        write_records(folder / f"{kind}_test.parquet", test)
    for name, examples in (("prompts", shares.asked), ("test", shares.test)):
        asked = [
            {
                "prompt": _chat(task.ask(one, settings.template)),
                "ground_truth": one.label,
                "choices": list(one.choices),
                "texts": one.texts,
                "group": one.group,
            }
            for one in examples
        ]
        _lines(folder / f"{name}.jsonl", asked)
    kept = {"name": task.name, "kind": task.kind, "labels": list(task.labels), "templates": list(task.templates)}
    write_json(folder / "task.json", kept | {"template": settings.template})


def _reason(example: Example) -> str:
    return next(iter(example.rationales.get(example.label, ())), "")


def _chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_bytes(as_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)))


def _labels(shares: TaskShares) -> dict[str, dict[str, int]]:
    """Count labels by share, where there are few."""
    found = {}
    for name in ("teaching", "pairs", "asked", "test"):
        own = [one.label for one in getattr(shares, name)]
        names = sorted(set(own))
        found[name] = {label: own.count(label) for label in names} if len(names) <= 20 else {}
    return found


def _some(examples: list[Example], most: int, seed: int) -> list[Example]:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(examples))[:most])
    return [examples[int(k)] for k in chosen]


def read_task(folder: str) -> tuple[Task, list[Example], int]:
    """Return the task of a folder that `assay task` wrote, the examples that test, and the way they are asked.

    Raises
    ------
    DataError
        If the folder is none.
    """
    place = Path(folder).expanduser()
    try:
        kept = json.loads((place / "task.json").read_text(encoding="utf-8"))
        lines = (place / "test.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        task = Task(kept["name"], tuple(kept["templates"]), tuple(kept["labels"]), kept["kind"])
        examples = [
            Example(dict(row["texts"]), row["ground_truth"], tuple(row["choices"]), row["group"]) for row in rows
        ]
        return task, examples, int(kept["template"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "this is no folder of a task",
            where=str(place),
            expected="task.json and test.jsonl, as assay task writes them",
            got=f"{type(error).__name__}: {error}"[:120],
            remedy="assay task NAME DATA --out FOLDER",
        ) from error
