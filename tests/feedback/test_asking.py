"""What is asked: the system's words, inputs and earlier turns in columns of their own; messages in csv."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import DataError
from assay.feedback import read, read_with_report
from tests.feedback.conftest import A, B, Q, detected, one, prompt, sides

PAIR = {"chosen": "A", "rejected": "B"}
SYSTEM = {"role": "system", "content": "S"}
ASKED = [("system", "S"), ("user", "Q")]


@pytest.mark.parametrize(
    "row",
    [
        {"system": "S", "question": "Q", **PAIR},
        {"system_prompt": "S", "prompt": "Q", **PAIR},
        {"system": "S", "prompt": "Q", "response_a": "A", "response_b": "B", "label": 0},
        {"system": "S", "prompt": "Q", "response_a": "A", "response_b": "B", "winner": "model_a"},
        {"system": "S", "prompt": [Q], "chosen": [A], "rejected": [B]},
        {"system": "S", "chosen": [Q, A], "rejected": [Q, B]},
        {"prompt": [SYSTEM, Q], "chosen": [Q, A], "rejected": [Q, B]},
        {"system": "elsewhere", "chosen": [SYSTEM, Q, A], "rejected": [SYSTEM, Q, B]},
        {"system_message": "S", "prompt": "Q", "responses": ["A", "B"], "ratings": [2, 1]},
    ],
)
def test_the_systems_words_come_before_the_prompt(row: dict[str, Any]) -> None:
    record = one(row)
    assert prompt(record) == ASKED and sides(record) == [("A", "B", 1.0)]


def test_other_systems_are_other_prompts() -> None:
    rows = [{"system": system, "question": "Q", **PAIR} for system in ("pirate", "terse", None, float("nan"))]
    assert len(read(rows)) == 3
    with pytest.raises(DataError, match="system: wrong type"):
        read([{"system": {"a": 1}, "question": "Q", **PAIR}])


def test_beside_one_response_system_may_be_who_wrote_it() -> None:
    found, report = read_with_report([{"prompt": "Q", "response": "A", "system": "model 1"}])
    assert prompt(found[0]) == [("user", "Q")] and json.loads(found[0]["meta"]) == {"row": {"system": "model 1"}}
    assert any("--mapping.system" in note for note in report.notes)
    record = one({"q": "Q", "s": "S", "a": "A", "b": "B"}, mapping={"prompt": "q", "system": "s", "responses": "a,b"})
    assert prompt(record) == ASKED


@pytest.mark.parametrize(
    ("history", "turns"),
    [
        ([["h", "i"]], [("user", "h"), ("assistant", "i")]),
        ([{"role": "user", "content": "h"}, {"from": "gpt", "value": "i"}], [("user", "h"), ("assistant", "i")]),
        (None, []),
    ],
)
def test_earlier_turns(history: Any, turns: list[tuple[str, str]]) -> None:
    row = {"instruction": "Q", "input": float("nan"), "history": history, **PAIR}
    assert prompt(one(row)) == [*turns, ("user", "Q")]


@pytest.mark.parametrize("entry", ["hi", {"user": "h", "assistant": "i"}, ["h"], ["h", "i", "j"], ["h", None]])
def test_what_is_no_earlier_turn(entry: Any) -> None:
    with pytest.raises(DataError, match=r"history\[0\]: not a turn"):
        read([{"instruction": "Q", "history": [entry], **PAIR}])


def test_input_belongs_to_the_question_unless_that_quotes_it() -> None:
    assert prompt(one({"instruction": "Say: T", "input": "T", **PAIR})) == [("user", "Say: T")]
    assert prompt(one({"prompt": "Say:", "input": "T", "responses": ["A", "B"], "scores": [2, 1]})) == [
        ("user", "Say:\nT")
    ]
    rating = read([{"prompt": "Say:", "input": "T", "completion": "A", "label": True}])[0]
    assert prompt(rating) == [("user", "Say:\nT")]
    with pytest.raises(DataError, match="input: wrong type"):
        read([{"instruction": "Q", "input": 5, **PAIR}])


def test_a_second_column_that_asks_is_told() -> None:
    _, report = read_with_report([{"prompt": "Q", "context": "C", "response": "A"}])
    assert any("column context kept in meta" in note for note in report.notes)
    assert not read_with_report([{"prompt": "Q about C", "context": "C", "response": "A"}])[1].notes


def test_messages_that_pandas_wrote_as_text_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
        table.writeheader()
        table.writerow({"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B]})
    with pytest.raises(DataError, match=r"saved as Python text(.|\n)*parquet or jsonl"):
        read(tmp_path / "x.csv")


def test_messages_as_json_text_are_messages_to_every_reader() -> None:
    packed = {"response_a": json.dumps([A]), "response_b": json.dumps([B])}
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"prompt": json.dumps([Q]), **packed, "label": 0}, {}),
        ({"q": json.dumps([Q]), **packed, "best": 0}, {"mapping": {"prompt": "q", "choice": "best"}}),
    ]
    rows[1][1]["mapping"]["responses"] = "response_a,response_b"
    for row, options in rows:
        record = one(row, **options)
        assert prompt(record) == [("user", "Q")] and sides(record) == [("A", "B", 1.0)]


def test_whole_conversations_are_no_responses() -> None:
    mapping = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    with pytest.raises(DataError, match="a response begins with the prompt"):
        read([{"q": "Q", "good": [Q, A], "bad": [Q, B]}], mapping=mapping)
    assert sides(one({"q": "Q", "good": [A], "bad": [B]}, mapping=mapping)) == [("A", "B", 1.0)]


def test_arrays_and_roles_of_other_makers() -> None:
    row = {
        "chosen": np.array([{"role": "Prompter", "content": "Q"}, {"role": "model", "content": "A"}], object),
        "rejected": np.array([{"from": "human", "value": "Q"}, {"from": "gpt", "value": "B"}], object),
    }
    assert detected(row) == "conversational_pair"
    record = one(row)
    assert prompt(record) == [("user", "Q")] and sides(record) == [("A", "B", 1.0)]
    graded = {"prompt": "Q", "responses": np.array(["A", "B"], object), "scores": np.array([2.0, 1.0])}
    assert sides(one(graded)) == [("A", "B", 1.0)]


def test_the_order_of_further_keys_makes_no_other_prompt() -> None:
    call = [{"name": "f", "id": 1}, {"id": 1, "name": "f"}]
    asked = [{"role": "assistant", "content": "", "tool_calls": [own]} for own in call]
    assert len(one({"chosen": [Q, asked[0], Q, A], "rejected": [Q, asked[1], Q, B]})["prompt"]) == 3


def test_an_empty_prompt_column_says_nothing() -> None:
    assert prompt(one({"prompt": "", "chosen": [Q, A], "rejected": [Q, B]})) == [("user", "Q")]


def test_deep_brackets_are_text() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert sides(one({"prompt": "Q", "chosen": deep, "rejected": "B"})) == [(deep, "B", 1.0)]


def test_a_mapped_system_yields_to_that_of_the_conversation() -> None:
    asked = [{"role": "system", "content": "own"}, {"role": "user", "content": "Q"}]
    mapping = {"prompt": "asked", "system": "s", "chosen": "c", "rejected": "r"}
    row = {"s": "column", "c": "A", "r": "B"}
    (record,) = read([row | {"asked": asked}], mapping=mapping)
    assert [turn["content"] for turn in record["prompt"]] == ["own", "Q"]
    (record,) = read([row | {"asked": "Q"}], mapping=mapping)
    assert [turn["content"] for turn in record["prompt"]] == ["column", "Q"]
    (record,) = read([row | {"asked": "Q", "s": float("nan")}], mapping=mapping)
    assert [turn["content"] for turn in record["prompt"]] == ["Q"]


def test_a_conversation_in_instruction_leaves_input_in_meta() -> None:
    asked = json.dumps([{"role": "user", "content": "Q"}])
    (record,) = read([{"instruction": asked, "input": "more", "response_a": "A", "response_b": "B", "label": 0}])
    assert [turn["content"] for turn in record["prompt"]] == ["Q"]
    assert json.loads(record["meta"])["row"]["input"] == "more"
