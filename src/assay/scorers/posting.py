"""JSON over HTTP with a time limit, a key from the environment, and bounded retries."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

from pydantic import ValidationError

from assay.errors import ModelError

Read = TypeVar("Read")
_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_REFUSALS = frozenset({400, 404, 422})


@dataclass(frozen=True)
class Postman:
    """Sends JSON and reads the reply.

    Attributes
    ----------
    who
        Named in errors, such as ``"the judge"``.
    expected
        What ought to be at the address.
    remedy
        What to try where it does not answer.
    key_variable
        Environment variable that holds the key; it is read there and never written anywhere.
    tries, wait
        How often it is sent when the server fails, and the seconds before the second time, doubled each time.
    timeout
        Seconds until the whole of a reply must be there; no single wait on the way is longer either.
    noted
        Called with ``"requests"`` and ``"retries"``.
    key
        Instead of the variable's.
    """

    who: str
    expected: str
    remedy: str
    key_variable: str
    tries: int = 5
    wait: float = 1.0
    timeout: float = 60.0
    noted: Callable[[str], None] = lambda _: None
    key: str | None = None

    def send(
        self,
        place: str,
        body: Callable[[], dict[str, Any]],
        read: Callable[[bytes], Read],
        learn: Callable[[str], bool] = lambda _: False,
    ) -> Read:
        """Return what ``read`` makes of the reply.

        Parameters
        ----------
        place
            URL.
        body
            Makes what is sent, anew for each try.
        read
            Raises `pydantic.ValidationError` where a reply has another shape, which is tried again.
        learn
            Told what a server refuses, it says whether another body is worth a try.

        Raises
        ------
        ModelError
            If no reply can be read.
        """
        headers = {"Content-Type": "application/json"}
        if key := self.key or os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        attempt, problem = 0, ""
        while attempt < self.tries:
            packed = json.dumps(body()).encode("utf-8", "surrogatepass")
            if attempt:
                self.noted("retries")
                time.sleep(self.wait * 2 ** (attempt - 1))
            self.noted("requests")
            until = time.monotonic() + self.timeout
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(place, packed, headers), timeout=self.timeout
                ) as response:
                    return read(self._whole(response, until))
            except ValidationError as error:
                told = error.errors(include_url=False)[0]
                problem = f"another reply: {'.'.join(map(str, told['loc'])) or 'reply'}: {told['msg']}"
            except urllib.error.HTTPError as error:
                said = self._said(error, until)
                problem = f"HTTP {error.code}: {said[:160]}"
                if error.code in _REFUSALS and learn(said):
                    continue
                if error.code not in _WORTH_ANOTHER_TRY:
                    attempt += 1
                    break
            except (OSError, HTTPException) as error:  # no connection, time over, half an answer
                problem = f"{type(error).__name__}: {error}"
            attempt += 1
        raise ModelError(
            f"{self.who} does not answer",
            where=place,
            expected=self.expected,
            got=f"{problem} (tried {attempt} times)",
            remedy=self.remedy,
        )

    def _said(self, error: urllib.error.HTTPError, until: float) -> str:
        """Return what a server says of its refusal; a reason that does not come in time is none."""
        try:
            return self._whole(error, until).decode("utf-8", "replace")
        except (OSError, HTTPException) as problem:
            return f"{type(problem).__name__}: {problem}"

    def _whole(self, reply: Any, until: float) -> bytes:
        """Read all of a reply; a server that sends it drop by drop does not hold up anybody for longer than allowed."""
        found = []
        while part := reply.read1(1 << 16):
            found.append(part)
            if time.monotonic() > until:
                raise TimeoutError(f"the reply was not whole after {self.timeout:g} s")
        return b"".join(found)
