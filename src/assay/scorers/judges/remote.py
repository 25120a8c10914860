"""A judge behind an OpenAI-compatible address: cached, retried, and counted."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from assay.errors import ModelError
from assay.scorers.judges.asking import Answer, Question
from assay.scorers.judges.replies import Reply, Usage, read_answer
from assay.scorers.posting import Postman

_MOST_LIKELY = 20
#: What a server may not know, and what is asked for in its place.
_DISPENSABLE = {"top_logprobs": None, "logprobs": None, "temperature": None, "max_tokens": "max_completion_tokens"}


class RemoteJudge:
    """Asks a chat model by ``POST {url}/chat/completions``, and keeps every answer on disk.

    Parameters
    ----------
    url
        Up to and including ``/v1``.
    model
        Name that the server knows.
    key_variable
        Environment variable that holds the key; it is read there and never written anywhere.
    cache
        SQLite file of answers; the same question to the same model is never paid twice, also after an interruption. A
        reply in which no answer is found is not kept: it is asked again next time.
    parallel
        Questions under way at a time.
    tries, wait
        How often a question is asked when the server fails, and the seconds before the second time, doubled each time.
    timeout
        Seconds until an answer must be there.
    max_tokens
        Longest answer; a model that thinks aloud first needs hundreds.
    price_in, price_out
        Per million tokens read and written, in any currency.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        cache: str | Path | None = None,
        parallel: int = 8,
        tries: int = 5,
        wait: float = 1.0,
        timeout: float = 60.0,
        price_in: float = 0.0,
        price_out: float = 0.0,
        max_tokens: int = 8,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ModelError("a judge's address is a URL", where=url, expected="http://… or https://…, up to /v1")
        self.url, self.model, self.name = url.rstrip("/"), model, model
        self.parallel = parallel
        remedy = f"check the address, the model's name and ${key_variable}; answers are kept for next time"
        self._postman = Postman(
            "the judge", "an OpenAI-compatible server", remedy, key_variable, tries, wait, timeout, self._noted
        )
        self.price_in, self.price_out, self.max_tokens = price_in, price_out, max_tokens
        self._unknown: set[str] = set()
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("asked", "cached", "requests", "retries", "unanswered", "read", "written"), 0)
        if cache is not None:
            Path(cache).parent.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(str(cache) if cache is not None else ":memory:", check_same_thread=False)
        self._store.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body TEXT NOT NULL)")

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the answers; see `Judge`. Each distinct question is sent once."""
        distinct = list(dict.fromkeys(questions))
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                found = dict(zip(distinct, pool.map(self._answer, distinct), strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        with self._lock:
            self._counts["asked"] += len(questions)
            self._counts["unanswered"] += sum(math.isnan(found[question].log_odds) for question in questions)
        return [found[question] for question in questions]

    def costs(self) -> dict[str, Any]:
        """Return questions, those answered from disk, requests, retries, tokens read and written, and their price."""
        spent = (self._counts["read"] * self.price_in + self._counts["written"] * self.price_out) / 1e6
        return {**self._counts, "price": spent}

    def _answer(self, question: Question) -> Answer:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _MOST_LIKELY,
        }
        packed = json.dumps(body, sort_keys=True)
        key = hashlib.sha256(f"{self.url}\n{packed}".encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            row = self._store.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
        if row is not None:
            with self._lock:
                self._counts["cached"] += 1
            return read_answer(Reply.model_validate_json(row[0]), question.options)
        reply = self._send(body)
        answer, usage = read_answer(reply, question.options), reply.usage or Usage()
        with self._lock:
            if not math.isnan(answer.log_odds):
                self._store.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, reply.model_dump_json()))
                self._store.commit()
            self._counts["read"] += usage.prompt_tokens or 0
            self._counts["written"] += usage.completion_tokens or 0
        return answer

    def _send(self, body: dict[str, Any]) -> Reply:
        return self._postman.send(
            f"{self.url}/chat/completions",
            lambda: self._understood(body),
            Reply.model_validate_json,
            self._learn_from,
        )

    def _noted(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _understood(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a question without what this server was found not to know."""
        kept = {name: value for name, value in body.items() if name not in self._unknown}
        instead = ((_DISPENSABLE[name], body[name]) for name in self._unknown)
        return kept | {other: value for other, value in instead if other is not None}

    def _learn_from(self, refusal: str) -> bool:
        """Note which parameters a refusal names; return whether it is worth asking without them."""
        named = {name for name in _DISPENSABLE if re.search(rf"\b{name}\b", refusal)}
        if "logprobs" in named:
            named.add("top_logprobs")  # which means nothing without it
        with self._lock:
            new = named - self._unknown
            self._unknown |= named
        return bool(new)
