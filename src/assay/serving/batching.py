"""One thread scores what many requests bring: batches by tokens, within a few milliseconds, in a bounded queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from assay.scorers.scored import Item, Measured


class Full(Exception):
    """Too much is waiting already."""


class Closing(Exception):
    """Nothing more is accepted."""


class Measures(Protocol):
    """What gives numbers of items: a `ScoringCore`."""

    def measure(self, items: Sequence[Item]) -> Measured:
        """Return the raw numbers of items."""
        ...


@dataclass
class _Work:
    """The items of one request, or a call that must run alone."""

    items: Sequence[Item]
    costs: list[int]
    call: Callable[[], Any] | None
    future: Future[Any]
    arrived: float
    done: int = 0
    parts: list[Measured] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens_left = sum(self.costs)

    @property
    def waiting(self) -> int:
        return max(len(self.items) - self.done, 1)


@dataclass(frozen=True)
class Batch:
    """What one forward pass was given, for `Batcher.noted`."""

    requests: int
    texts: int
    tokens: int
    seconds: float


class Batcher:
    """Gathers the items of requests and scores them together.

    A batch is filled in the order of arrival up to ``batch_tokens``; tokens that an item shares with the one before it
    in its request count once where ``shares``. A request that is larger gives its place up after each batch, so that
    small ones never wait for all of it. An error of a batch is told to the request that causes it alone.

    Parameters
    ----------
    core
        Scores; used by the one thread that is started here.
    batch_tokens
        Tokens of a batch.
    wait
        Seconds that the first item of a batch waits for others at most; while a batch is scored the next one fills up
        anyway.
    most
        Conversations that may wait.
    shares
        Whether common beginnings are computed once.
    noted
        Called with each `Batch`.
    """

    def __init__(
        self,
        core: Measures,
        *,
        batch_tokens: int,
        wait: float,
        most: int,
        shares: bool = False,
        noted: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        self._core, self._batch_tokens, self._wait, self._most = core, batch_tokens, wait, most
        self._shares, self._noted = shares, noted
        self._queue: deque[_Work] = deque()
        self._reserved = 0
        self._changed = threading.Condition()
        self._closed = self._ended = False
        self._thread = threading.Thread(target=self._run, name="assay-scoring", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Conversations that wait, those being encoded among them."""
        with self._changed:
            return self._reserved + sum(work.waiting for work in self._queue)

    def reserve(self, count: int) -> None:
        """Take places for conversations that are yet to be encoded; `submit` or `release` gives them back.

        Raises
        ------
        Full
            If there are not so many.
        Closing
            If the end has begun.
        """
        with self._changed:
            if self._closed:
                raise Closing
            if self._reserved + sum(work.waiting for work in self._queue) + count > self._most:
                raise Full
            self._reserved += count

    def release(self, count: int) -> None:
        """Give back places that were reserved."""
        with self._changed:
            self._reserved -= count

    def submit(self, items: Sequence[Item], reserved: int = 0, costs: list[int] | None = None) -> Future[Measured]:
        """Score items; ``reserved`` places are given back. ``costs``: as `costs` gives them, if they are known."""
        return self._append(items, self.costs(items) if costs is None else costs, None, reserved)

    def call(self, function: Callable[[], Any], reserved: int = 0) -> Future[Any]:
        """Run a function in the thread that scores."""
        return self._append((), [], function, reserved)

    def _append(
        self, items: Sequence[Item], costs: list[int], call: Callable[[], Any] | None, reserved: int
    ) -> Future[Any]:
        work = _Work(items, costs, call, Future(), time.monotonic())
        with self._changed:
            self._reserved -= reserved
            if not self._ended:
                self._queue.append(work)
                self._changed.notify()
            else:
                work.future.set_exception(Closing())
        return work.future

    def close(self) -> None:
        """Accept nothing more, and wait until all that was accepted is scored."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def costs(self, items: Sequence[Item]) -> list[int]:
        """Return how many tokens each item adds to the batch."""
        costs: list[int] = []
        before = np.zeros(0, np.int64)
        for item in items:
            ids = np.asarray(item.encoded.ids, np.int64)
            both = min(len(before), len(ids)) if self._shares else 0
            differ = np.flatnonzero(before[:both] != ids[:both])
            costs.append(max(len(ids) - int(differ[0] if len(differ) else both), 1))
            before = ids
        return costs

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._score(batch)

    def _next(self) -> list[tuple[_Work, slice]] | None:
        """Wait for the next batch; None when all is done."""
        with self._changed:
            while True:
                while self._queue and self._queue[0].future.cancelled():
                    self._queue.popleft()
                if not self._queue:
                    # places that are reserved will still bring work
                    if self._closed and self._reserved <= 0:
                        self._ended = True
                        return None
                    self._changed.wait(0.1 if self._closed else None)
                    continue
                left = self._queue[0].arrived + self._wait - time.monotonic()
                if self._closed or left <= 0 or self._queue[0].call or self._tokens_waiting() >= self._batch_tokens:
                    return self._take()
                self._changed.wait(left)

    def _tokens_waiting(self) -> int:
        total = 0
        for work in self._queue:
            total += work.tokens_left
            if total >= self._batch_tokens:
                break
        return total

    def _take(self) -> list[tuple[_Work, slice]]:
        """Take the first work, and as much of what follows as fits."""
        if self._queue[0].call is not None:
            return [(self._queue.popleft(), slice(0, 0))]
        taken: list[tuple[_Work, slice]] = []
        unfinished: list[_Work] = []
        left = self._batch_tokens
        while self._queue and self._queue[0].call is None and (left > 0 or not taken):
            work = self._queue.popleft()
            if work.future.cancelled():
                continue
            end = work.done
            while end < len(work.items) and (left >= work.costs[end] or (not taken and end == work.done)):
                left -= work.costs[end]
                end += 1
            if end == work.done and work.items:  # its next item does not fit any more
                self._queue.appendleft(work)
                break
            part = slice(work.done, end)
            taken.append((work, part))
            work.tokens_left -= sum(work.costs[part])
            work.done = end
            if end < len(work.items):
                unfinished.append(work)
                left = 0
        self._queue.extend(unfinished)
        return taken

    def _score(self, batch: list[tuple[_Work, slice]]) -> None:
        if not batch:
            return
        start = time.perf_counter()
        work, _ = batch[0]
        if work.call is not None:
            _settle(work.future, work.call)
            return
        items = [item for work, part in batch for item in work.items[part]]
        try:
            found = self._core.measure(items)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    self._score([one])
            else:
                self._fail(work, error)
            return
        end = 0
        for work, part in batch:
            begin, end = end, end + part.stop - part.start
            work.parts.append(found[begin:end])
            if part.stop == len(work.items) and not work.future.done():
                _settle(work.future, lambda own=work: Measured.joined(own.parts))  # type: ignore[misc]
        tokens = sum(sum(work.costs[part]) for work, part in batch)
        self._noted(Batch(len(batch), len(items), tokens, time.perf_counter() - start))

    def _fail(self, work: _Work, error: Exception) -> None:
        """Tell a request's error, and drop what else it wanted."""
        with self._changed:
            if work in self._queue:
                self._queue.remove(work)
        if not work.future.done():
            _settle(work.future, None, error)


def _settle(future: Future[Any], call: Callable[[], Any] | None, error: Exception | None = None) -> None:
    """Give a future its result; one that was cancelled meanwhile wants none."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        if error is not None:
            raise error
        assert call is not None
        future.set_result(call())
    except Exception as raised:
        future.set_exception(raised)
