"""The table of known layouts, and which of them a source has. In doubt it refuses and names the candidates."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.errors import DataError
from assay.feedback.asking import PROMPT_COLUMNS, SYSTEM_COLUMNS
from assay.feedback.dialogues import is_chat, looks_like_hh
from assay.feedback.drafts import Context
from assay.feedback.fields import unpack
from assay.feedback.list_shapes import GRADE_LISTS, RESPONSE_LISTS, ranked_list, rated_list
from assay.feedback.pair_shapes import (
    CHOSEN_SCORES,
    REJECTED_SCORES,
    RESPONSE_COLUMNS,
    Records,
    alpaca_pair,
    explicit_pair,
    hh_pair,
    labelled_pair,
    lone_response,
    tokenised_pair,
    unlabelled_pair,
)
from assay.feedback.rating_shapes import (
    good_or_bad,
    lone_prompt,
    own_prompt,
    own_rating,
    pointwise,
    rated_response,
    rl_prompt,
    stepwise,
)
from assay.feedback.record_shape import own_record
from assay.feedback.records import Kind
from assay.feedback.vote_shapes import annotated_pair, arena, confidence_pair, unjudged_turns

Rows = Sequence[dict[str, Any]]
#: What tells, by its name, which response is better.
VERDICT_WORD = re.compile(
    r"label|choice|chosen|winner|prefer|better|score|rating|rank|grade|confiden|vote|annotat", re.I
)
_NUMBERED = re.compile(r"^(.*?)(answer|response|completion|output|summary|generation|prediction)[_ ]?(\d|[ab])$", re.I)
_PROMPT_WORD = re.compile(r"prompt|question|instruction|conversation|context|query|post|input", re.I)


@dataclass(frozen=True)
class Shape:
    """One layout: its name, what rows of it become, its reader, and how to recognise it.

    ``needs`` lists alternatives: the columns of one of them must all be there. ``looks`` judges columns and first rows.
    ``grades_decide``: judgements follow from grades. ``drop_single``: a prompt needs two responses.
    """

    name: str
    kind: Kind
    parse: Callable[[dict[str, Any], Context], Records]
    needs: tuple[frozenset[str], ...]
    looks: Callable[[frozenset[str], Rows], bool] = lambda columns, rows: True
    grades_decide: bool = False
    drop_single: bool = False

    def matches(self, columns: frozenset[str], rows: Rows) -> bool:
        """Tell whether columns and values are those of this layout."""
        return any(need <= columns for need in self.needs) and self.looks(columns, rows)


def _first(rows: Rows, column: str) -> Any:
    """Return the first value of a column that is not null."""
    return next((unpack(row[column]) for row in rows if row.get(column) is not None), None)


def _chosen_is_hh(columns: frozenset[str], rows: Rows) -> bool:
    return looks_like_hh(_first(rows, "chosen"))


def _has_scores(columns: frozenset[str]) -> bool:
    return any(name in columns for name in (*CHOSEN_SCORES, *REJECTED_SCORES))


def _one_prompt(columns: frozenset[str]) -> bool:
    return "prompt" in columns or len(columns & set(PROMPT_COLUMNS)) == 1


def _plain_pair(columns: frozenset[str], rows: Rows) -> bool:
    # Whatever is neither a dialogue nor messages: a wrong type is then reported with its row and column.
    plain = not is_chat(_first(rows, "chosen")) and not _chosen_is_hh(columns, rows)
    return plain and not _has_scores(columns) and _one_prompt(columns)


def _chat_pair(columns: frozenset[str], rows: Rows) -> bool:
    return is_chat(_first(rows, "chosen")) and not _has_scores(columns)


def _graded_pair(columns: frozenset[str], rows: Rows) -> bool:
    return (
        _has_scores(columns)
        and not _chosen_is_hh(columns, rows)
        and (_one_prompt(columns) or is_chat(_first(rows, "chosen")))
    )


def _list_of_text(column: str) -> Callable[[frozenset[str], Rows], bool]:
    def looks(columns: frozenset[str], rows: Rows) -> bool:
        value = _first(rows, column)
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)

    return looks


def _ranked(columns: frozenset[str], rows: Rows) -> bool:
    value = _first(rows, "completions")
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "rank" in value[0]


def _rated(columns: frozenset[str], rows: Rows) -> bool:
    if "edges" in columns or not columns & set(PROMPT_COLUMNS):
        return False
    lists = [name for name in RESPONSE_LISTS if isinstance(_first(rows, name), list)]
    return len(lists) == 1 and sum(isinstance(_first(rows, name), list) for name in GRADE_LISTS) == 1


def families(columns: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Group columns that are numbered or lettered responses: ``{("first_", "answer"): ["first_answer_0", …]}``."""
    found: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        match = _NUMBERED.match(column)
        if match:
            found.setdefault((match[1], match[2]), []).append(column)
    return {key: names for key, names in found.items() if len(names) > 1}


