"""The verdict of a mapped row: which response is better, by how much, says who."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from assay.feedback.drafts import NO_JUDGEMENT, Context
from assay.feedback.fields import WEIGHT, Row, number, plain, shown, unpack, whole
from assay.feedback.list_shapes import rank_edges
from assay.feedback.mapping import ColumnMapping
from assay.feedback.paths import CellPath, key_text
from assay.feedback.problems import Dropped, RowError
from assay.feedback.records import Edge, edge
from assay.feedback.vote_shapes import DISAGREEING

_UNSIGNED = "a confidence of zero or more (signed ones: name confidence_middle)"


class Cells:
    """The cells that a mapping names; paths are parsed once."""

    def __init__(self, mapping: ColumnMapping) -> None:
        self.paths = {path: CellPath.parse(path) for path in mapping.paths()}

    def need(self, row: Row, path: str) -> Any:
        """Return a cell that must not be null; a row where it is null is dropped (counted)."""
        value = self.paths[path].get(row)
        if value is None:
            raise Dropped(f"null in {path}")
        return value

    def maybe(self, row: Row, path: str | None) -> Any:
        """Return a cell, or None if it is null or not mapped."""
        return None if path is None else self.paths[path].get(row)


class Verdicts:
    """Reads the judgements of a row as a mapping says; ``sides`` are the paths of the responses."""

    def __init__(self, mapping: ColumnMapping, cells: Cells, sides: Sequence[str]) -> None:
        self.mapping, self.cells, self.sides = mapping, cells, sides

    def edges(self, row: Row, count: int, context: Context) -> list[Edge]:
        """Return the judgements among ``count`` responses; none if the mapping names no verdict."""
        mapping = self.mapping
        details = self._details(row)
        if mapping.chosen is not None:
            edges = [edge(0, 1, **details)]
        elif mapping.choice is not None:
            edges = self._by_choice(row, count, details, context)
        elif mapping.confidence_middle is not None:
            edges = self._by_confidence(row, count, details)
        elif mapping.preference is not None:
            edges = self._by_preference(row, count, details)
        elif mapping.ranks:
            edges = self._by_ranks(row, count, details)
        elif len(mapping.votes) > 1:
            edges = self._by_votes(row, details)
        else:
            return []
        return self._repeated(row, edges) if len(mapping.votes) == 1 else edges

    def _details(self, row: Row) -> dict[str, Any]:
        mapping = self.mapping
        result: dict[str, Any] = {}
        for key, path, low, high in (
            ("p", mapping.target, 0.0, 1.0),
            ("m", mapping.margin, -float("inf"), float("inf")),
            ("w", mapping.weight, WEIGHT["low"], WEIGHT["high"]),
        ):
            if path is not None and (value := self.cells.maybe(row, path)) is not None:
                what = "a number" if low < 0 else f"a number from {low:g} to {high:g}"
                result[key] = number(value, path, low=low, high=high, what=what)
        if mapping.source is not None:
            result["source"] = plain(self.cells.maybe(row, mapping.source)) or "human"
        if mapping.annotator is not None:
            result["annotator"] = plain(self.cells.maybe(row, mapping.annotator))
        if mapping.confidence is not None:
            middle = mapping.confidence_middle
            limits: dict[str, Any] = {"low": 0.0, "what": _UNSIGNED} if middle is None else {}
            given = number(self.cells.need(row, mapping.confidence), mapping.confidence, **limits)
            result["confidence"] = given if middle is None else abs(given - middle)
        return result

    def _by_choice(self, row: Row, count: int, details: dict[str, Any], context: Context) -> list[Edge]:
        path = str(self.mapping.choice)
        value = self.cells.need(row, path)
        names = {side: i for i, side in enumerate(self.sides)} if len(self.sides) == count else {}
        best = (names | self.mapping.choice_names).get(key_text(value))
        if best == "skip":
            raise Dropped(NO_JUDGEMENT)
        if best == "tie":
            return [edge(a, b, **{**details, "p": 0.5}) for a, b in combinations(range(count), 2)]
        if best is None and any(isinstance(meaning, int) for meaning in self.mapping.choice_names.values()):
            # read as an index, what nobody named would be one response or the other
            known = ", ".join(names | self.mapping.choice_names)
            raise RowError("unknown verdict", column=path, expected=f"one of {known}", got=shown(value),
                           remedy="name it in choice_names, as an index, tie or skip")  # fmt: skip
        if best is None:
            best = whole(value, path, choices=range(count))
        middle = self.mapping.confidence_middle
        if middle is not None and count == 2:
            given = number(self.cells.need(row, str(self.mapping.confidence)), str(self.mapping.confidence))
            if (given - middle) * (int(best) - 0.5) < 0:
                context.note(DISAGREEING, 1)
        return [edge(int(best), other, **details) for other in range(count) if other != best]

    def _by_confidence(self, row: Row, count: int, details: dict[str, Any]) -> list[Edge]:
        path, middle = str(self.mapping.confidence), float(self.mapping.confidence_middle or 0.0)
        if count != 2:
            raise RowError("a signed confidence is about two responses", column=path, expected="2", got=str(count))
        given = number(self.cells.need(row, path), path)
        if given == middle:
            return [edge(0, 1, **{**details, "p": 0.5})]
        return [edge(0, 1, **details) if given < middle else edge(1, 0, **details)]

    def _by_preference(self, row: Row, count: int, details: dict[str, Any]) -> list[Edge]:
        path = str(self.mapping.preference)
        value = unpack(self.cells.need(row, path))
        values = value if isinstance(value, list) else [value]
        listed = self.mapping.preference_pairs or list(combinations(range(count), 2))
        if len(values) != len(listed):
            raise RowError("verdicts and pairs differ in number", column=path, expected=f"{len(listed)} verdicts",
                           got=str(len(values)))  # fmt: skip
        edges = []
        for (a, b), verdict in zip(listed, values, strict=True):
            if not 0 <= max(a, b) < count:
                raise RowError("a pair names a response that is not there", column=path, expected=f"0 to {count - 1}",
                               got=f"({a}, {b})")  # fmt: skip
            meaning = self.mapping.preference_values.get(key_text(verdict))
            if meaning is None:
                known = ", ".join(self.mapping.preference_values)
                raise RowError("unknown verdict", column=path, expected=f"one of {known}", got=shown(verdict))
            if meaning == "tie":
                edges.append(edge(a, b, **{**details, "p": 0.5}))
            elif meaning != "skip":
                edges.append(edge(a, b, **details) if meaning == "first" else edge(b, a, **details))
        if not edges:
            raise Dropped(NO_JUDGEMENT)
        return edges

    def _by_ranks(self, row: Row, count: int, details: dict[str, Any]) -> list[Edge]:
        """Turn ranks into one judgement per pair: a lower rank is better, equal ranks tie."""
        cells = [self.cells.need(row, path) for path in self.mapping.ranks]
        values = unpack(cells[0]) if len(cells) == 1 else cells
        if not isinstance(values, (list, tuple)) or len(values) != count:
            raise RowError("ranks and responses differ in number", column=self.mapping.ranks[0],
                           expected=f"{count} ranks", got=shown(values))  # fmt: skip
        ranks = [number(value, path) for value, path in zip(values, _each(self.mapping.ranks, count), strict=True)]
        shared = {"source": "ranks", **details}
        return [edge(own["a"], own["b"], **{**shared, "p": own["p"]}) for own in rank_edges(ranks)]

    def _by_votes(self, row: Row, details: dict[str, Any]) -> list[Edge]:
        """Turn votes per response into one judgement per pair: p the share, w the number of votes."""
        counts = [number(self.cells.need(row, path), path, low=0.0, what="a count") for path in self.mapping.votes]
        edges = []
        for a, b in combinations(range(len(counts)), 2):
            total = counts[a] + counts[b]
            if total > 0:
                better, worse = (a, b) if counts[a] >= counts[b] else (b, a)
                share = counts[better] / total
                edges.append(edge(better, worse, **{**details, "p": share, "w": total * details.get("w", 1.0)}))
        if not edges:
            raise Dropped(NO_JUDGEMENT)
        return edges

    def _repeated(self, row: Row, edges: list[Edge]) -> list[Edge]:
        path = self.mapping.votes[0]
        times = number(self.cells.need(row, path), path, low=0.0, what="a count")
        if self.mapping.votes_as == "weight":
            return [{**judged, "w": judged["w"] * times} for judged in edges]
        if times != int(times):
            raise RowError("not a whole count", column=path, expected="a whole number", got=shown(times),
                           remedy="--mapping.votes_as weight")  # fmt: skip
        if not times:
            raise Dropped(NO_JUDGEMENT)
        return [{**judged} for judged in edges for _ in range(int(times))]


def _each(paths: Sequence[str], count: int) -> list[str]:
    """Return a path for each response, for messages."""
    return list(paths) if len(paths) == count else [f"{paths[0]}[{i}]" for i in range(count)]
