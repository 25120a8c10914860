"""How results appear: worked on beside their final name, and renamed to it only when whole."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel

from assay.errors import OutputError

if sys.platform != "win32":
    import fcntl

_MARK = ".assay"  # --overwrite replaces only folders that hold this file, so that it can never eat a home folder
_CHECKPOINTS = "checkpoint-*"
_SPACE, _PLACE = "free some space, or write to another disk", "write to another place, or change its permissions"
_REASONS = {
    errno.ENOSPC: ("no space left on the disk", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EROFS: ("the disk is read-only", "write to another place"),
    errno.EACCES: ("no permission to write", _PLACE),
    errno.EPERM: ("no permission to write", _PLACE),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "another name"),
    errno.EEXIST: ("a file is in the way of a folder", "another name"),
    errno.EBUSY: ("this is in use, or the root of a disk", "write to a folder inside it"),
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def check_new(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a target that exists, unless it may be overwritten.

    Raises
    ------
    OutputError
        If something is there and ``overwrite`` is false, or if it is a folder that assay did not write.
    """
    path = Path(path)
    with _translated(path):
        if not path.exists():
            return
        if not overwrite:
            raise OutputError("this exists already", where=str(path), remedy="--overwrite, or another name")
        if path.is_dir() and not (path / _MARK).exists() and any(path.iterdir()):
            raise OutputError(
                "will not overwrite a folder that was not written by assay",
                where=str(path),
                remedy="another name, or remove the folder yourself",
            )


@contextmanager
def new_folder(
    path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False, keep_on_error: bool = False
) -> Iterator[Path]:
    """Give a folder to work in, ``path.partial``, which becomes ``path`` when the block ends well.

    Parameters
    ----------
    overwrite
        Replace what stands at ``path``, once the new folder is whole.
    resume
        Continue in the ``path.partial`` that an interrupted run left; without one, begin anew.
    keep_on_error
        Keep ``path.partial`` when the block raises, to resume it. A resumed folder is always kept.

    Raises
    ------
    OutputError
        Before any work: if ``path`` exists, if a leftover holds checkpoints and neither ``resume`` nor ``overwrite`` is
        given, if another run is writing there, if the place cannot be written. Later: if the disk is full.
    """
    target = Path(path).resolve()
    partial, former = target.with_name(target.name + ".partial"), target.with_name(target.name + ".former")
    with _translated(target):
        _restore(target, former)
        check_new(target, overwrite=overwrite)
        if target.is_file():
            raise OutputError("this is a file, not a folder", where=str(path), remedy="another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_leftover(partial, overwrite=overwrite, resume=resume)
        resumed = resume and partial.exists()
        lock = _claim(partial, fresh=not resumed)
    try:
        with _translated(target, _FULL):
            yield partial
    except BaseException:
        if not (keep_on_error or resumed):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    else:
        with _translated(target):
            _install(partial, target, former)
    finally:
        os.close(lock)


def _check_leftover(partial: Path, *, overwrite: bool, resume: bool) -> None:
    check_new(partial, overwrite=True)
    if not (resume or overwrite) and any(partial.rglob(_CHECKPOINTS)):
        raise OutputError(
            "an interrupted run left checkpoints here",
            where=str(partial),
            remedy="--resume to continue it, --overwrite to begin anew, or another name",
        )


def _claim(partial: Path, *, fresh: bool) -> int:
    """Lock the folder, emptied if ``fresh``; the lock ends with the process, however it ends."""
    partial.mkdir(exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OutputError("another run is writing here", where=str(partial), remedy="wait, or another name") from None
    except OSError:
        pass  # a network disk without locks
    if fresh:
        for child in partial.iterdir():
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    (partial / _MARK).touch()
    return lock


def _install(partial: Path, target: Path, former: Path) -> None:
    """Rename; a kill between the two renames leaves ``former``, which the next run puts back."""
    if target.exists():
        os.rename(target, former)
    os.rename(partial, target)
    shutil.rmtree(former, ignore_errors=True)


def _restore(target: Path, former: Path) -> None:
    if (former / _MARK).exists():
        if target.exists():
            shutil.rmtree(former)
        else:
            os.rename(former, target)


@contextmanager
def _translated(place: Path, only: frozenset[int] | None = None) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to try."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if "No space left on device" in str(error) or "os error 28" in str(error):
            code = errno.ENOSPC  # libraries that write weights hide it in classes of their own
        if code is None or (only and code not in only):
            raise
        problem, remedy = _REASONS.get(code, (os.strerror(code).lower(), "another name or place"))
        raise OutputError(problem, where=str(getattr(error, "filename", None) or place), remedy=remedy) from error


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write to, which is seen under its name only when the block ends well, also after a power cut.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = beside.open("wb")
        with file, _translated(target, _FULL):
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _translated(target):
            os.replace(beside, target)
    finally:
        if beside.is_file():
            beside.unlink()


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write one file so that it is seen whole or not at all, also after a power cut.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with new_file(path) as file:
        file.write(as_bytes(content))


def as_bytes(content: str | bytes) -> bytes:
    """Encode as UTF-8; a lone surrogate (half an emoji, from a cut string) becomes its escape, valid in JSON."""
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON with an indent of 2, keys in the given order; NaN and infinity become null.

    Takes numpy and torch values, paths, settings and other pydantic models too.

    Raises
    ------
    OutputError
        If it cannot be written.
    TypeError
        If a value has no form in JSON.
    """
    write_atomic(path, json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _key(key: Any) -> str | int | float | bool | None:
    return key.item() if hasattr(key, "item") else str(key) if isinstance(key, Path) else key