def _one_pair(columns: frozenset[str]) -> bool:
    """Tell whether there is exactly one family of responses, of two, and nothing to confuse it with."""
    found = list(families(columns).items())
    clear = len(found) == 1 and found[0][0][0] == "" and len(found[0][1]) == 2 and "conversation" not in columns
    return clear and len(columns & set(PROMPT_COLUMNS)) == 1 and not {"chosen", "rejected"} & columns


def _labelled(columns: frozenset[str], rows: Rows) -> bool:
    others = [name for name in columns if VERDICT_WORD.search(name) and name not in ("label", "margin", "weight")]
    return _one_pair(columns) and not others


def _unlabelled(columns: frozenset[str], rows: Rows) -> bool:
    if any(VERDICT_WORD.search(name) for name in columns):
        return False
    if "responses" in columns:
        return isinstance(_first(rows, "responses"), list) and not families(columns) and "edges" not in columns
    return _one_pair(columns) and not _turns_alone(columns, rows)


def _turns_alone(columns: frozenset[str], rows: Rows) -> bool:
    turns = {"prompt", "response_a", "response_b"}
    told = any(VERDICT_WORD.search(name) for name in columns)
    return not told and turns <= columns and all(isinstance(_first(rows, name), list) for name in turns)


def _lone(columns: frozenset[str], rows: Rows) -> bool:
    if any(VERDICT_WORD.search(name) for name in columns) or families(columns):
        return False
    others = {"responses", "completions", "chosen", "rejected", "text", "edges", "dimension", "conversation"}
    return len(columns & set(RESPONSE_COLUMNS)) == 1 and _one_prompt(columns) and not others & columns


def _nothing_but_a_prompt(columns: frozenset[str], rows: Rows) -> bool:
    beside = columns - {"id", "prompt_id", "source", "data_source", "split_group", "meta", "input", "split"}
    beside -= set(SYSTEM_COLUMNS)
    return len(beside) == 1 and beside <= set(PROMPT_COLUMNS)


def _kto(columns: frozenset[str], rows: Rows) -> bool:
    return not {"chosen", "rejected"} & columns


def _all(*groups: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group.split()) for group in groups)


_PROMPTS = tuple(frozenset({name}) for name in PROMPT_COLUMNS)
_PAIR = _all("chosen rejected")
_EXPLICIT = tuple(frozenset({name, "chosen", "rejected"}) for name in PROMPT_COLUMNS if name != "instruction")

SHAPES: tuple[Shape, ...] = (
    Shape("record", "comparisons", own_record, _all("prompt responses edges")),
    Shape("rating", "ratings", own_rating, _all("response dimension grade", "response dimension label")),
    Shape(
        "prompt",
        "prompts",
        own_prompt,
        _all("prompt ground_truth"),
        lambda columns, rows: not {"chosen", "responses", "response", "completion", "reward_model"} & columns,
    ),
    Shape("explicit_pair", "comparisons", explicit_pair, _EXPLICIT, _plain_pair),
    Shape("hh", "comparisons", hh_pair, _PAIR, _chosen_is_hh),
    Shape("conversational_pair", "comparisons", explicit_pair, _PAIR, _chat_pair),
    Shape("graded_pair", "comparisons", explicit_pair, _PAIR, _graded_pair),
    Shape(
        "tokenised_pair",
        "comparisons",
        tokenised_pair,
        _all("chosen_ids rejected_ids", "chosen_input_ids rejected_input_ids"),
        lambda columns, rows: not {"chosen", "rejected"} & columns,
    ),
    Shape("ranked_list", "comparisons", ranked_list, _all("context completions"), _ranked),
    Shape("rated_list", "comparisons", rated_list, _PROMPTS, _rated, grades_decide=True),
    Shape(
        "arena",
        "comparisons",
        arena,
        _all(
            "prompt response_a response_b winner_model_a winner_model_b winner_tie",
            "prompt response_a response_b winner",
            "conversation_a conversation_b winner",
        ),
    ),
    Shape("turns", "comparisons", unjudged_turns, _all("prompt response_a response_b"), _turns_alone),
    Shape("confidence_pair", "comparisons", confidence_pair, _all("info summaries choice")),
    Shape("pandalm", "comparisons", annotated_pair, _all("instruction response1 response2 annotator1")),
    Shape("kto", "ratings", good_or_bad, _all("prompt completion label"), _kto),
    Shape("pointwise", "ratings", pointwise, _all("text score")),
    Shape("stepwise", "ratings", stepwise, _all("prompt completions labels"), _list_of_text("completions")),
    Shape(
        "alpaca_ranking",
        "comparisons",
        alpaca_pair,
        _all("instruction chosen rejected"),
        lambda columns, rows: "prompt" not in columns and _plain_pair(columns, rows),
    ),
    Shape("verl_prompts", "prompts", rl_prompt, _all("data_source prompt reward_model")),
    Shape("labelled_pair", "comparisons", labelled_pair, _all("label"), _labelled),
    Shape("unlabelled", "comparisons", unlabelled_pair, _PROMPTS, _unlabelled),
    Shape("response", "comparisons", lone_response, _PROMPTS, _lone),
    Shape("prompt_only", "prompts", lone_prompt, _PROMPTS, _nothing_but_a_prompt),
)


