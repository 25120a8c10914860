"""Files of judgements to browse: what the served model says of each pair, and where it is most wrong or most unsure."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from assay.errors import AssayError, DataError
from assay.feedback import pairs, read_with_report
from assay.feedback.records import as_chat, prompt_text
from assay.scorers.core import ScoringCore
from assay.scorers.scored import Conversation, Preference, Score
from assay.serving.batching import Closing, Full
from assay.serving.problems import NotThere
from assay.serving.service import Service

#: How pairs are put in order: see `Source.order`.
Order = Literal["file", "mistakes", "uncertain", "disagreement"]
_TEXTS_AT_ONCE = 32
log = logging.getLogger(__name__)
_SHOWN_AT_MOST = 100


@dataclass
class Source:
    """One file: its judged pairs, and what models say of those that were scored so far.

    Attributes
    ----------
    name
        Shown to people.
    data
        Comparisons.
    left_out
        Records beyond those that are scored.
    error
        Why scoring stopped, if it did.
    refused
        Number of a pair that cannot be scored -> why.
    """

    name: str
    data: Dataset
    left_out: int = 0
    error: str | None = None
    refused: dict[int, str] = field(default_factory=dict)
    said: dict[int, Preference] = field(default_factory=dict)
    other: dict[int, Preference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.view = pairs(self.data)
        self.texts = [self._searched(row) for row in range(len(self.data))]

    def _searched(self, row: int) -> str:
        record = self.data[row]
        return "\n".join([prompt_text(record["prompt"]), *record["responses"]]).casefold()

    def order(self, by: Order) -> np.ndarray:
        """Return numbers of pairs that were scored, in one of the orders.

        ``mistakes``: those where the model prefers what the judge did not, the most confident first; ``uncertain``: P
        nearest to one half; ``disagreement``: where two models' P differ most.
        """
        known = np.array(sorted(self.said), np.int64)
        if by == "file" or len(known) == 0:
            return np.arange(len(self.view)) if by == "file" else known
        p = np.array([self.said[k].probability for k in known])
        if by == "mistakes":
            target = self.view.p[known]
            wrong = (p - 0.5) * (target - 0.5) < 0
            return known[wrong][np.argsort(-np.abs(p - 0.5)[wrong], kind="stable")]
        if by == "uncertain":
            return known[np.argsort(np.abs(p - 0.5), kind="stable")]
        both = np.array([k in self.other for k in known], bool)
        known, p = known[both], p[both]
        q = np.array([self.other[k].probability for k in known])
        return known[np.argsort(-np.abs(p - q), kind="stable")]

    def sides(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return record and number of both responses of a pair."""
        row = int(self.view.row[index])
        return (row, int(self.view.a[index])), (row, int(self.view.b[index]))

    def conversation(self, row: int, response: int) -> Conversation:
        """Return one response to the prompt of a record."""
        record = self.data[row]
        packed = (record["response_messages"] or [None] * len(record["responses"]))[response]
        said = json.loads(packed) if packed else record["responses"][response]
        return Conversation(as_chat(record["prompt"]), said)

    def shown(self, index: int) -> dict[str, Any]:
        """Return a pair as JSON values."""
        view = self.view
        row, a, b = int(view.row[index]), int(view.a[index]), int(view.b[index])
        record = self.data[row]
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in record["prompt"]]
        found: dict[str, Any] = {
            "index": index,
            "prompt": turns,
            "a": record["responses"][a],
            "b": record["responses"][b],
            "target": float(view.p[index]),
            "source": str(view.source[index]),
            "annotator": view.annotator[index],
        }
        for name, of in (("model", self.said), ("against", self.other)):
            if index in of:
                found[name] = vars(of[index])
        return found


