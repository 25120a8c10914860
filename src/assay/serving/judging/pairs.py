"""The pairs that people judge, most worthy first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import DataError, ModelError
from assay.feedback.files import jsonl_rows
from assay.feedback.problems import RowError
from assay.feedback.records import as_messages, identity, message
from assay.scorers import RewardModel
from assay.serving.serve_settings import ServeSettings
from assay.workflows.judge_settings import SelectSettings
from assay.workflows.select_verb import choose, read_unjudged

_FILE = "pairs.jsonl"


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt.

    Attributes
    ----------
    id
        Of prompt and both texts, whichever comes first: the same pair is the same whoever chose it, and when.
    prompt
        Messages, as `assay.feedback.records.as_messages` gives them.
    a, b
        Texts.
    """

    id: str
    prompt: list[dict[str, Any]]
    a: str
    b: str


def pairs_to_judge(settings: ServeSettings, model: RewardModel) -> tuple[list[Pair], str]:
    """Return pairs in the order in which they are worth a judgement, and how that was decided.

    A folder of ``assay select``, or its ``pairs.jsonl``, says it itself; of other data the served model chooses
    (`assay.workflows.select_verb.choose`).

    Raises
    ------
    DataError
        If there is none.
    ModelError
        If the served model is a policy, which cannot choose.
    """
    source = str(settings.judging.pairs)
    path = Path(source).expanduser()
    if path.is_dir() and (path / _FILE).is_file():
        path = path / _FILE
    rows = [row for _, row in jsonl_rows(path)] if path.name == _FILE and path.is_file() else []
    if rows and isinstance(rows[0], dict) and {"response_a", "conversation_a"} & set(rows[0]):
        found = pairs_of_lines(rows, str(path))
        return found, f"{len(found):,} pairs to judge, in the order of {path.name}"
    if model.reads_replies:
        raise ModelError(
            "a policy cannot choose what to judge",
            where=settings.model,
            expected="a reward model, or a folder that assay select made",
            remedy="assay select REWARD_MODEL DATA --out next, then --judging.pairs next",
        )
    wanted = SelectSettings(
        model=settings.model,
        data=source,
        out="-",
        count=settings.judging.count,
        seed=settings.seed,
        token_budget=settings.token_budget,
        **settings.reading() | {"split": None},
    )
    chosen = choose(wanted, model, read_unjudged(wanted)[0])
    return pairs_of_lines(chosen.rows, source), f"{len(chosen.rows):,} pairs to judge, chosen by {chosen.method}"


def pairs_of_lines(lines: Iterable[dict[str, Any] | RowError], source: str) -> list[Pair]:
    """Return pairs from what ``assay select`` writes.

    Raises
    ------
    DataError
        If a line is none of its, or there is none.
    """
    found: dict[str, Pair] = {}
    for number, line in enumerate(lines):
        try:
            if isinstance(line, RowError):
                raise line
            if "conversation_a" in line:
                *prompt, a = line["conversation_a"]
                b = line["conversation_b"][-1]
                texts, turns = (str(a["content"]), str(b["content"])), as_messages(prompt)
            else:
                texts, turns = (str(line["response_a"]), str(line["response_b"])), as_messages(line["prompt"])
        except (KeyError, TypeError, IndexError, ValueError, RowError) as error:
            raise DataError(
                "this is no pair that assay select wrote",
                where=f"{source}:{number + 1}",
                expected="id, prompt, response_a and response_b, or conversation_a and conversation_b",
                got=f"{type(error).__name__}: {error}",
                remedy="name the folder that assay select made, or the data itself",
            ) from error
        name = _name(turns, texts)
        found.setdefault(name, Pair(name, [dict(turn) for turn in turns], *texts))
    if not found:
        raise DataError("there is no pair to judge", where=source, expected="one pair or more")
    return list(found.values())


def _name(turns: Sequence[Any], texts: tuple[str, str]) -> str:
    return identity([*turns, *(message("assistant", text) for text in sorted(texts))])
