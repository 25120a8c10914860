"""Scoring over HTTP: `assay serve` against scoring without a server, and against one forward pass for each request.

    python benchmarks/serving.py --data DATA [--repeats 3] [--out benchmarks/results/serving.json]

Two works, all of it on this machine, each request once: dialogues of mixed length by 64 clients, a conversation a
request (MiniLM); eight summaries of a long document, a document a request (39M, causal). First the gate: all three ways
give the same scores. Clients, server and scoring share the processors, so rates are told by the clock, and by the
processor time of the server alone. At the end each fault is brought about once, and its answer noted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serving_load import Load, load
from works import causal_39m, harmless, minilm, summaries, work_of

from assay.feedback.records import prompt_text
from assay.output import write_json
from assay.scorers import RewardModel
from assay.versions import current_versions
from assay.workflows import hardware

#: Work -> model, data, responses of a request, requests of a round, clients at once.
WORKS: dict[str, tuple[Any, Any, int, int, int]] = {
    "distinct prompts": (minilm, harmless, 1, 600, 64),
    "eight candidates": (causal_39m, lambda data: summaries(data, 8), 8, 32, 16),
}
TOLERANCE = 1e-5
KEY = "benchmark"


def requests_of(work: Any, responses: int, count: int) -> list[list[tuple[str, str]]]:
    """Return (prompt, response) of each request, spread over all lengths."""
    rows = np.linspace(0, len(work.data) - 1, count).astype(int)
    found = []
    for row in rows:
        record = work.data[int(row)]
        found.append([(prompt_text(record["prompt"]), text) for text in record["responses"][:responses]])
    return found


def bodies_of(requests: Sequence[Sequence[tuple[str, str]]]) -> list[dict[str, Any]]:
    """Return them as bodies."""
    return [{"conversations": [{"prompt": p, "response": r} for p, r in some]} for some in requests]


@contextlib.contextmanager
def server(*command: str, port: int) -> Iterator[int]:
    """Run a server, and give its process id once it answers."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ASSAY_SERVE_KEY": ""}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=environment) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{command} ended")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def offline(model: RewardModel, requests: Sequence[Sequence[tuple[str, str]]]) -> tuple[Load, np.ndarray]:
    """Score all without a server."""
    prompts, texts = zip(*[pair for some in requests for pair in some], strict=True)
    start, own = time.perf_counter(), time.process_time()
    found = model.score(prompts, texts)
    return Load(time.perf_counter() - start, 0.0, time.process_time() - own, [], {}), found


def measured(name: str, data: Path, repeats: int) -> dict[str, Any]:
    """Run all three in turn, several times."""
    make, read, responses, count, clients = WORKS[name]
    with tempfile.TemporaryDirectory() as scratch:
        options, shape = make(Path(scratch) / "backbone")
        work = work_of(name, options, shape, read(data))
        folder = Path(scratch) / "model"
        work.model.stamp()
        work.model.eval().save_pretrained(folder)
        requests = requests_of(work, responses, count)
        bodies, ports = bodies_of(requests), (free_port(), free_port())
        ours = ["-m", "assay.cli", "serve", str(folder), "--port", str(ports[0])]
        plain = [str(Path(__file__).parent / "plain_server.py"), str(folder), str(ports[1])]
        sides: dict[str, list[Load]] = {"offline": [], "assay serve": [], "plain server": []}
        gate = 0.0
        with server(*ours, port=ports[0]) as own, server(*plain, port=ports[1]) as other:
            for pid, port in ((own, ports[0]), (other, ports[1])):
                load(port, pid, "/v1/score", bodies[:4], 2)  # the first passes are slower
            for number in range(repeats):
                for name_of_side in (list(sides), list(sides)[::-1])[number % 2]:
                    if name_of_side == "offline":
                        found, expected = offline(work.model, requests)
                    else:
                        pid, port = (own, ports[0]) if name_of_side == "assay serve" else (other, ports[1])
                        found = load(port, pid, "/v1/score", bodies, clients)
                    sides[name_of_side].append(found)
                    print(f"round {number + 1} of {repeats}  {name}: {name_of_side}  {found.seconds:.1f} s", flush=True)
        for side in ("assay serve", "plain server"):
            for found in sides[side]:
                flat = np.array([value for scores in found.scores for value in scores])
                gate = max(gate, float(np.abs(flat - expected).max()) if len(flat) == len(expected) else np.inf)
    return summary(name, sides, gate, count * responses, clients)


