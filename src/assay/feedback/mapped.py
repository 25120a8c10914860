"""A column mapping at work: one row in, records out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.feedback.asking import after_system
from assay.feedback.dialogues import (
    Response,
    cut_hh,
    hh_group,
    hh_messages,
    is_chat,
    is_open_hh,
    prompt_messages,
    response_of,
    unpack_chat,
)
from assay.feedback.drafts import NO_JUDGEMENT, Context, comparison_record, grade_edges
from assay.feedback.fields import Row, flag, leftover, plain, shown, truth_text, unpack
from assay.feedback.list_shapes import grade_value, grades_of
from assay.feedback.mapping import ColumnMapping
from assay.feedback.paths import DropRule
from assay.feedback.problems import Dropped, RowError
from assay.feedback.rating_shapes import prompt_record, rated_text, rating_record
from assay.feedback.records import Grade, Message, message
from assay.feedback.verdicts import Cells, Verdicts

Records = list[dict[str, Any]]


class MappedReader:
    """Reads rows as a :class:`ColumnMapping` says; paths are parsed once."""

    def __init__(self, mapping: ColumnMapping) -> None:
        self.mapping = mapping
        self._cells = Cells(mapping)
        self._rules = [DropRule.parse(rule) for rule in mapping.drop]
        self._sides = [mapping.chosen, mapping.rejected] if mapping.chosen and mapping.rejected else mapping.responses
        self._verdicts = Verdicts(mapping, self._cells, self._sides)
        verdict = any((mapping.choice, mapping.chosen, mapping.preference, mapping.ranks))
        verdict = verdict or mapping.confidence_middle is not None
        self.grades_decide = bool(mapping.grades) and not verdict and len(mapping.votes) < 2
        named = [path for _, paths in _by_dimension(mapping.grades) for path in paths]
        self._ranks_as_grades = any("rank" in path.lower() for path in named)
        self._judged = bool(mapping.grades or verdict or mapping.votes)

    def __call__(self, row: Row, context: Context) -> Records:
        """Read one row.

        Raises
        ------
        RowError
            If a path leads nowhere or a cell has the wrong type.
        Dropped
            If a rule says so, a cell that the mapping names is null, or the pair is identical.
        """
        for rule in self._rules:
            if rule.applies(row):
                raise Dropped(f"rule: {rule.text}")
        prompt, group = self._prompt(row)
        said = self._cells.maybe(row, self.mapping.system)
        if said is not None and said == said:  # NaN is what pandas makes of an empty cell
            prompt = after_system(_joined(said, str(self.mapping.system)), prompt)
        if self.mapping.group:
            group = plain(self._cells.need(row, self.mapping.group))
        if self.mapping.kind == "prompts":
            truth, source = (
                self._cells.maybe(row, self.mapping.ground_truth),
                plain(self._cells.maybe(row, self.mapping.source)),
            )
            meta = self._meta(row, ())
            return [prompt_record(prompt, truth_text(truth), source=source or "", split_group=group, meta=meta)]
        if self._ranks_as_grades:
            context.note("grades called rank: a higher one counts as better (a lower one: --mapping.ranks)", 1)
        sides, listed = self._responses(row)
        if self.mapping.kind == "ratings":
            return self._ratings(row, prompt, sides, group)
        return [self._comparison(row, prompt, sides, listed, group, context)]

    def _prompt(self, row: Row) -> tuple[list[Message], str | None]:
        style = self.mapping.prompt_format
        values = [self._cells.need(row, path) for path in self.mapping.prompt]
        column = self.mapping.prompt[0]
        value = unpack_chat(values[0], column)
        if len(values) == 1 and isinstance(value, str) and style != "text":
            if style == "hh":
                body = cut_hh(value, column).prompt if value.rstrip().endswith("Assistant:") else value
                return hh_messages(body, column), hh_group(value)
            if is_open_hh(value):
                return prompt_messages(value, column), hh_group(value)
        if len(values) == 1 and not isinstance(value, str) and is_chat(value):
            return prompt_messages(value, column), None
        parts = [_joined(value, path) for value, path in zip(values, self.mapping.prompt, strict=True)]
        return [message("user", "\n\n".join(part for part in parts if part))], None

    def _responses(self, row: Row) -> tuple[list[Response], str | None]:
        """Return the responses, and the list path they came from, if it was one."""
        paths: Sequence[str] = self._sides
        if len(paths) == 1:
            value = unpack(self._cells.need(row, paths[0]))
            if isinstance(value, (list, tuple)) and not is_chat(value):
                if any(element is None for element in value):
                    raise Dropped(f"null in {paths[0]}")
                return [response_of(e, f"{paths[0]}[{i}]") for i, e in enumerate(value)], paths[0]
        return [response_of(self._cells.need(row, path), path) for path in paths], None

    def _ratings(self, row: Row, prompt: list[Message], sides: list[Response], group: str | None) -> Records:
        who = plain(self._cells.maybe(row, self.mapping.annotator))
        source = plain(self._cells.maybe(row, self.mapping.source)) or "human"
        shared: dict[str, Any] = {"annotator": who, "source": source, "split_group": group, "meta": self._meta(row, ())}
        result = []
        labels = self._labels(row, len(sides))
        for response, own, label in zip(sides, self._grades(row, len(sides)), labels, strict=True):
            text = rated_text(response, ", ".join(self._sides))
            if label is not None:
                result.append(rating_record(prompt, text, label=label, **shared))
            result += [
                rating_record(prompt, text, grade=grade["value"], dimension=grade["dimension"], **shared)
                for grade in own
                if grade["value"] is not None
            ]
        if not result:
            raise Dropped(NO_JUDGEMENT)
        return result

    def _labels(self, row: Row, count: int) -> list[bool | None]:
        path = self.mapping.label
        if path is None:
            return [None] * count
        value = self._cells.need(row, path)
        values = value if isinstance(value, list) else [value]
        if len(values) != count:
            raise RowError("lists of different length", column=path, expected=f"{count} labels", got=str(len(values)))
        return [None if entry is None else flag(entry, path) for entry in values]

    def _grades(self, row: Row, count: int) -> list[list[Grade]]:
        result: list[list[Grade]] = [[] for _ in range(count)]
        for dimension, paths in _by_dimension(self.mapping.grades):
            values = [self._cells.maybe(row, path) for path in paths]
            column = paths[0]
            if len(paths) == 1 and isinstance(unpack(values[0]), (list, tuple)):
                values = list(unpack(values[0]))
            if len(values) != count:
                raise RowError(
                    "grades and responses differ in number",
                    column=column,
                    expected=f"{count} grades",
                    got=str(len(values)),
                )
            for own, value in zip(result, values, strict=True):
                value = unpack(value)
                if dimension is None or isinstance(value, dict):
                    own += grades_of(value, column, _last_name(column))
                else:
                    own.append({"dimension": dimension, "value": grade_value(value, column)})
        return result

    def _comparison(
        self,
        row: Row,
        prompt: list[Message],
        sides: list[Response],
        listed: str | None,
        group: str | None,
        context: Context,
    ) -> dict[str, Any]:
        grades = self._grades(row, len(sides)) if self.mapping.grades else None
        single = len(sides) == 1 and (not self._judged or (self.grades_decide and listed is None))
        record = comparison_record(
            prompt,
            sides,
            self._verdicts.edges(row, len(sides), context),
            grades=grades,
            split_group=group,
            row_meta=self._meta(row, (listed,) if listed else ()),
            response_meta=self._element_meta(row, listed, len(sides)),
            allow_single=single,
            context=context,
        )
        if self.grades_decide:
            if not any(g["value"] is not None for own in record["grades"] for g in own):
                raise Dropped(NO_JUDGEMENT)
            record["edges"] = grade_edges(record["grades"], context, self.mapping.compare)
        return record

    def _meta(self, row: Row, partly: tuple[str, ...]) -> dict[str, Any]:
        whole_cells = {
            p.column for p in self._cells.paths.values() if p.column and (len(p.parts) == 1 or p.text in row)
        }
        lists = {self._cells.paths[path].column for path in partly}
        return leftover(row, {name for name in (whole_cells | lists) if name is not None})

    def _element_meta(self, row: Row, listed: str | None, count: int) -> list[dict[str, Any]] | None:
        """Return, for ``solutions[].text``, what else the elements of ``solutions`` carry."""
        if listed is None:
            return None
        path = self._cells.paths[listed]
        if len(path.parts) != 3 or path.parts[1] != -1:
            return None
        elements = unpack(row[str(path.parts[0])])
        used = {
            str(p.parts[2]) for p in self._cells.paths.values() if p.parts[:2] == path.parts[:2] and len(p.parts) == 3
        }
        metas = [leftover(element, used) for element in elements if isinstance(element, dict)]
        return metas if len(metas) == count else None


def _joined(value: Any, column: str) -> str:
    """Return a text cell, or the texts of a (nested) list joined by line ends."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "\n".join(_joined(element, column) for element in value if element is not None)
    raise RowError("wrong type", column=column, expected="text, messages or a list of texts", got=shown(value))


def _by_dimension(grades: dict[str, list[str]] | list[str]) -> list[tuple[str | None, list[str]]]:
    """Return (dimension, paths); a single unnamed path may hold a dict that names its dimensions itself."""
    if isinstance(grades, dict):
        return list(grades.items())
    if len(grades) == 1:
        return [(None, grades)]
    return [(_last_name(path), [path]) for path in grades]


def _last_name(path: str) -> str:
    return path.split(".")[-1].removesuffix("[]")
