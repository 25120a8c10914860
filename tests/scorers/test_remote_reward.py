"""Reward servers: what they are sent, and what becomes of every way to fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from assay.errors import ConfigError, ModelError
from assay.scorers.remote_reward import RemoteReward


class Rewards:
    """A server in OpenRLHF's format: the length of each query, and failures as told."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self.answer: Any = None
        self.delay = self.drops = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append({"body": body, "key": self.headers.get("Authorization")})
                time.sleep(outer.delay)
                status = outer.failures.pop() if outer.failures else 200
                rewards = [float(len(query)) for query in body["query"]]
                answer = outer.answer or {"rewards": rewards, "scores": rewards, "extra_logs": {}}
                self.send_response(status)
                self.end_headers()
                for drop in json.dumps(answer):
                    self.wfile.write(drop.encode())
                    time.sleep(outer.drops)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/get_reward"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Rewards]:
    found = Rewards()
    yield found
    found.http.shutdown()
    found.http.server_close()


ASKED = (["ab", "abc", "a"], ["a", "a", ""], ["4", None, "5"])


def test_the_format(server: Rewards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_REWARD_KEY", "secret")
    assert RemoteReward([server.url])(*ASKED) == [2.0, 3.0, 1.0]
    assert server.requests == [
        {"body": {"query": ASKED[0], "prompts": ASKED[1], "labels": ASKED[2]}, "key": "Bearer secret"}
    ]


def test_several_servers_share_the_work(server: Rewards) -> None:
    assert RemoteReward([server.url] * 2)(*ASKED) == [2.0, 3.0, 1.0]
    assert sorted(len(request["body"]["query"]) for request in server.requests) == [1, 2]
    assert RemoteReward([server.url] * 5)(["x"], ["y"], [None]) == [1.0]


def test_a_server_that_stumbles_is_asked_again(server: Rewards) -> None:
    server.failures = [503, 500]
    assert RemoteReward([server.url], wait=0.01)(*ASKED) == [2.0, 3.0, 1.0]
    assert len(server.requests) == 3


def test_a_server_that_is_down_or_slow_stops_with_its_name(server: Rewards) -> None:
    server.failures = [500] * 9
    with pytest.raises(ModelError, match="the reward server does not answer") as caught:
        RemoteReward([server.url], tries=2, wait=0.01)(*ASKED)
    assert "HTTP 500" in str(caught.value) and server.url in str(caught.value) and "--resume" in str(caught.value)
    server.failures, server.delay = [], 0.5
    with pytest.raises(ModelError, match="does not answer"):
        RemoteReward([server.url], tries=1, timeout=0.1)(*ASKED)
    with pytest.raises(ModelError, match="does not answer"):
        RemoteReward(["http://127.0.0.1:9/get_reward"], tries=1)(*ASKED)


def test_too_few_values_are_no_zeros(server: Rewards) -> None:
    server.answer = {"rewards": [1.0]}
    with pytest.raises(ModelError, match="another number of rewards"):
        RemoteReward([server.url])(*ASKED)
    server.answer = {"scores": [1.0]}
    with pytest.raises(ModelError, match="another reply: rewards"):
        RemoteReward([server.url], tries=1)(*ASKED)


def test_what_is_no_number_is_no_reward(server: Rewards) -> None:
    server.answer = {"rewards": [None, float("nan"), 1.5]}
    assert RemoteReward([server.url])(*ASKED) == [None, None, 1.5]


def test_a_reply_that_comes_drop_by_drop_is_late(server: Rewards) -> None:
    """No single wait is long, and all of them together are longer than a reply may take."""
    server.drops = 0.05
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"not whole after 0\.3 s"):
        RemoteReward([server.url], tries=1, timeout=0.3)(*ASKED)
    assert time.monotonic() - begun < 2
    server.failures = [500] * 2
    with pytest.raises(ModelError, match=r"HTTP 500: TimeoutError.*tried 2 times"):
        RemoteReward([server.url], tries=2, wait=0.01, timeout=0.3)(*ASKED)


def test_addresses_are_urls() -> None:
    for urls in ([], ["localhost:5000"], ["http://"], ["http://[::1"], ["http://a:b/x"], ["http://a b/"], ["ftp://a/"]):
        with pytest.raises(ConfigError, match="is a URL"):
            RemoteReward(urls)