def summary(name: str, sides: dict[str, list[Load]], gate: float, texts: int, clients: int) -> dict[str, Any]:
    """Return the figures of a work: ratios of rounds, their middle one and both ends."""
    if gate > TOLERANCE:
        raise SystemExit(f"{name}: scores differ by {gate:.1e}: nothing is claimed")
    rounds = list(zip(*sides.values(), strict=True))

    def ratio(values: Sequence[float]) -> dict[str, float]:
        return {"median": float(np.median(values)), "least": float(min(values)), "most": float(max(values))}

    latencies = {}
    for side in ("assay serve", "plain server"):
        times = np.concatenate([found.latencies for found in sides[side]])
        latencies[side] = {f"p{mark}": float(np.percentile(times, mark)) for mark in (50, 95, 99)}
    statuses = {side: {status for found in many for status in found.statuses} for side, many in sides.items()}
    return {
        "clients": clients,
        "texts": texts,
        "gate": gate,
        "texts_per_second": {
            side: float(np.median([texts / found.seconds for found in many])) for side, many in sides.items()
        },
        "of_offline": ratio([alone.seconds / ours.seconds for alone, ours, _ in rounds]),
        "of_offline_by_processor": ratio([alone.server_seconds / ours.server_seconds for alone, ours, _ in rounds]),
        "over_plain": ratio([plain.seconds / ours.seconds for _, ours, plain in rounds]),
        "client_share": ratio(
            [ours.client_seconds / (ours.client_seconds + ours.server_seconds) for _, ours, _ in rounds]
        ),
        "latency_seconds": latencies,
        "statuses": {side: sorted(found) for side, found in statuses.items() if found},
        "rounds": {side: [_without(found) for found in many] for side, many in sides.items()},
    }


def _without(found: Load) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name not in ("latencies", "scores")}


def faults(data: Path) -> dict[str, Any]:
    """Bring about each fault once, with load beside; return the answers, and whether the server lived on."""
    import http.client
    from concurrent.futures import ThreadPoolExecutor

    port, told = free_port(), {}
    with tempfile.TemporaryDirectory() as scratch:
        options, shape = minilm(Path(scratch) / "backbone")
        work = work_of("faults", options, shape, harmless(data).select(range(64)))
        folder = Path(scratch) / "model"
        work.model.stamp()
        work.model.eval().save_pretrained(folder)
        bodies = bodies_of(requests_of(work, 1, 64))
        words = ["-m", "assay.cli", "serve", str(folder), "--port", str(port), "--waiting", "32", "--body-s", "1"]

        def ask(body: bytes, **headers: str) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): v for name, v in headers.items()}
            try:
                connection.request("POST", "/v1/score", body, sent)
                reply = connection.getresponse()
                return reply.status, json.loads(reply.read()).get("error", {}).get("type")
            except (OSError, http.client.HTTPException) as error:
                return type(error).__name__
            finally:
                connection.close()

        good = json.dumps(bodies[0]).encode()
        with keyed_server(words, port) as process, ThreadPoolExecutor(64) as pool:
            held = {"Authorization": f"Bearer {KEY}"}
            told["malformed JSON"] = ask(b"{", **held)
            told["oversized body"] = ask(b"x" * (10 * 2**20), **held)
            told["wrong key"] = ask(good, Authorization="Bearer wrong")
            told["no key"] = ask(good)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
                head = f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
                slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
                told["slow client"] = int(slow.recv(4096).split()[1])
            many = [json.dumps({"conversations": bodies[k]["conversations"] * 8}).encode() for k in range(64)]
            answers = list(pool.map(lambda body: ask(body, **held), many))
            told["full queue"] = sorted({str(answer) for answer in answers})
            told["afterwards"] = ask(good, **held)
            asked = [pool.submit(ask, body, **held) for body in many[:16]]
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            told["killed under load"] = sorted({str(one.result()) for one in asked})
        with keyed_server(words, port):
            told["started again"] = ask(good, **held)
    return told


@contextlib.contextmanager
def keyed_server(words: Sequence[str], port: int) -> Iterator[subprocess.Popen[str]]:
    """Run `assay serve` with a key."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ASSAY_SERVE_KEY": KEY}
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            if not re.search(rf":{port} ", process.stdout.readline()):
                raise SystemExit("the server did not start")
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            time.sleep(0.5)
            yield process
        finally:
            process.kill()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "name": "serving",
        "works": {name: measured(name, given.data, given.repeats) for name in WORKS},
        "faults": faults(given.data),
        "threads": torch.get_num_threads(),
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    print(
        json.dumps(
            {name: {k: v for k, v in work.items() if k != "rounds"} for name, work in found["works"].items()}, indent=1
        )
    )
    print(json.dumps(found["faults"], indent=1))
    if given.out:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
