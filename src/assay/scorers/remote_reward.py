"""Rewards from servers that speak OpenRLHF's format: time limits, retries, and replies that are looked at."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from pydantic import BaseModel

from assay.errors import ConfigError, ModelError
from assay.scorers.posting import Postman

_BLANK = re.compile(r"[\x00-\x20\x7f]")


class Reply(BaseModel):
    """What a server answers; ``scores`` and ``extra_logs`` are not needed here."""

    rewards: list[float | None]


class RemoteReward:
    """Asks ``POST {url}`` with ``{"query": [...], "prompts": [...], "labels": [...]}``.

    With several addresses each gets its share of the responses, one after another.

    Parameters
    ----------
    urls
        Addresses, such as ``http://localhost:5000/get_reward``.
    key_variable
        Environment variable that holds a key.
    timeout, tries, wait
        See `assay.scorers.posting.Postman`.

    Raises
    ------
    ConfigError
        If there is no address, or one is none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key_variable: str = "ASSAY_REWARD_KEY",
        timeout: float = 180.0,
        tries: int = 5,
        wait: float = 1.0,
    ) -> None:
        wrong = [url for url in urls if not _is_address(url)]
        if wrong or not urls:
            raise ConfigError("a reward server's address is a URL", expected="http://… or https://…", got=str(wrong))
        self.urls = list(urls)
        self._postman = Postman(
            "the reward server",
            '{"rewards": [a number for each query]}, OpenRLHF\'s format',
            "check the address and the server's log; training goes on from its last checkpoint (--resume)",
            key_variable,
            tries,
            wait,
            timeout,
        )

    def __call__(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str | None]
    ) -> list[float | None]:
        """Return a reward for each query; null, NaN and infinite ones as None.

        Raises
        ------
        ModelError
            If a server does not answer, or with another number of rewards.
        """
        share = math.ceil(len(queries) / len(self.urls))
        parts = [slice(k * share, (k + 1) * share) for k in range(len(self.urls)) if k * share < len(queries)]
        with ThreadPoolExecutor(len(parts) or 1) as pool:
            sides = [(url, queries[own], prompts[own], labels[own]) for url, own in zip(self.urls, parts, strict=False)]
            found = list(pool.map(lambda side: self._ask(*side), sides))
        return [value for part in found for value in part]

    def _ask(
        self, url: str, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str | None]
    ) -> list[float | None]:
        body = {"query": list(queries), "prompts": list(prompts), "labels": list(labels)}
        rewards = self._postman.send(url, lambda: body, Reply.model_validate_json).rewards
        if len(rewards) != len(queries):
            raise ModelError(
                "the reward server gave another number of rewards",
                where=url,
                expected=str(len(queries)),
                got=str(len(rewards)),
            )
        return [value if value is not None and math.isfinite(value) else None for value in rewards]


def _is_address(url: str) -> bool:
    """Tell whether something can be asked: a scheme, a host and perhaps a port that is one, and no blanks."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not _BLANK.search(url)
    except ValueError:
        return False
