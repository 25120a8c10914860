"""The folder of a task: what ``assay task`` writes, and how others read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assay.errors import AssayError, DataError
from assay.feedback import from_rows
from assay.feedback.labeling.writing import write_records
from assay.feedback.tasks.label_pairs import PairReport
from assay.feedback.tasks.shares import TaskShares
from assay.feedback.tasks.task import Example, Task, answer
from assay.output import as_bytes, write_json
from assay.workflows.task_settings import TaskSettings

#: Pairs by the name of their file.
BuiltPairs = dict[str, tuple[list[dict[str, Any]], PairReport]]


def write_task(settings: TaskSettings, task: Task, shares: TaskShares, pairs: BuiltPairs, folder: Path) -> None:
    """Write everything but ``metrics.json``; files without a line are left out."""
    way, teaching = settings.template, shares.teaching
    explained = [(one, why) for one in teaching if (why := _reason(one))]
    files = {
        "teach": [_taught(one, task.ask(one, way), answer(one.label, _reason(one))) for one in teaching],
        "teach_label": [_taught(one, task.ask(one, way), answer(one.label)) for one in teaching],
        "explain": [_taught(one, task.ask_why(one, one.label, way), why) for one, why in explained],
        "prompts": [_asked(task, one, way) for one in shares.asked],
        "test": [_asked(task, one, way) for one in shares.test],
    }
    for name, rows in files.items():
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_bytes(as_bytes(text))
    for name, (built, _) in pairs.items():
        if built:
            write_records(folder / f"{name}.parquet", from_rows(built))
    kept = {"name": task.name, "kind": task.kind, "labels": list(task.labels), "templates": list(task.templates)}
    write_json(folder / "task.json", kept | {"template": way})


def _taught(one: Example, prompt: str, reply: str) -> dict[str, Any]:
    own = {"dimension": "answer", "source": "label", "split_group": one.group}
    return {"prompt": _chat(prompt), "response": reply, "label": True, **own}


def _asked(task: Task, one: Example, way: int) -> dict[str, Any]:
    return {
        "prompt": _chat(task.ask(one, way)),
        "ground_truth": one.label,
        "choices": list(one.choices),
        "task": task.name,
        "texts": one.texts,
        "split_group": one.group,
    }


def _reason(example: Example) -> str:
    return next(iter(example.rationales.get(example.label, ())), "")


def _chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


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
        lines = (place / "test.jsonl").read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        task = Task(kept["name"], tuple(kept["templates"]), tuple(kept["labels"]), kept["kind"])
        examples = [
            Example(dict(row["texts"]), row["ground_truth"], tuple(row["choices"]), row["split_group"]) for row in rows
        ]
        usual = int(kept["template"])
        strange = [one.label for one in examples if one.label not in one.choices]
        if strange or not examples or not 0 <= usual < len(task.templates):
            raise ValueError(f"{len(examples)} examples, way {usual} of asking, labels without a choice: {strange[:3]}")
        return task, examples, usual
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssayError) as error:
        raise DataError(
            "this is no folder of a task",
            where=str(place),
            expected="task.json and test.jsonl, as assay task writes them",
            got=f"{type(error).__name__}: {error}"[:120],
            remedy="assay task NAME DATA --out FOLDER",
        ) from error
