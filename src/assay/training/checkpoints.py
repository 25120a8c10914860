"""Checkpoints that count only when whole: a marker, written last, says so."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

MARKER = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)$")


def mark_complete(checkpoint: str | os.PathLike[str]) -> None:
    """Flush a checkpoint's files to disk and then write its marker."""
    folder = Path(checkpoint)
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    with open(folder / MARKER, "w", encoding="utf-8") as file:
        file.write("all files of this checkpoint were written\n")
        file.flush()
        os.fsync(file.fileno())


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name, or -1 for another folder."""
    found = _NAME.search(checkpoint.name)
    return int(found.group(1)) if found else -1


def all_checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """List checkpoint folders, whole or torn, by step."""
    return sorted((path for path in Path(folder).glob("checkpoint-*") if step_of(path) >= 0), key=step_of)


def newest_complete(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest whole checkpoint, or None."""
    return next((path for path in reversed(all_checkpoints(folder)) if (path / MARKER).exists()), None)


def remove_torn(folder: str | os.PathLike[str]) -> list[str]:
    """Delete checkpoints without a marker; return their names."""
    torn = [path for path in all_checkpoints(folder) if not (path / MARKER).exists()]
    for path in torn:
        shutil.rmtree(path)
    return [path.name for path in torn]


def rotate(folder: str | os.PathLike[str], keep: int, best: str | None) -> None:
    """Delete all but the newest ``keep`` whole checkpoints and the best one."""
    whole = [path for path in all_checkpoints(folder) if (path / MARKER).exists()]
    for path in whole[:-keep] if keep > 0 else []:
        if best is None or path.name != Path(best).name:
            # the marker goes first, so that a kill in between leaves a torn folder, not a broken one
            (path / MARKER).unlink()
            shutil.rmtree(path)
