"""Column mappings: how to say, for any other layout, which cells hold what.

Cells are named by paths (:mod:`assay.feedback.paths`): ``post``, ``info.post``, ``responses[0]``,
``solutions[].solution``, ``=constant``. Several paths are a list, or one text with commas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from assay.config import Settings, build
from assay.feedback.drafts import Ties
from assay.feedback.paths import key_text, path_problem, rule_problem
from assay.feedback.records import Kind


def _several(value: Any) -> Any:
    if isinstance(value, str):
        return [piece.strip() for piece in value.split(",") if piece.strip()]
    return value


def _text_keys(value: Any) -> Any:
    """Write the keys as cells are compared: YAML reads 1 and true as other things than text."""
    return {key_text(key): entry for key, entry in value.items()} if isinstance(value, dict) else value


Verdict = Literal["first", "second", "tie", "skip"]
Paths = Annotated[list[str], BeforeValidator(_several)]


class ColumnMapping(Settings):
    """Which cells of a row hold what; a field that is left out does not exist in the data.

    The verdict comes from exactly one of: ``chosen`` and ``rejected``; ``choice``; a signed ``confidence`` (with
    ``confidence_middle``); ``preference`` over listed pairs; ``ranks``; two or more ``votes``; otherwise from
    ``grades``, if there are any. Without all of these the responses are unlabelled.
    """

    kind: Kind = Field(default="comparisons", description="what a row becomes: comparisons, ratings or prompts")
    prompt: Paths = Field(description="path of the prompt (text or messages); several are joined by a blank line")
    system: str | None = Field(default=None, description="path of what the system says before the prompt")
    prompt_format: Literal["auto", "text", "hh"] = Field(
        default="auto", description="hh: the prompt is dialogue text with Human: and Assistant: turns"
    )
    responses: Paths = Field(default=[], description="one list path (solutions[].text), or a path per response")
    chosen: str | None = Field(default=None, description="path of the better response")
    rejected: str | None = Field(default=None, description="path of the worse response")
    choice: str | None = Field(
        default=None, description="path of the index (from 0) of the best response, or of its name"
    )
    choice_names: Annotated[dict[str, int | Literal["tie", "skip"]], BeforeValidator(_text_keys)] = Field(
        default={}, description="what values of choice mean: an index, tie, or skip"
    )
    confidence: str | None = Field(
        default=None, description="path of how sure the judge was; kept as the edge's confidence"
    )
    confidence_middle: float | None = Field(
        default=None, description="below it the first response is better, above it the second, at it they tie"
    )
    preference: str | None = Field(default=None, description="path of a list of verdicts, one per listed pair")
    preference_pairs: list[tuple[int, int]] | None = Field(
        default=None, description="index pairs (from 0) of preference; default: all pairs in order (0,1), (0,2) …"
    )
    preference_values: Annotated[dict[str, Verdict], BeforeValidator(_text_keys)] = Field(
        default={"1": "first", "2": "second", "0": "tie"}, description="what the values of preference mean"
    )
    ranks: Paths = Field(
        default=[], description="one list path (answers[].rank), or a path per response; a lower rank is better"
    )
    votes: Paths = Field(
        default=[], description="one path: how often the row's verdict occurred; a path per response: votes for each"
    )
    votes_as: Literal["edges", "weight"] = Field(
        default="edges", description="a single count becomes that many judgements, or the weight of one"
    )
    grades: dict[str, Paths] | Paths = Field(
        default=[], description="path of a number, a list or a dict of grades; or dimension: path"
    )
    compare: str | None = Field(
        default=None, description="dimension whose grades decide; default: the mean over dimensions"
    )
    ties: Ties | None = Field(default=None, description="equal grades: keep as ties (p = 0.5) or drop (counted)")
    label: str | None = Field(default=None, description="for ratings: path of true (good) or false (bad)")
    target: str | None = Field(default=None, description="path of P(better one wins), in [0, 1]")
    margin: str | None = Field(default=None, description="path of the additive margin")
    weight: str | None = Field(default=None, description="path of the weight, zero or more")
    ground_truth: str | None = Field(default=None, description="for prompts: path of the right answer")
    group: str | None = Field(default=None, description="path of the split group; default: the first user turn")
    annotator: str | None = Field(default=None, description="path of who judged")
    source: str | None = Field(default=None, description="path of where the judgement comes from; =text for a constant")
    drop: Paths = Field(
        default=[], description="rows to leave out (counted): 'lang != en', 'answer is null', 'split = test'"
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what cannot be: two verdicts, none of the responses, paths and rules that do not parse."""
        yield from self._verdict_conflicts()
        if (self.chosen is None) != (self.rejected is None):
            yield "chosen", "chosen and rejected come together"
        elif self.chosen and self.responses:
            yield "responses", "not together with chosen and rejected"
        elif self.kind != "prompts" and not self.responses and not self.chosen:
            yield "responses", "missing (or chosen and rejected)"
        if self.kind == "ratings" and bool(self.grades) == (self.label is not None):
            yield "grades", "ratings need exactly one of grades and label"
        if self.kind == "comparisons" and self.label is not None:
            yield "label", "for kind ratings only; the index of the better response is called choice"
        for path in self.paths():
            if problem := path_problem(path):
                yield "path", problem
        for rule in self.drop:
            if problem := rule_problem(rule):
                yield "drop", problem

    def _verdict_conflicts(self) -> Iterator[tuple[str, str]]:
        verdicts = {
            "chosen": self.chosen is not None,
            "choice": self.choice is not None,
            "confidence": self.choice is None and self.confidence_middle is not None,
            "preference": self.preference is not None,
            "ranks": bool(self.ranks),
            "votes": len(self.votes) > 1,
        }
        given = [name for name, is_there in verdicts.items() if is_there]
        if len(given) > 1:
            yield given[1], f"the verdict comes from one place, not from {' and '.join(given)}"
        if self.confidence_middle is not None and self.confidence is None:
            yield "confidence_middle", "needs confidence"
        if len(self.votes) > 1 and len(self.votes) != len(self.responses):
            yield "votes", f"{len(self.votes)} paths for {len(self.responses)} responses"

    def paths(self) -> list[str]:
        """Return every path that the mapping names."""
        single = (self.chosen, self.rejected, self.choice, self.confidence, self.preference, self.label, self.target)
        more = (self.system, self.margin, self.weight, self.ground_truth, self.group, self.annotator, self.source)
        grades = [p for paths in self.grades.values() for p in paths] if isinstance(self.grades, dict) else self.grades
        found = [path for path in (*single, *more) if path is not None]
        return [*self.prompt, *self.responses, *found, *self.ranks, *self.votes, *grades]


def column_mapping(value: ColumnMapping | Mapping[str, Any]) -> ColumnMapping:
    """Return ``value`` as a checked mapping; a dotted key (``grades.quality``) is a key within a key.

    Raises
    ------
    ConfigError
        With all that is wrong with it, unknown keys with the nearest known one.
    """
    if isinstance(value, ColumnMapping):
        return value
    nested: dict[str, Any] = {}
    for key, entry in value.items():
        outer, _, inner = str(key).partition(".")
        if inner:
            nested.setdefault(outer, {})[inner] = entry
        else:
            nested[outer] = entry
    return build(ColumnMapping, nested, where="mapping")
