"""Who judges what next, and how far those who judge agree."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import numpy as np

from assay.feedback.annotators import Votes, agreement, agreement_of_each
from assay.serving.judging.pairs import Pair
from assay.serving.judging.store import STRONGEST, Judgement, JudgementStore
from assay.serving.problems import BadRequest, Conflict

#: Seconds for which a pair that was shown to one annotator is not shown to others.
HELD = 600.0
_LONGEST_NAME, _LONGEST_TOKEN = 100, 64


class Desk:
    """Gives out pairs and takes judgements.

    Parameters
    ----------
    store
        Keeps them.
    votes
        Judgements that each pair is to get; shared ones get one of every annotator.
    """

    def __init__(self, store: JudgementStore, votes: int = 1) -> None:
        self.store, self.votes = store, votes
        self._held: dict[str, tuple[str, float]] = {}
        self._changed = threading.Lock()
        self._agreement: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def next(self, annotator: str) -> dict[str, Any]:
        """Return the next pair for an annotator, or none with the reason, and how far the work is."""
        name = known_name(annotator)
        pair = self._hold(name)
        found: dict[str, Any] = {"pair": None, "last": self.store.last_of(name)}
        if pair is not None:
            turned = self.turned(pair.id, name)
            first, second = (pair.b, pair.a) if turned else (pair.a, pair.b)
            prompt = [{"role": turn["role"], "content": turn["content"]} for turn in pair.prompt]
            found["pair"] = {"id": pair.id, "prompt": prompt, "first": first, "second": second, "turned": turned}
        elif self.store.next_pair(name, self.votes) is not None:
            found["reason"] = "others are judging all that is left"
        else:
            found["reason"] = "nothing is left for you"
        return found

    def _hold(self, annotator: str) -> Pair | None:
        """Choose the first pair that nobody else has before him."""
        now = time.monotonic()
        with self._changed:
            self._held = {pair: own for pair, own in self._held.items() if own[1] > now}
            held = [pair for pair, (holder, _) in self._held.items() if holder != annotator]
            pair = self.store.next_pair(annotator, self.votes, held)
            if pair is not None and pair.id not in held:
                self._held[pair.id] = (annotator, now + HELD)
        return pair

    @staticmethod
    def turned(pair: str, annotator: str) -> bool:
        """Whether an annotator sees the second response first: half of them do, and each always the same."""
        return hashlib.sha256(f"{pair}\0{annotator}".encode()).digest()[0] % 2 == 1

    def judge(
        self,
        token: str,
        pair: str,
        annotator: str,
        strength: int | None,
        *,
        turned: bool | None = None,
        seconds: float | None = None,
    ) -> bool:
        """Keep a judgement of what was shown first over what was shown second; return whether it is new.

        Which response that was is known here; ``turned`` is what the client believes, or None.

        Raises
        ------
        BadRequest
            If a value is out of range.
        NotThere
            If there is no such pair.
        Conflict
            As `JudgementStore.record`, or if the client showed the responses in another order.
        """
        name = known_name(annotator)
        shown = self.turned(pair, name)
        if turned is not None and turned != shown:
            raise Conflict("the responses were shown in another order", where=pair, expected=f"turned: {shown}")
        if strength is not None and not -STRONGEST <= strength <= STRONGEST:
            raise BadRequest("this is no strength", expected=f"-{STRONGEST} to {STRONGEST}, or null", got=str(strength))
        if not 0 < len(token) <= _LONGEST_TOKEN or "\0" in token:
            raise BadRequest("a judgement has a token", expected=f"1 to {_LONGEST_TOKEN} characters", got=str(token))
        if strength is not None and shown:
            strength = -strength
        new = self.store.record(Judgement(token, pair, name, strength, shown, seconds))
        with self._changed:
            self._held.pop(pair, None)
        return new

    def undo(self, token: str, annotator: str) -> bool:
        """Withdraw a judgement; its pair is shown again."""
        return self.store.undo(token, known_name(annotator))

    def status(self) -> dict[str, Any]:
        """Return how many pairs are judged, by whom, and how far annotators agree."""
        counts = self.store.counts()
        judged = sum(counts["votes"].values())
        done = sum(count for votes, count in counts["votes"].items() if votes >= self.votes)
        found = {
            "pairs": counts["pairs"],
            "judged": judged,
            "remaining": counts["pairs"] - done,
            "votes": self.votes,
            "judgements": sum(votes * count for votes, count in counts["votes"].items()),
        }
        key = (*counts["latest"], *(own["judged"] for own in counts["annotators"].values()))
        if self._agreement is None or self._agreement[0] != key:
            self._agreement = (key, agreed(self.store.standing()))
        told = self._agreement[1]
        annotators = [
            {"name": name, **own, **told["each"].get(name, {"agreeing": None, "compared": 0})}
            for name, own in counts["annotators"].items()
        ]
        return found | {"annotators": annotators, "agreement": told["all"]}


def known_name(annotator: str) -> str:
    """Return an annotator's name without blanks around it.

    Raises
    ------
    BadRequest
        If it is empty or too long.
    """
    name = " ".join(annotator.replace("\0", " ").split())
    if not 0 < len(name) <= _LONGEST_NAME:
        raise BadRequest(
            "an annotator has a name", expected=f"1 to {_LONGEST_NAME} characters", got=repr(annotator[:120])
        )
    return name


def agreed(standing: list[tuple[str, str, int]]) -> dict[str, Any]:
    """Return how far judgements (pair, annotator, strength) agree: ``all`` of them, and ``each`` annotator's."""
    if not standing:
        return {"all": {"alpha": None, "ci95": None, "agreeing": None, "units": 0, "annotators": 0}, "each": {}}
    pairs, names, strengths = zip(*standing, strict=True)
    _, first, unit = np.unique(np.array(pairs), return_index=True, return_inverse=True)
    known, annotator = np.unique(np.array(names), return_inverse=True)
    verdict = (np.sign(np.array(strengths)) + 1) / 2
    given = Votes(
        unit.ravel(), annotator.ravel(), verdict, first, [str(name) for name in known], np.full(len(verdict), True)
    )
    each = {name: {"agreeing": share, "compared": n} for name, (share, n) in agreement_of_each(given).items()}
    found = agreement(given, resamples=0)
    return {"all": {name: _finite(value) for name, value in found.items()}, "each": each}


def _finite(value: Any) -> Any:
    """Return None for what JSON cannot hold."""
    if isinstance(value, list):
        return value if all(np.isfinite(value)) else None
    return None if isinstance(value, float) and not np.isfinite(value) else value
