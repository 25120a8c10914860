"""What all routes share: the model behind its queue, its limits and its counters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch

from assay.scorers.scored import Conversation, Score, ScoringCore
from assay.serving.batching import Batcher
from assay.serving.counters import Counters
from assay.serving.problems import TooMany

#: Tokens of a batch where nothing else is said: on a CPU more are no faster, and only wait longer.
BATCH_TOKENS_CPU, BATCH_TOKENS_ELSEWHERE = 4096, 16384


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
        self.batcher.reserve(count)
        async with asyncio.timeout(self.limits.timeout_s):
            try:
                encode = partial(self.core.encode, conversations)
                items = await asyncio.get_running_loop().run_in_executor(self._encoding, encode)
            except BaseException:
                self.batcher.release(count)
                raise
            measured = await asyncio.wrap_future(self.batcher.submit(items, reserved=count))
            scores = self.core.finish(items, measured)
            if tokens or prototypes or read:
                explain = partial(
                    self.core.explain,
                    items,
                    scores,
                    tokens=tokens,
                    truncated=truncated,
                    prototypes=prototypes,
                    read=read,
                )
                scores = await asyncio.wrap_future(self.batcher.call(explain))
        self.counters.scored(scores)
        return scores

    def close(self) -> None:
        """Finish what was accepted."""
        self.batcher.close()
        self._encoding.shutdown()
