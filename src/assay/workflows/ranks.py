"""A training run in several processes: the first writes the run, the others compute beside it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")

#: Verbs that several processes can run together.
IN_SEVERAL = ("train",)


def count() -> int:
    """Return how many processes a launcher started (``accelerate launch``, ``torchrun``)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def share_folder(folder: Path | None = None) -> Path:
    """Tell the other processes where the run is written; they call it without a folder, and wait."""
    if count() == 1:
        assert folder is not None
        return folder
    from accelerate.utils import broadcast_object_list

    _state()
    return Path(broadcast_object_list([str(folder)])[0])


def agreed(value: T) -> T:
    """Return what the first process came to; every process must ask."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return cast(T, broadcast_object_list([value])[0])


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process of each machine do its part before the others, which then find it in the cache."""
    if count() == 1:
        yield
    else:
        with _state().local_main_process_first():
            yield


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print nothing but errors that end the process: one process tells how the run goes."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _state() -> Any:
    from accelerate import PartialState

    from assay.workflows import hardware

    # the others wait while the first downloads a model, or judges one
    return PartialState(cpu=hardware.best_device().type == "cpu", timeout=timedelta(days=1))
