"""The prompts of an online run: read from any layout, each once, with the cells that rewards are given by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import ConfigError, DataError
from assay.feedback import ColumnMapping, read_with_report, split
from assay.feedback.detection import families
from assay.feedback.pair_shapes import PROMPT_COLUMNS
from assay.feedback.problems import RowError
from assay.feedback.records import as_chat
from assay.feedback.sources import open_source
from assay.scorers import Policy
from assay.scorers.sampling import leave_room, no_room
from assay.scorers.verifiers import Verifier
from assay.training.rollouts import Prompts
from assay.workflows.data import group_keys, unseen
from assay.workflows.online_rewards import verifier_of
from assay.workflows.online_settings import BY_LABEL, OnlineSettings

#: Columns of layouts that say themselves what is a prompt.
_KNOWN = {"responses", "completions", "completion", "chosen", "rejected", "edges", "text", "dimension", "conversation"}
_KNOWN |= {"reward_model", "ground_truth"}
_TRY = "--mapping.prompt COLUMN, with --mapping.ground-truth COLUMN where there is one: every other column goes along"


def read_prompts(settings: OnlineSettings) -> tuple[Dataset, Dataset | None]:
    """Read prompts, each once, and those that are held out.

    Raises
    ------
    DataError
        If no layout fits, there are none, or all are held out.
    """
    data = _read(settings, settings.data)
    if settings.test is not None:
        test = _read(settings, settings.test, split=None)
        data, shared = unseen(data, group_keys(test))
        if not len(data):
            raise DataError("every prompt of DATA is held out too", where=settings.test, expected="other prompts")
        if shared:
            say(f"left out {shared:,} prompts of DATA that --test holds too")
        return data, test
    if settings.test_share == 0:
        return data, None
    return split(data, test=settings.test_share, seed=settings.seed)


def _read(settings: OnlineSettings, source: str, **changes: Any) -> Dataset:
    options = settings.reading() | {"ratings": "responses"} | changes
    if options["format"] == "auto" and options["mapping"] is None:
        column = _prompt_column(_first_row(source, options["split"]))
        options["mapping"] = None if column is None else ColumnMapping(kind="prompts", prompt=[column])
    try:
        data, report = read_with_report(source, **options)
    except DataError as error:
        if options["mapping"] is not None or options["format"] != "auto":
            raise
        raise DataError(
            error.problem, where=error.where, expected=error.expected, got=error.got, remedy=f"{_TRY}; {error.remedy}"
        ) from error
    say("\n".join(report.lines()))
    names = np.asarray(data["prompt_id"], object)
    first = np.unique(names, return_index=True)[1]
    if not len(first):
        raise DataError("there are no prompts", where=source, expected="one at least")
    _tell_of_truths(settings, data, names)
    return data.select(np.sort(first))


def _tell_of_truths(settings: OnlineSettings, data: Dataset, names: np.ndarray) -> None:
    """Say of how many prompts that come several times the truths differ: the first one counts."""
    verifier, columns = settings.reward.verifier, prompts_of(data).columns
    truths = columns.get("ground_truth" if verifier is None else verifier.column, [])
    found: dict[str, set[str]] = {}
    for name, truth in zip(names.tolist(), truths, strict=False):
        found.setdefault(name, set()).add(repr(truth))
    several = sum(len(own) > 1 for own in found.values())
    if several:
        say(f"{several:,} prompts come more than once with different truths: the first one counts")


def _first_row(source: str, part: str | None) -> dict[str, Any]:
    """Return the first row that can be read, or an empty one."""
    for file in open_source(source, part).parts:
        for _, row in file.rows():
            if not isinstance(row, RowError):
                return row
    return {}


def _prompt_column(row: dict[str, Any]) -> str | None:
    """Return the one column of a row that asks, where all others just stand beside it; None: a layout has to fit."""
    columns = set(row)
    if columns & _KNOWN or families(frozenset(columns)):
        return None
    asking = [name for name in ("prompt", *PROMPT_COLUMNS, "problem") if name in columns]
    # an input is part of what is asked, which its own layout knows
    if not asking or len(columns) == 1 or "input" in columns:
        return None
    return asking[0] if asking[0] == "prompt" or len(asking) == 1 else None


def some_of(data: Dataset, settings: OnlineSettings) -> Dataset:
    """Return so many of the held-out prompts as are looked at."""
    chosen = np.random.default_rng(settings.seed).permutation(len(data))[: settings.held_out]
    return data.select(np.sort(chosen))


def asks_in_chats(settings: OnlineSettings) -> bool:
    """Tell whether the file's prompts are lists of messages, which reward functions then get too."""
    row, mapping = _first_row(settings.data, settings.split), settings.mapping
    column = mapping.prompt[0] if mapping is not None else (_prompt_column(row) or "prompt")
    # records keep every prompt as messages, whatever it was
    return "edges" not in row and isinstance(row.get(column), (list, tuple))


