"""What stands before the routes: names, keys, sizes, times, shapes; each fault has its answer and ends nothing."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from typing import Any

import pytest

from assay.scorers import RewardModel
from tests.serving.conftest import PROMPTS, TEXTS, listening, serving

BODY = {"conversations": [{"prompt": PROMPTS[0], "response": TEXTS[0]}]}


def error_of(reply: Any) -> dict[str, str]:
    found = reply.json()
    assert list(found) == ["error"]
    return dict(found["error"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret"},
        {"Authorization": "bearer  s3cret"},
        {"X-API-Key": "s3cret"},
        {"Authorization": "Basic " + base64.b64encode(b"assay:s3cret").decode()},
    ],
)
def test_the_key_opens(causal: RewardModel, headers: dict[str, str]) -> None:
    with serving(causal, key="s3cret") as client:
        assert client.post("/v1/score", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": "Bearer"},
        {"Authorization": "s3cret"},
        {"Authorization": "Basic s3cret"},
        {"Authorization": "Basic " + base64.b64encode(b"s3cret").decode()},
        {"X-API-Key": "s3cre"},
        {"Cookie": "assay_session=s3cret"},
        {"Cookie": "assay_session; a=="},
    ],
)
def test_nothing_else_does(causal: RewardModel, headers: dict[str, str]) -> None:
    with serving(causal, key="s3cret") as client:
        for path in ("/v1/score", "/get_reward", "/classify", "/v1/score/evaluation", "/v1/embeddings"):
            reply = client.post(path, json=BODY, headers=headers)
            assert reply.status_code == 401 and error_of(reply)["type"] == "no_key"
        for path in ("/model", "/metrics", "/openapi.json", "/nothing"):
            assert client.get(path, headers=headers).status_code == 401
        for path in ("/health", "/", "/page/app.js"):
            assert client.get(path, headers=headers).status_code == 200


def test_a_browser_gives_the_key_once(causal: RewardModel) -> None:
    with serving(causal, key="s3cret") as client:
        assert client.post("/session", json={"key": "other"}).status_code == 401
        assert client.get("/model").status_code == 401
        reply = client.post("/session", json={"key": "s3cret"})
        told = reply.headers["set-cookie"].lower()
        assert "httponly" in told and "samesite=strict" in told and "s3cret" not in told
        assert client.get("/model").status_code == 200
        held = reply.headers["set-cookie"].partition(";")[0]
        other = {"Cookie": f'a={{"x":1}}; {held}'}  # what another program on this machine left
        assert client.get("/model", headers=other).status_code == 200


def test_names_of_the_host(causal: RewardModel) -> None:
    """A page elsewhere, whose name was pointed at this machine, reads nothing."""
    with serving(causal, hosts=["127.0.0.1", "localhost", "[::1]", "testserver"]) as client:
        for name in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"):
            assert client.get("/model", headers={"Host": name}).status_code == 200
        for name in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
            reply = client.get("/model", headers={"Host": name})
            assert reply.status_code == 403 and error_of(reply)["type"] == "wrong_host"


def test_bodies_that_are_too_large(causal: RewardModel) -> None:
    json_headers = {"Content-Type": "application/json"}
    with serving(causal, most_bytes=2000) as client:
        body = {"conversations": [{"prompt": "a", "response": "b" * 3000}]}
        reply = client.post("/v1/score", json=body)
        assert reply.status_code == 413 and "2,000 bytes" in error_of(reply)["expected"]
        unknown = (b"x" * 500 for _ in range(20))  # a length that nobody tells beforehand
        assert client.post("/v1/score", content=unknown, headers=json_headers).status_code == 413
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_ten_megabytes_over_a_socket_are_answered(causal: RewardModel) -> None:
    import httpx

    with listening(causal) as place:
        for content in (b"x" * (10 * 2**20), (b"x" * 2**16 for _ in range(160))):
            reply = httpx.post(f"{place}/v1/score", content=content, timeout=20)
            assert reply.status_code == 413 and error_of(reply)["type"] == "too_large"
        assert httpx.post(f"{place}/v1/score", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"{", 400, "malformed_json"),
        (b"\xff\xfe", 400, ""),
        (b"", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"conversations": 3}', 422, "invalid_request"),
        (b'{"conversations": [], "tokns": true}', 422, "invalid_request"),
        (b'{"conversations": [], "truncated": true}', 422, "invalid_request"),
        (b'{"conversations": [{"prompt": "a"}]}', 400, "invalid_request"),
        (b'{"conversations": [{"prompt": [{"content": "a"}], "response": "b"}]}', 422, "invalid_request"),
    ],
)
def test_what_is_no_request(causal: RewardModel, content: bytes, status: int, told: str) -> None:
    with serving(causal) as client:
        reply = client.post("/v1/score", content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code == status, reply.text
        assert told in error_of(reply)["type"] and error_of(reply)["message"]
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_a_body_says_that_it_is_json(causal: RewardModel) -> None:
    """A form of another site cannot say so unasked."""
    with serving(causal) as client:
        for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            reply = client.post("/v1/score", content=json.dumps(BODY), headers=headers)
            assert reply.status_code == 415 and "application/json" in error_of(reply)["expected"]
        assert client.post("/v1/score", content=json.dumps(BODY)).status_code == 415
        headers = {"Content-Type": "application/json; charset=utf-8"}
        assert client.post("/v1/score", content=json.dumps(BODY), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:81"},
    ],
)
def test_pages_of_other_sites_ask_in_vain(causal: RewardModel, headers: dict[str, str]) -> None:
    with serving(causal) as client:
        for reply in (client.post("/v1/score", json=BODY, headers=headers), client.get("/model", headers=headers)):
            assert reply.status_code == 403 and error_of(reply)["type"] == "cross_site"
        assert client.get("/", headers=headers).status_code == 200, "a link may lead here"
        own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
        assert client.post("/v1/score", json=BODY, headers=own).status_code == 200


def test_paths_and_methods_that_are_not_there(causal: RewardModel) -> None:
    with serving(causal) as client:
        for reply, status in ((client.get("/nothing"), 404), (client.get("/v1/score"), 405), (client.put("/"), 405)):
            assert reply.status_code == status and error_of(reply)["message"]


def test_empty_and_odd_texts(causal: RewardModel) -> None:
    odd = ["", " ", "\x00", "<b>bold</b><script>alert(1)</script>", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u202e", "\ud800", "a" * 5000]
    with serving(causal) as client:
        for text in odd:
            body = {"conversations": [{"prompt": "Name a sea.", "response": text}]}
            headers = {"Content-Type": "application/json"}
            reply = client.post("/v1/score", content=json.dumps(body), headers=headers)
            if text == "\ud800":
                assert reply.status_code in (400, 422) and error_of(reply)["message"]
            else:
                (score,) = reply.json()["scores"]
                assert score["truncated"] == (len(text) == 5000)


def test_the_queue_is_bounded(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from assay.scorers.core import ScoringCore

    core, free = ScoringCore(causal), threading.Event()
    measure = core.measure
    monkeypatch.setattr(core, "measure", lambda given: free.wait(10) and measure(given))
    with serving(core, waiting=3, timeout_s=5.0) as client:

        def ask(_: int) -> Any:
            return client.post("/v1/score", json=BODY)

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, 0)]
            time.sleep(0.3)  # it is being scored; three more may wait
            asked += [pool.submit(ask, k) for k in range(7)]
            time.sleep(0.5)
            free.set()
            found = sorted(one.result().status_code for one in asked)
        assert found == [200] * 4 + [429] * 4
        reply = client.post("/v1/score", json={"conversations": BODY["conversations"] * 4})
        assert reply.status_code == 413 and error_of(reply)["type"] == "too_many"
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_what_takes_too_long_is_given_up(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.scorers.core import ScoringCore

    core, free = ScoringCore(causal), threading.Event()
    measure = core.measure
    monkeypatch.setattr(core, "measure", lambda given: free.wait(10) and measure(given))
    with serving(core, timeout_s=0.3) as client:
        reply = client.post("/v1/score", json=BODY)
        assert reply.status_code == 504 and "--timeout-s" in error_of(reply)["remedy"]
        free.set()
        time.sleep(0.2)
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_a_defect_is_answered_and_the_server_lives(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.scorers.core import ScoringCore

    core = ScoringCore(causal)
    measure = core.measure

    def fails(given: Any) -> Any:
        raise RuntimeError("a defect")

    with serving(core) as client:
        monkeypatch.setattr(core, "measure", fails)
        reply = client.post("/v1/score", json=BODY)
        assert reply.status_code == 500 and error_of(reply)["type"] == "defect"
        assert "a defect" not in reply.text
        monkeypatch.setattr(core, "measure", measure)
        assert client.post("/v1/score", json=BODY).status_code == 200


def test_a_client_that_writes_slowly_is_given_up(causal: RewardModel) -> None:
    import httpx

    with listening(causal, body_seconds=0.5) as place:
        host, port = place.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
            assert httpx.post(f"{place}/v1/score", json=BODY).status_code == 200, "others are served meanwhile"
            answer = slow.recv(4096).decode()
        assert " 408 " in answer.splitlines()[0]
        with socket.create_connection((host, int(port)), timeout=10) as gone:
            gone.sendall(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert httpx.post(f"{place}/v1/score", json=BODY).status_code == 200
