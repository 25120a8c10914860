"""What all routes share: the model behind its queue, its limits and its counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from assay.scorers.core import ScoringCore
from assay.scorers.scored import Conversation, Item, Score
from assay.serving.batching import Batcher
from assay.serving.counters import Counters
from assay.serving.problems import TooMany

#: Tokens of a batch where nothing else is said: on a CPU more are no faster, and only wait longer.
BATCH_TOKENS_CPU, BATCH_TOKENS_ELSEWHERE = 4096, 16384
_EXPLAINED_AT_ONCE = 16
Done = TypeVar("Done")


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes
    ----------
    timeout_s
        Seconds that a request may take, waiting among them.
    waiting
        Conversations that may wait; more are answered with 429, and a single request of more with 413.
    wait_ms
        Milliseconds that a conversation waits for others to be scored with.
    batch_tokens
        Tokens of a batch; None: by device.
    """

    timeout_s: float = 60.0
    waiting: int = 4096
    wait_ms: float = 3.0
    batch_tokens: int | None = None


class Service:
    """A model that many requests share.

    Parameters
    ----------
    core
        Scores.
    name
        Of the model, told to clients.
    limits
        What it takes.
    """

    def __init__(self, core: ScoringCore, name: str, limits: Limits) -> None:
        self.core, self.name, self.limits = core, name, limits
        self.counters = Counters(name, core.fingerprint)
        device = torch.device(core.model.device).type
        usual = BATCH_TOKENS_CPU if device == "cpu" else BATCH_TOKENS_ELSEWHERE
        self.batcher = Batcher(
            core,
            batch_tokens=limits.batch_tokens or usual,
            wait=limits.wait_ms / 1000.0,
            most=limits.waiting,
            shares=core.model.shares_prefixes,
            noted=self.counters.batch,
        )
        self.counters.watch(self.batcher)
        self._background: set[asyncio.Task[None]] = set()
        # beside scoring, so that the next batch is tokenised while one is computed
        self._encoding = ThreadPoolExecutor(1, "assay-encoding")

    async def score(
        self,
        conversations: Sequence[Conversation],
        *,
        tokens: bool = False,
        truncated: bool = False,
        prototypes: int = 0,
        read: bool = False,
    ) -> list[Score]:
        """Score conversations together with those of other requests; see `ScoringCore.score`.

        Raises
        ------
        TooMany
            If these are more than may ever wait.
        Full
            If too many wait already.
        Closing
            If the server is shutting down.
        TimeoutError
            If it took too long.
        AssayError
            As `ScoringCore.score`.
        """
        if not conversations:
            return []
        count = len(conversations)
        if count > self.limits.waiting:
            raise TooMany(
                "one request holds more than the queue takes",
                expected=f"at most {self.limits.waiting:,} conversations",
                got=f"{count:,}",
                remedy="send several requests, one after another",
            )
        self.core.refuse_unable(conversations, tokens=tokens, truncated=truncated, prototypes=prototypes)
        self.batcher.reserve(count)
        async with asyncio.timeout(self.limits.timeout_s):
            try:
                items, costs = await self.aside(lambda: self._encoded(conversations))
            except BaseException:
                self.batcher.release(count)
                raise
            measured = await asyncio.wrap_future(self.batcher.submit(items, reserved=count, costs=costs))
            scores = self.core.finish(items, measured)
            if tokens or prototypes or read:
                wanted = partial(
                    self.core.explain, tokens=tokens, truncated=truncated, prototypes=prototypes, read=read
                )
                # in small pieces: others come between them, and what was given up is not begun
                size = 1 if truncated else _EXPLAINED_AT_ONCE
                parts = [slice(start, start + size) for start in range(0, count, size)]
                told = [
                    await asyncio.wrap_future(self.batcher.call(partial(wanted, items[part], scores[part])))
                    for part in parts
                ]
                scores = [score for part in told for score in part]
        self.counters.scored(scores)
        return scores

    def _encoded(self, conversations: Sequence[Conversation]) -> tuple[list[Item], list[int]]:
        items = self.core.encode(conversations)
        return items, self.batcher.costs(items)

    async def aside(self, work: Callable[[], Done]) -> Done:
        """Do something beside the event loop, in the thread that encodes."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work)

    def background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for as long as the server lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Finish what was accepted; work in the background is given up."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # beside the loop: requests that are being encoded still need it
        await asyncio.to_thread(self.batcher.close)
        self._encoding.shutdown()
