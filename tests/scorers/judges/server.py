"""A chat server on this machine, for tests of judges."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def shown(text: str) -> tuple[str, str]:
    """Return the responses in the order in which a question shows them."""
    return tuple(  # type: ignore[return-value]
        text.split(f"[Response {name}]\n")[1].split(f"\n[End of response {name}]")[0] for name in "AB"
    )


def completion(content: str, alternatives: dict[str, float] | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": content}}
    if alternatives:
        top = [{"token": token, "logprob": math.log(p)} for token, p in alternatives.items()]
        choice["logprobs"] = {"content": [{"token": content, "logprob": top[0]["logprob"], "top_logprobs": top}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 2}}


class Server:
    """A chat server on this machine: prefers the longer response, and fails as told."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self.broken: bytes | None = None
        self.refuses: tuple[str, ...] = ()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append({"body": body, "key": self.headers.get("Authorization"), "path": self.path})
                status = outer.failures.pop() if outer.failures else 200
                refused = next((name for name in outer.refuses if name in body), None)
                if refused:
                    self.send_response(400)
                    self.end_headers()
                    self.wfile.write(json.dumps({"error": f"'{refused}' is not supported"}).encode())
                    return
                first, second = shown(body["messages"][0]["content"])
                answer = "A" if len(first) > len(second) else "B"
                content = (
                    outer.broken
                    or json.dumps(completion(answer, {answer: 0.8, "AB"["BA".index(answer)]: 0.2})).encode()
                )
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content if status == 200 else b"busy")

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
