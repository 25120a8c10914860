"""Checkpoints that count only when whole: a marker, written last, says so and names the plan it belongs to."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from assay.errors import OutputError

MARKER = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)$")


def mark_complete(checkpoint: str | os.PathLike[str], plan: str = "") -> None:
    """Flush a checkpoint's files to disk and then write its marker, which holds the digest of the plan."""
    folder = Path(checkpoint)
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)
    beside = folder / f"{MARKER}.partial"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(plan + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / MARKER)
    _flush(folder)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unmark(checkpoint: str | os.PathLike[str]) -> None:
    """Take the marker away, before anything in the folder is written anew or deleted."""
    with contextlib.suppress(FileNotFoundError):
        (Path(checkpoint) / MARKER).unlink()


def is_complete(checkpoint: str | os.PathLike[str]) -> bool:
    """Tell whether the checkpoint's marker is there."""
    return (Path(checkpoint) / MARKER).is_file()


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name, or -1 for another folder."""
    found = _NAME.search(checkpoint.name)
    return int(found.group(1)) if found else -1


def all_checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """List checkpoint folders, whole or torn, by step."""
    return sorted((path for path in Path(folder).glob("checkpoint-*") if step_of(path) >= 0), key=step_of)


def newest_complete(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest whole checkpoint, or None."""
    return next((path for path in reversed(all_checkpoints(folder)) if is_complete(path)), None)


def remove_torn(folder: str | os.PathLike[str]) -> list[str]:
    """Delete checkpoints without a marker; return their names."""
    torn = [path for path in all_checkpoints(folder) if not is_complete(path)]
    for path in torn:
        shutil.rmtree(path)
    return [path.name for path in torn]


def rotate(folder: str | os.PathLike[str], keep: int, best: str | None) -> None:
    """Delete all but the newest ``keep`` (at least 1) whole checkpoints and the best one."""
    whole = [path for path in all_checkpoints(folder) if is_complete(path)]
    for path in whole[: -max(keep, 1)]:
        if best is None or path.name != Path(best).name:
            # the marker goes first, so that a kill in between leaves a torn folder, not a broken one
            unmark(path)
            shutil.rmtree(path)


def check_resumable(checkpoint: str | os.PathLike[str], plan: str) -> None:
    """Refuse a checkpoint that is torn, or that was written by a run with other batches.

    Raises
    ------
    OutputError
        Naming what does not fit.
    """
    where = os.fspath(checkpoint)
    if not is_complete(checkpoint):
        raise OutputError(
            "this checkpoint is not whole: writing it was interrupted",
            where=where,
            expected=f"the file {MARKER}, written last",
            remedy="resume_from_checkpoint=True takes the newest whole one",
        )
    stored = (Path(checkpoint) / MARKER).read_text(encoding="utf-8").strip()
    if stored != plan:
        raise OutputError(
            "this checkpoint belongs to a run with other batches",
            where=where,
            expected=f"the plan {plan}, made from data, seed, epochs, pairs_per_step, token_budget, and the number of "
            "processes and their kind of device",
            got=f"the plan {stored or 'of no name'}",
            remedy="resume with the arguments and data of the interrupted run, or begin in another folder",
        )


def check_unused(folder: str | os.PathLike[str]) -> None:
    """Refuse to begin a run where another one left whole checkpoints, which a later resumption would mix up.

    Raises
    ------
    OutputError
        Naming the newest of them.
    """
    newest = newest_complete(folder)
    if newest is not None:
        raise OutputError(
            "another run left its checkpoints here",
            where=os.fspath(folder),
            got=newest.name,
            remedy="resume_from_checkpoint=True to go on with it, or another output_dir",
        )
