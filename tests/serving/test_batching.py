"""Requests in one thread: together where they fit, in order, each with its own result or its own error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from assay.scorers.conversation import Encoded
from assay.scorers.scored import Conversation, Item, Measured
from assay.serving.batching import Batch, Batcher, Closing, Full


def items(*lengths: int, first: int = 0) -> list[Item]:
    """Return items of some lengths; the first token tells them apart."""
    return [Item(Conversation(), Encoded([first + k, *range(100, 99 + n)], 0)) for k, n in enumerate(lengths)]


class Core:
    """Gives each item its first token as score; waits until it is let go, and fails where it meets -1."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def measure(self, given: Sequence[Item]) -> Measured:
        self.free.wait(5)
        first = [item.encoded.ids[0] for item in given]
        self.seen.append(first)
        if any(token < 0 for token in first):
            raise RuntimeError("a bad one")
        values = np.array(first, np.float32)
        return Measured(values, values)


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[Core, Batcher]]]:
    made = []

    def build(**given: Any) -> tuple[Core, Batcher]:
        core = Core()
        batcher = Batcher(core, **{"batch_tokens": 20, "wait": 0.0, "most": 100} | given)
        made.append((core, batcher))
        return core, batcher

    yield build
    for core, batcher in made:
        core.free.set()
        batcher.close()


def values(future: Future[Measured]) -> list[float]:
    return future.result(5).values.tolist()


def test_what_waits_is_scored_together(make: Callable[..., tuple[Core, Batcher]]) -> None:
    noted: list[Batch] = []
    core, batcher = make(noted=noted.append)
    core.free.clear()
    first = batcher.submit(items(5))
    time.sleep(0.05)  # it is being scored; the others fill the next batch
    others = [batcher.submit(items(4, first=10 * k)) for k in (1, 2, 3)]
    assert batcher.waiting == 3
    core.free.set()
    assert values(first) == [0.0]
    assert [values(one) for one in others] == [[10.0], [20.0], [30.0]]
    assert core.seen == [[0], [10, 20, 30]]
    assert [(batch.requests, batch.texts, batch.tokens) for batch in noted] == [(1, 1, 5), (3, 3, 12)]
    assert batcher.waiting == 0


def test_the_first_one_waits_a_little_for_others(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make(wait=0.3)
    futures = [batcher.submit(items(4, first=k)) for k in range(3)]
    assert [values(one) for one in futures] == [[0.0], [1.0], [2.0]]
    assert core.seen == [[0, 1, 2]]
    start = time.monotonic()
    values(batcher.submit(items(10, 10)))
    assert time.monotonic() - start < 0.25, "a batch that is full does not wait"


def test_a_large_request_gives_its_place_up(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    core.free.clear()
    blocking = batcher.submit(items(20, first=50))
    time.sleep(0.05)
    large, small = batcher.submit(items(*[10] * 6)), batcher.submit(items(3, first=90))
    core.free.set()
    assert values(large) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] and values(small) == [90.0] and values(blocking) == [50.0]
    assert core.seen == [[50], [0, 1], [90], [2, 3], [4, 5]] or core.seen == [[50], [0, 1], [90, 2], [3, 4], [5]]


def test_what_is_longer_than_a_batch_is_scored_alone(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    assert values(batcher.submit(items(50, 50))) == [0.0, 1.0]
    assert core.seen == [[0], [1]]


def test_shared_beginnings_count_once(make: Callable[..., tuple[Core, Batcher]]) -> None:
    same = [Item(Conversation(), Encoded([7, *range(100, 115), k], 0)) for k in range(4)]
    core, batcher = make(shares=True)
    assert values(batcher.submit(same)) == [7.0] * 4
    assert len(core.seen) == 1, "16 tokens once, and 4 more"
    core, batcher = make(shares=False)
    values(batcher.submit(same))
    assert len(core.seen) == 4


def test_an_error_is_told_to_whom_it_belongs(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    core.free.clear()
    blocking = batcher.submit(items(20, first=50))
    time.sleep(0.05)
    good, bad, other = (batcher.submit(items(3, first=first)) for first in (1, -1, 2))
    core.free.set()
    assert values(blocking) == [50.0] and values(good) == [1.0] and values(other) == [2.0]
    with pytest.raises(RuntimeError, match="a bad one"):
        bad.result(5)
    large = batcher.submit([*items(10, 10), *items(10, 10, first=-2)])
    with pytest.raises(RuntimeError):
        large.result(5)
    assert values(batcher.submit(items(1, first=4))) == [4.0], "the thread lives on"


def test_a_call_runs_alone_and_in_its_turn(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    core.free.clear()
    first = batcher.submit(items(20, first=50))
    time.sleep(0.05)
    called = batcher.call(lambda: len(core.seen))
    after = batcher.submit(items(1, first=3))
    core.free.set()
    assert called.result(5) == 1 and values(first) == [50.0] and values(after) == [3.0]

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        batcher.call(fails).result(5)


def test_what_was_given_up_is_not_scored(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    core.free.clear()
    first = batcher.submit(items(20, first=50))
    time.sleep(0.05)
    given_up, kept = batcher.submit(items(2, first=1)), batcher.submit(items(2, first=2))
    assert given_up.cancel()
    core.free.set()
    assert values(first) == [50.0] and values(kept) == [2.0]
    assert core.seen == [[50], [2]]


def test_the_queue_is_bounded_and_places_may_be_reserved(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make(most=4)
    core.free.clear()
    batcher.submit(items(20, first=50))
    time.sleep(0.05)
    batcher.reserve(3)
    with pytest.raises(Full):
        batcher.reserve(2)
    batcher.release(1)
    batcher.reserve(1)
    future = batcher.submit(items(1, 1, 1), reserved=3)
    assert batcher.waiting == 3
    with pytest.raises(Full):
        batcher.reserve(2)
    core.free.set()
    assert values(future) == [0.0, 1.0, 2.0]
    batcher.reserve(4)
    batcher.release(4)


def test_what_was_accepted_is_finished_at_the_end(make: Callable[..., tuple[Core, Batcher]]) -> None:
    core, batcher = make()
    core.free.clear()
    futures = [batcher.submit(items(20, first=k)) for k in range(5)]
    batcher.reserve(2)
    closer = threading.Thread(target=batcher.close)
    closer.start()
    time.sleep(0.05)
    with pytest.raises(Closing):
        batcher.reserve(1)
    late = batcher.submit(items(1, 1, first=8), reserved=2)  # it had its places
    core.free.set()
    closer.join(5)
    assert not closer.is_alive()
    assert [values(one) for one in futures] == [[float(k)] for k in range(5)] and values(late) == [8.0, 9.0]
    with pytest.raises(Closing):
        batcher.submit(items(1)).result(1)
