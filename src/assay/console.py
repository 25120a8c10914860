"""What the terminal shows: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar, overload

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from assay.errors import AssayError

T = TypeVar("T")
_PIPE_WIDTH = 200  # characters; a pipe has no width, and rich would cut its tables at 80
CANNOT_RUN, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class _Console(Console):
    """Shows text as it is (users' texts hold brackets), and leaves broken pipes to `run_verb`."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def _console(stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if is_terminal or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def results_console() -> Console:
    """Return the console for results that print themselves."""
    return _console(stderr=False)


def quiet() -> None:
    """Keep libraries from drawing bars for work of a second, and from warning about each other."""
    import warnings

    from datasets import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    disable_progress_bars()
    # peft reads a property that newer transformers renamed
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)


def show(text: str) -> None:
    """Print a line of results on standard output, as it is."""
    print(text)


def say(text: str) -> None:
    """Print a line about the work on standard error, as it is."""
    _console(stderr=True).print(text, soft_wrap=True)


def show_table(rows: Iterable[Sequence[Any]], columns: Sequence[str], *, title: str | None = None) -> None:
    """Print a table of results; numbers stand on the right, floats with four significant digits, None as a dash."""
    lines = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        values = [line[index] for line in lines if line[index] is not None]
        numeric = bool(values) and all(isinstance(value, int | float) for value in values)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for line in lines:
        table.add_row(*map(_cell, line))
    _console(stderr=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Progress(AbstractContextManager["Progress[T]"], Generic[T]):
    """Progress of long work: ``for row in progress(rows, "reading")`` or ``with progress(1000, "scoring") as bar``.

    A bar on a terminal; elsewhere one line every ``every_seconds``, so that logs stay short.
    """

    def __init__(self, items: Iterable[T] | int | None, description: str, every_seconds: float = 30.0) -> None:
        self._items: Iterable[Any] = range(items or 0) if isinstance(items, int | None) else items
        self._total = items if isinstance(items, int) else len(items) if isinstance(items, Sized) else None
        self._description, self._every_seconds, self._done = description, every_seconds, 0
        self._bar: Bar | None = None
        self._start = self._spoken = time.monotonic()

    def __enter__(self) -> Self:
        self._start = self._spoken = time.monotonic()
        console = _console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            # by default rich would send standard output to this console, even where it goes to a file
            self._bar = Bar(*columns, *times, console=console, transient=True, redirect_stdout=False)
            self._bar.add_task(self._description, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._done += steps
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], steps)
        elif time.monotonic() - self._spoken >= self._every_seconds:
            self._spoken = time.monotonic()
            share = f" of {self._total:,} ({self._done / self._total:.0%})" if self._total else ""
            say(f"{self._description}: {self._done:,}{share}, {self._spoken - self._start:.0f} s")

    def reach(self, done: int, of: int | None = None) -> None:
        """Advance to a number of steps done; a lower one, as of a second pass over the same things, changes nothing."""
        self.advance(max(0, done - self._done))

    def __iter__(self) -> Iterator[T]:
        with self:
            for item in self._items:
                yield item
                self.advance()


@overload
def progress(items: Iterable[T], description: str, *, every_seconds: float = ...) -> Progress[T]: ...


@overload
def progress(items: int | None, description: str, *, every_seconds: float = ...) -> Progress[int]: ...


def progress(items: Iterable[T] | int | None, description: str, *, every_seconds: float = 30.0) -> Progress[Any]:
    """Show the progress of an iterable, or of a number of steps (None: unknown) counted by ``advance``."""
    return Progress(items, description, every_seconds)


def run_verb(verb: Callable[[], int | None]) -> int:
    """Run a verb and return its exit code.

    0 or what the verb returns; 2, with the message on standard error, for what the user can mend; 130 after Ctrl-C; 141
    when the reader of our output went away, as a shell shows it for any program. Anything else is a defect, and raised.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a user's text must not end the work
    try:
        code = verb() or 0
        sys.stdout.flush()
    except AssayError as error:
        say(f"error: {error}")
        return CANNOT_RUN
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # the interpreter flushes standard output once more at exit; give it somewhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code