class Browser:
    """Scores files in the background once somebody looks at them.

    Parameters
    ----------
    service
        The served model.
    sources
        Files.
    against
        A second model, run in the thread that scores.
    """

    def __init__(self, service: Service, sources: Sequence[Source], against: ScoringCore | None = None) -> None:
        self._service, self.sources, self._against = service, list(sources), against
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def has_second(self) -> bool:
        """Whether there is a second model."""
        return self._against is not None

    def source(self, number: int) -> Source:
        """Return a file, and begin to score it."""
        if not 0 <= number < len(self.sources):
            raise NotThere("there is no such data", got=str(number), expected=f"0 to {len(self.sources) - 1}")
        if number not in self._tasks:
            self._tasks[number] = self._service.background(self._score(self.sources[number]))
        return self.sources[number]

    async def _score(self, source: Source) -> None:
        try:
            for some in _of_records(source):
                try:
                    await self._score_some(source, some)
                except AssayError:  # one that a template refuses must not end the file
                    for index in some:
                        await self._score_one(source, index)
        except Closing:
            return
        except Exception as error:
            log.exception("scoring %s", source.name)
            source.error = f"scoring stopped: {type(error).__name__}; see the server's log"

    async def _score_one(self, source: Source, index: int) -> None:
        try:
            await self._score_some(source, [index])
        except AssayError as error:
            source.refused[index] = str(error)

    async def _score_some(self, source: Source, some: list[int]) -> None:
        sides = list({side: None for index in some for side in source.sides(index)})  # each response once
        given = [source.conversation(*side) for side in sides]
        own = dict(zip(sides, await self._patiently(partial(self._service.score, given)), strict=True))
        source.said |= {index: _preferred(self._service.core, source, index, own) for index in some}
        if self._against is not None:
            call = self._service.batcher.call(partial(self._against.score, given))
            other = dict(zip(sides, await asyncio.wrap_future(call), strict=True))
            source.other |= {index: _preferred(self._against, source, index, other) for index in some}

    @staticmethod
    async def _patiently(score: Callable[[], Any]) -> list[Score]:
        """Score when there is room: what people wait for goes first."""
        while True:
            try:
                found: list[Score] = await score()
                return found
            except (Full, TimeoutError):
                await asyncio.sleep(0.5)


def _preferred(core: ScoringCore, source: Source, index: int, scores: dict[tuple[int, int], Score]) -> Preference:
    one, other = source.sides(index)
    return core.prefer(scores[one], scores[other])


def _of_records(source: Source) -> Iterator[list[int]]:
    """Yield the pairs of a few records at once, so that what their responses share is computed once."""
    some: list[int] = []
    texts: set[tuple[int, int]] = set()
    for index in np.argsort(source.view.row, kind="stable").tolist():
        new = source.sides(index)
        begins = not some or source.view.row[index] != source.view.row[some[-1]]
        if begins and len(texts) >= _TEXTS_AT_ONCE:
            yield some
            some, texts = [], set()
        some.append(index)
        texts.update(new)
    if some:
        yield some


def read_sources(files: Sequence[str], rows: int, reading: dict[str, Any]) -> tuple[list[Source], list[str]]:
    """Read files of judgements, each up to a number of records; return them and what reading did.

    Raises
    ------
    DataError
        If one holds no judgement.
    """
    found, told = [], []
    for name in files:
        data, report = read_with_report(name, **reading | {"split": None})
        if "edges" not in data.column_names or len(pairs(data)) == 0:
            raise DataError("there is no judged pair to browse", where=name, expected="comparisons with judgements")
        kept = min(len(data), rows)
        found.append(Source(Path(name).name, data.select(range(kept)), len(data) - kept))
        told.append("\n".join(report.lines()))
        if kept < len(data):
            told.append(f"  shown: the first {kept:,} of {len(data):,} records (--rows)")
    return found, told


def router(browser: Browser) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/data", tags=["data"])

    @routes.get("", summary="Files that may be browsed")
    async def files() -> JSONResponse:
        return JSONResponse([_described(source, k) for k, source in enumerate(browser.sources)])

    @routes.get("/{number}", summary="Judged pairs of a file, with what the model says")
    async def some(
        number: int,
        by: Order = "file",
        search: str = "",
        start: int = Query(default=0, ge=0),
        count: int = Query(default=20, ge=1, le=_SHOWN_AT_MOST),
    ) -> JSONResponse:
        source = browser.source(number)
        order = source.order(by)
        if wanted := search.casefold().strip():
            kept = [wanted in source.texts[int(source.view.row[k])] for k in order]
            order = order[np.array(kept, bool)]
        page = [source.shown(int(k)) for k in order[start : start + count]]
        return JSONResponse(_described(source, number) | {"found": len(order), "start": start, "pairs": page})

    def _described(source: Source, number: int) -> dict[str, Any]:
        return {
            "number": number,
            "name": source.name,
            "pairs_in_all": len(source.view),
            "scored": len(source.said),
            "refused": len(source.refused),
            "left_out": source.left_out,
            "error": source.error,
            "against": browser.has_second,
        }

    return routes
