"""Clients of a scoring server on this machine: a bounded number of requests by some connections at once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Load:
    """What clients saw.

    Attributes
    ----------
    seconds
        From the first request to the last reply.
    client_seconds, server_seconds
        Processor time of clients and server meanwhile.
    latencies
        Seconds of each request.
    statuses
        How often each status came.
    scores
        Of each request, in order.
    """

    seconds: float
    client_seconds: float
    server_seconds: float
    latencies: list[float]
    statuses: dict[int, int]
    scores: list[list[float]] = field(default_factory=list)


def used_by(pid: int) -> float:
    """Return the processor time of a process so far, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, pid: int, path: str, bodies: Sequence[dict[str, Any]], clients: int) -> Load:
    """Send each body once, ``clients`` at a time, each on a connection that stays open."""
    packed = [_request(port, path, body) for body in bodies]
    latencies, replies = [0.0] * len(packed), [(0, b"")] * len(packed)
    waiting = iter(range(len(packed)))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in waiting:
            start = time.perf_counter()
            writer.write(packed[number])
            replies[number] = await _reply(reader)
            latencies[number] = time.perf_counter() - start
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(client() for _ in range(clients)))

    before, own, start = used_by(pid), time.process_time(), time.perf_counter()
    asyncio.run(all_of_them())
    seconds, client_seconds = time.perf_counter() - start, time.process_time() - own
    found = Load(seconds, client_seconds, used_by(pid) - before, latencies, {})
    for status, body in replies:
        found.statuses[status] = found.statuses.get(status, 0) + 1
        scores = json.loads(body).get("scores", []) if status == 200 else []
        found.scores.append([score["value"] for score in scores])
    return found


def _request(port: int, path: str, body: dict[str, Any]) -> bytes:
    packed = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length"))
    return int(head.split()[1]), await reader.readexactly(length)
