"""Layouts are recognised by columns and values, and nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import DataError
from assay.feedback import FORMATS, kind_of, read, read_with_report

MT_BENCH = {
    "conversation": "\n\nHuman: Q1\n\nAssistant: A1\n\nHuman: Q2\n\nAssistant:",
    "answer_0": "A2",
    "answer_1": "B2",
    "label": 0,
    "first_question": "Q1",
    "first_answer_0": "A1",
    "first_answer_1": "B1",
    "votes": 2,
}


def test_two_families_of_answers_are_refused_with_a_mapping_for_each() -> None:
    with pytest.raises(DataError, match="more than one way") as caught:
        read([MT_BENCH])
    remedy = str(caught.value.remedy)
    assert "--mapping.prompt first_question --mapping.responses first_answer_0,first_answer_1" in remedy
    assert "--mapping.prompt conversation --mapping.responses answer_0,answer_1" in remedy


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "response_1": "A", "response_2": "B", "choice": 0},
        {"prompt": "Q", "responses": ["A", "B"], "preferred": 1},
        {"conversation": "Q", "answer_0": "A", "answer_1": "B", "label": 0},
        {"prompt": "Q", "answer_0": "A", "answer_1": "B", "answer_2": "C", "label": 0},
        {"premise": "a", "hypothesis": "b", "label": "neutral"},
        {"prompt": "Q", "response": "A", "grades": {"x": 1}},
        {"context": "C", "question": "Q", "chosen": "A", "rejected": "B"},
    ],
)
def test_unread_verdicts_and_unknown_layouts_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read([row])
    assert caught.value.remedy


@pytest.mark.parametrize(
    "row",
    [{"prompt": "Q"}, {"instruction": "Q", "input": "I", "id": 3}, {"prompt": [{"role": "user", "content": "Q"}]}],
)
def test_prompts_alone_are_prompts(row: dict[str, Any]) -> None:
    found = read([row, row | {"prompt": "R"} if "prompt" in row else row])
    assert kind_of(found) == "prompts" and len(found) == 2
    assert found[0]["prompt"][-1]["content"].startswith("Q") and found[0]["ground_truth"] is None


def test_the_closest_layout_is_named() -> None:
    with pytest.raises(DataError, match="closest is pointwise, without score"):
        read([{"text": "x", "title": "y"}])


def test_text_columns_without_a_prompt_are_not_taken_for_a_dialogue() -> None:
    with pytest.raises(DataError, match="prompt"):
        read([{"chosen": "A", "rejected": "B"}])


@pytest.mark.parametrize("value", [None, 5, ["A"]])
def test_a_column_of_the_wrong_type_throughout_is_named(value: Any) -> None:
    with pytest.raises(DataError, match=r"rows:1:chosen: wrong type"):
        read([{"prompt": "Q", "chosen": value, "rejected": "B"}])


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'explicit_pair'"):
        read([{"prompt": "Q", "chosen": "A", "rejected": "B"}], format="explicit_pairs")


def test_a_format_can_be_forced() -> None:
    row = {"prompt": "ignored", "chosen": "\n\nHuman: x\n\nAssistant: A", "rejected": "\n\nHuman: x\n\nAssistant: B"}
    assert read_with_report([row])[1].format == "hh"
    data, report = read_with_report([row], format="explicit_pair")
    assert report.format == "explicit_pair"
    assert data[0]["prompt"][0]["content"] == "ignored"


def test_forced_formats_report_missing_columns() -> None:
    for name in FORMATS:
        with pytest.raises(DataError):
            read([{"unrelated": 1}], format=name)


@pytest.mark.parametrize("column", ["prompt", "question", "query", "context", "post"])
def test_any_single_prompt_column_serves_an_explicit_pair(column: str) -> None:
    data = read([{column: "Q", "chosen": "A", "rejected": "B"}])
    assert data[0]["prompt"][0]["content"] == "Q"
    assert data[0]["meta"] is None
