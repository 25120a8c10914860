"""Counters in Prometheus's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from assay.scorers.scored import Score
from assay.serving.batching import Batch, Batcher

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = tuple(float(2**k) for k in range(12))


class Counters:
    """What a server counts; each server has a registry of its own."""

    def __init__(self, name: str, fingerprint: str) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        Info("assay_model", "The model that is served.", **own).info({"name": name, "fingerprint": fingerprint})
        self.requests = Counter("assay_requests", "Requests by route and status.", ["route", "status"], **own)
        self.seconds = Histogram("assay_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, **own)
        self.texts = Counter("assay_texts", "Conversations scored.", **own)
        self.truncated = Counter("assay_truncated_texts", "Conversations that truncation cut.", **own)
        self.batch_texts = Histogram("assay_batch_texts", "Conversations in a batch.", buckets=_SIZES, **own)
        self.batch_tokens = Counter("assay_batch_tokens", "Tokens computed, shared beginnings once.", **own)
        self.batch_seconds = Counter("assay_batch_seconds", "Time in forward passes.", **own)
        self.waiting = Gauge("assay_waiting_texts", "Conversations that wait.", **own)

    def watch(self, batcher: Batcher) -> None:
        """Read how many wait whenever the counters are read."""
        self.waiting.set_function(lambda: batcher.waiting)

    def batch(self, batch: Batch) -> None:
        """Count a forward pass."""
        self.batch_texts.observe(batch.texts)
        self.batch_tokens.inc(batch.tokens)
        self.batch_seconds.inc(batch.seconds)

    def scored(self, scores: Sequence[Score]) -> None:
        """Count what a request was given."""
        self.texts.inc(len(scores))
        self.truncated.inc(sum(score.truncated for score in scores))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        return generate_latest(self.registry)