def compared(shape: Shape) -> Shape:
    """Return a layout of ratings as one of comparisons: rated responses of one prompt, whose grades decide."""

    def parse(row: dict[str, Any], context: Context) -> Records:
        return [rated_response(rating) for rating in shape.parse(row, context)]

    return replace(shape, kind="comparisons", parse=parse, grades_decide=True, drop_single=True)


def gathered(shape: Shape) -> Shape:
    """Return a layout of ratings as one of records: the rated responses of one prompt, without any judgement."""

    def parse(row: dict[str, Any], context: Context) -> Records:
        return [rated_response(rating, steps=True) for rating in shape.parse(row, context)]

    return replace(shape, kind="comparisons", parse=parse, grades_decide=False, drop_single=False)


FORMATS: tuple[str, ...] = tuple(shape.name for shape in SHAPES)


def named_shape(name: str) -> Shape:
    """Return the layout of that name.

    Raises
    ------
    DataError
        If there is none; the nearest name is suggested.
    """
    found = next((shape for shape in SHAPES if shape.name == name), None)
    if found is not None:
        return found
    near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0.4)
    raise DataError(
        f"there is no format {name!r}",
        where="format",
        expected=f"auto, or one of {', '.join(FORMATS)}",
        remedy=f"did you mean {near[0]!r}?" if near else "leave it out to have the layout detected",
    )


def detect(rows: Rows, where: str) -> Shape:
    """Return the one layout that fits columns and values of the first rows.

    Raises
    ------
    DataError
        If none fits, or if the columns can be read in more than one way; the message lists the candidates.
    """
    columns = frozenset(name for row in rows for name in row)
    found = [shape for shape in SHAPES if shape.matches(columns, rows)]
    found = [shape for shape in found if not (shape.name == "prompt" and len(found) > 1)]
    several = len(families(columns)) > 1
    if len(found) == 1 and not several:
        return found[0]
    ordered = list(dict.fromkeys(name for row in rows for name in row))
    raise _ambiguous(found, ordered, where) if found or several else _unknown(ordered, where)


def _ambiguous(found: Sequence[Shape], columns: list[str], where: str) -> DataError:
    options = [f"--format {shape.name}" for shape in found] + candidate_mappings(columns)
    return DataError(
        "the columns can be read in more than one way, so nothing was read",
        where=where,
        expected="one layout, or a mapping that says which columns belong together",
        got=f"the columns {', '.join(columns)}",
        remedy="".join(f"\n    {option}" for option in options),
    )


def _unknown(columns: list[str], where: str) -> DataError:
    have = set(columns)
    near = sorted(
        ((len(need - have) / len(need), shape.name, need) for shape in SHAPES for need in shape.needs if need & have),
        key=lambda entry: (entry[0], -len(entry[2])),
    )
    hints = candidate_mappings(columns)
    missing = [
        f"closest is {name}, without {', '.join(sorted(need - have))}" for _, name, need in near[:1] if need - have
    ]
    fallback = "--mapping.prompt COLUMN --mapping.chosen COLUMN --mapping.rejected COLUMN"
    return DataError(
        "the layout is not one of the known ones",
        where=where,
        expected=f"one of {', '.join(FORMATS)}" + (f" ({missing[0]})" if missing else ""),
        got=f"the columns {', '.join(columns) or '(none)'}",
        remedy="name the columns, as in " + (hints[0] if hints else fallback),
    )


def candidate_mappings(columns: Sequence[str]) -> list[str]:
    """Return mappings (as flags) that these columns suggest, one for each family of responses."""
    prompts = [name for name in columns if _PROMPT_WORD.search(name)]
    result = []
    for (prefix, _), names in families(columns).items():
        own = [name for name in prompts if name.startswith(prefix)] if prefix else []
        taken = {key for key, _ in families(columns) if key}
        free = [name for name in prompts if not any(name.startswith(p) for p in taken if p != prefix)]
        prompt = next(iter(own or free or prompts), "COLUMN")
        responses = ",".join(sorted(names))
        flags = f"--mapping.prompt {_quoted(prompt)} --mapping.responses {_quoted(responses)}"
        result.append(flags + _verdict_flags([name for name in columns if name not in names]))
    return result


def _verdict_flags(columns: Sequence[str]) -> str:
    """Return the flags that name the verdict, as the columns' names suggest it."""
    strength = next((name for name in columns if re.search(r"prefer|strength", name, re.I)), None)
    choice = next((name for name in columns if re.search(r"better|label|choice|winner", name, re.I)), None)
    if choice is not None:
        return f" --mapping.choice {_quoted(choice)}"
    if strength == "preference":
        return " --mapping.preference preference"
    if strength is not None:
        return f" --mapping.confidence {_quoted(strength)} --mapping.confidence_middle 0"
    return " and what tells the better one: --mapping.choice, .confidence, .ranks, .grades or .votes"


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
