"""``assay serve`` from the command line: what it refuses, how it ends, and that no fault ends it."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from assay.cli import main
from assay.serving.serve_verb import name_of
from tests.serving.conftest import PROMPTS, TEXTS, process

BODY = {"conversations": [{"prompt": PROMPTS[0], "response": TEXTS[0]}] * 4}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["serve", *words]) == 2
    return capsys.readouterr().err


def test_other_machines_need_a_key(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(model_folder), "--host", "0.0.0.0", "--port", "0", "--dry-run"]
    assert "ASSAY_SERVE_KEY" in refused(words, capsys)
    assert main(["serve", *words, "--open"]) == 0
    monkeypatch.setenv("ASSAY_SERVE_KEY", "s3cret")
    assert main(["serve", *words]) == 0
    assert "nothing was served" in capsys.readouterr().out


def test_what_cannot_be_served(
    model_folder: Path, tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, free = str(model_folder), ["--port", "0"]
    assert "nowhere" in refused([str(tmp_path / "nowhere"), *free], capsys)
    assert "not a reward model" in refused([str(tiny_causal), *free], capsys)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be used" in refused([model, "--port", str(taken.getsockname()[1])], capsys)
    assert "cannot be used" in refused([model, *free, "--host", "no.such.host.invalid", "--open"], capsys)
    assert "no such folder" in refused([model, *free, "--runs", str(tmp_path / "x")], capsys)
    assert "goes with --judging.pairs" in refused([model, *free, "--judging.votes", "3"], capsys)
    assert "--data" in refused([model, *free, "--against", model], capsys)
    assert "no such file" in refused([model, *free, "--data", str(tmp_path / "d.jsonl")], capsys)
    foreign = tmp_path / "foreign"
    __import__("shutil").copytree(model_folder, foreign)
    (path,) = foreign.rglob("chat_template.jinja")
    path.write_text(path.read_text("utf-8").replace("<|", "<<|"), "utf-8")
    assert "template or tokenizer" in refused([str(foreign), *free], capsys)


def test_a_database_that_cannot_be_reached(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "u.jsonl"
    data.write_text('{"prompt": "a", "responses": ["b", "c"]}\n', "utf-8")
    words = [str(model_folder), "--port", "0", "--judging.pairs", str(data)]
    told = refused([*words, "--judging.database", str(tmp_path / "no" / "folder" / "j.db")], capsys)
    assert "cannot be reached" in told


@pytest.mark.parametrize(
    ("place", "name"), [("runs/a/model", "a"), ("runs/a/", "a"), ("org/name", "name"), ("model", "model")]
)
def test_a_model_is_called_after_its_run(place: str, name: str) -> None:
    assert name_of(place) == name


@pytest.mark.slow
def test_what_was_accepted_is_answered_before_the_end(model_folder: Path, pairs_file: Path) -> None:
    """And data that is scored in the background does not keep the server."""
    words = [str(model_folder), "--batch-tokens", "16", "--name", "sea", "--data", str(pairs_file)]
    with process(*words) as (server, place):
        assert httpx.get(f"{place}/model").json()["name"] == "sea"
        assert httpx.get(f"{place}/data/0").json()["scored"] < 60
        long = {"conversations": [{"prompt": PROMPTS[0], "response": f"certainly {k} " * 20} for k in range(2000)]}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, f"{place}/v1/score", json=long, timeout=60)
            while httpx.get(f"{place}/health").json()["waiting"] < 500:
                assert not asked.done()
            server.send_signal(signal.SIGTERM)
            reply = asked.result()
        assert reply.status_code == 200 and len(reply.json()["scores"]) == 2000
        assert server.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_a_killed_server_is_simply_started_again(model_folder: Path) -> None:
    """Killed under load: clients see a lost connection, and the next server gives the same scores."""
    with process(str(model_folder)) as (server, place):
        port = place.rpartition(":")[2]
        before = httpx.post(f"{place}/v1/score", json=BODY).json()
        seen: list[Any] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                try:
                    seen.append(httpx.post(f"{place}/v1/score", json=BODY, timeout=10).status_code)
                except httpx.TransportError as error:
                    seen.append(type(error).__name__)
                    return

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        server.kill()
        for thread in threads:
            thread.join(20)
        stop.set()
        assert 200 in seen and all(isinstance(one, str) or one == 200 for one in seen)
    with process(str(model_folder), "--port", port) as (_, place):
        assert httpx.post(f"{place}/v1/score", json=BODY).json() == before


@pytest.mark.slow
def test_no_acknowledged_judgement_is_lost_or_counted_twice(model_folder: Path, tmp_path: Path) -> None:
    """Eight annotators judge 10,000 times while the server is killed five times; what is not acknowledged is resent."""
    rows = [{"prompt": f"Name sea {k}.", "response_a": f"One {k}.", "response_b": f"Other {k}.", "id": f"p{k}"}
            for k in range(1250)]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = [str(model_folder), "--judging.pairs", str(tmp_path / "pairs.jsonl"), "--judging.shared", "1.0",
             "--judging.database", str(tmp_path / "j.db")]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"http://127.0.0.1:{port}"
    acknowledged: dict[str, tuple[str, str, int]] = {}
    lock, done = threading.Lock(), threading.Event()

    def patiently(client: httpx.Client, method: str, path: str, **given: Any) -> Any:
        while True:
            try:
                reply = client.request(method, place + path, timeout=20, **given)
                if reply.status_code < 500:
                    assert reply.status_code == 200, reply.text
                    return reply.json()
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def annotate(name: str) -> None:
        with httpx.Client() as client:
            while (shown := patiently(client, "GET", "/judge/next", params={"annotator": name})["pair"]) is not None:
                strength = hash((name, shown["id"])) % 7 - 3
                token = f"{name}-{shown['id']}"
                body = {"token": token, "pair": shown["id"], "annotator": name, "strength": strength,
                        "turned": shown["turned"]}  # fmt: skip
                patiently(client, "POST", "/judge", json=body)
                with lock:
                    acknowledged[token] = (shown["id"], name, -strength if shown["turned"] else strength)

    threads = [threading.Thread(target=annotate, args=(f"a{k}",)) for k in range(8)]
    kills = 0
    while not done.is_set():
        with process(*words, "--port", str(port)) as (server, _):
            if kills == 0:
                for thread in threads:
                    thread.start()
            target = 1500 * (kills + 1)
            while len(acknowledged) < (target if kills < 5 else 10_000):
                assert any(thread.is_alive() for thread in threads)
                time.sleep(0.05)
            if kills < 5:
                server.kill()
                kills += 1
                continue
            for thread in threads:
                thread.join(60)
            lines = httpx.get(f"{place}/judge/export", timeout=60).text.splitlines()
            status = httpx.get(f"{place}/judge/status", timeout=60).json()
            done.set()
    assert kills == 5 and len(acknowledged) == 10_000
    exported = []
    for line in lines:
        record = json.loads(line)
        for edge in record["edges"]:
            sign = 1 if edge["a"] == 0 else -1
            exported.append((record["meta"]["row"]["pair"], edge["annotator"], sign * int(edge["confidence"])))
    assert sorted(exported) == sorted(acknowledged.values())
    assert status["judgements"] == 10_000 and len(status["annotators"]) == 8