def prompts_of(data: Dataset, as_chats: bool = False) -> Prompts:
    """Return what is asked, with what the data say of each: the truth, and the cells that were not understood.

    Where every prompt is one user message all are strings, unless the file had messages, else all are messages: a
    reward function sees one kind.
    """
    chats = [as_chat(row) for row in data["prompt"]]
    plain = all(len(chat) == 1 and set(chat[0]) == {"role", "content"} and chat[0]["role"] == "user" for chat in chats)
    asked: list[Any] = [chat[0]["content"] for chat in chats] if plain and not as_chats else list(chats)
    columns: dict[str, list[Any]] = {}
    if "ground_truth" in data.column_names:
        columns["ground_truth"] = list(data["ground_truth"])
    cells = [(json.loads(meta) if meta else {}).get("row", {}) for meta in data["meta"]]
    for name in sorted({name for own in cells for name in own} - {"prompts", "completions", "completion_ids"}):
        columns.setdefault(name, [own.get(name) for own in cells])
    return Prompts(asked, columns)


def check_truths(settings: OnlineSettings, *asked: Prompts | None) -> None:
    """Look at the truths that a verifier will compare with, before anything is trained.

    Raises
    ------
    ConfigError
        If a column is missing, or a truth is none.
    """
    given = settings.reward.verifier
    if given is None or given.majority:
        return
    _check(verifier_of(given), [own for own in asked if own is not None])


def check_routes(settings: OnlineSettings, *asked: Prompts | None) -> None:
    """Look whether each prompt's task has a reward, before anything is trained.

    Raises
    ------
    ConfigError
        If there is no column ``task``, it names one without a reward, or one of which the right label is rewarded has
        prompts without that.
    """
    routes = settings.reward.routes
    if not routes:
        return
    shares = [own.columns for own in asked if own is not None]
    if not any("task" in own for own in shares):
        raise ConfigError(
            "the data do not tell the task of a prompt",
            where="task",
            expected="a column task with one of " + ", ".join(routes),
            got=", ".join(shares[0]) or "no column beside the prompts",
        )
    tasks = [str(task) for own in shares for task in own.get("task", ())]
    missing = sorted(set(tasks) - set(routes))
    if missing:
        without = sum(task in missing for task in tasks)
        raise ConfigError(
            "prompts are of a task that has no reward",
            where=f"task of {without:,} of {len(tasks):,} prompts",
            expected="one of " + ", ".join(routes),
            got=", ".join(missing[:5]),
            remedy="add --reward.routes.TASK MODEL, or leave these prompts out",
        )
    by_label = {task for task, name in routes.items() if name == BY_LABEL}
    chosen = [
        own.chosen(np.flatnonzero([str(task) in by_label for task in own.columns.get("task", ())]))
        for own in asked
        if own is not None
    ]
    if sum(len(own) for own in chosen):
        _check(Verifier("label"), chosen)


def _check(verifier: Verifier, asked: Sequence[Prompts]) -> None:
    """Look at the truths of all together: in one share all may be missing."""
    verifier.check({n: [cell for own in asked for cell in own.columns.get(n, ())] for n in asked[0].columns})


def with_room(policy: Policy, data: Dataset, new: int) -> tuple[Dataset, int]:
    """Leave out prompts that are cut, or behind which there is no room; return how many too.

    Raises
    ------
    ModelError
        If none is left.
    """
    room = leave_room(policy, prompts_of(data).asked, new)
    if not room.any():
        raise no_room(len(room), new)
    return data.select(np.flatnonzero(room)), int((~room).sum())
