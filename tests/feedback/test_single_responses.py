"""Layouts that hold one response at a time: rated, or not judged at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.errors import ConfigError, DataError
from assay.feedback import read, read_with_report
from tests.feedback.conftest import one, prompt, sides


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"prompt": "Q", "response": "A", "id": 3}, {}),
        ({"question": "Q", "completion": "A", "id": 3}, {}),
        ({"prompt": "Q", "responses": ["A"], "id": 3}, {}),
        ({"q": "Q", "a": "A", "id": 3}, {"mapping": {"prompt": "q", "responses": "a"}}),
    ],
)
def test_a_response_without_a_verdict_is_a_record_of_one(row: dict[str, Any], options: dict[str, Any]) -> None:
    record = one(row, **options)
    assert (prompt(record), record["responses"], record["edges"]) == ([("user", "Q")], ["A"], [])
    assert json.loads(record["meta"]) == {"row": {"id": 3}}
    again = row | {name: "B" for name in row if row[name] == "A"} | ({"responses": ["B"]} if "responses" in row else {})
    assert [r["responses"] for r in read([row, again], **options)] == [["A", "B"]]


def test_rated_responses_of_one_prompt_can_be_compared() -> None:
    labels = [("Q", "A", True), ("Q", "B", False), ("Q", "C", True), ("R", "D", True)]
    rows = [{"prompt": q, "completion": text, "label": label} for q, text, label in labels]
    data, report = read_with_report(rows, ratings="comparisons")
    assert [sorted(sides(record)) for record in data] == [[("A", "B", 1.0), ("C", "B", 1.0)]]
    assert report.dropped == {"one response only": 1}
    assert report.notes == {"pairs of two good or two bad responses, not compared": 1}
    mapping = {"kind": "ratings", "prompt": "prompt", "responses": "completion", "grades": "grade"}
    graded = [{**row, "grade": grade} for row, grade in zip(rows, (1, 3, 3, 2), strict=True)]
    (record,) = read(graded, mapping=mapping, ratings="comparisons")
    assert sorted(sides(record)) == [("B", "A", 1.0), ("B", "C", 0.5), ("C", "A", 1.0)]
    # a data set that already holds ratings is converted just the same
    assert read(read(rows), ratings="comparisons")["edges"] == data["edges"]


def test_steps_of_a_solution_are_not_compared() -> None:
    row = {"prompt": "Q", "completions": ["1+1=2", "so 3"], "labels": [True, False]}
    with pytest.raises(DataError, match="steps of one solution are not compared"):
        read([row], ratings="comparisons")


def test_ratings_can_be_gathered_as_graded_responses() -> None:
    labels = [("Q", "A", True), ("Q", "B", False), ("Q", "A", False), ("R", "D", True)]
    rows = [{"prompt": q, "completion": text, "label": label} for q, text, label in labels]
    data, report = read_with_report(rows, ratings="responses")
    assert data["responses"] == [["A", "B"], ["D"]] and data["edges"] == [[], []] and not report.dropped
    grades = [[[g["value"] for g in one] for one in record] for record in data["grades"]]
    assert grades == [[[1.0, 0.0], [0.0]], [[1.0]]] and data["grades"][0][0][0]["dimension"] == "good or bad"
    assert read(read(rows), ratings="responses")["grades"] == data["grades"]
    solution = {"prompt": "Q", "completions": ["1+1=2", "so 3"], "labels": [True, False]}
    (record,) = read([solution], ratings="responses")
    assert record["responses"] == ["1+1=2", "1+1=2\nso 3"]
    pairs = [{"prompt": "Q", "chosen": "A", "rejected": "B"}]  # which are no ratings
    assert read(pairs, ratings="responses")["edges"] == read(pairs)["edges"]
    with pytest.raises(ConfigError, match="unknown way with ratings"):
        read(rows, ratings="pairs")  # type: ignore[arg-type]


def test_steps_with_degrees_are_grades() -> None:
    row = {"prompt": "Q", "completions": ["1", "2", "3"], "labels": [1.0, 0.5, 0.0]}
    assert read([row])["grade"] == [1.0, 0.5, 0.0]
    assert read([row | {"labels": [1, 0, True]}])["label"] == [True, False, True]


def test_kto_is_a_rating() -> None:
    record = one({"prompt": "The sky is", "completion": " green.", "label": False})
    assert (record["response"], record["label"], record["grade"]) == (" green.", False, None)


def test_pointwise_is_a_rating_whose_text_is_its_group() -> None:
    data = read([{"text": "Q A", "score": 3.5}, {"text": "other", "score": 1}])
    assert data["grade"] == [3.5, 1.0]
    assert len(set(data["split_group"])) == 2


def test_stepwise_is_one_rating_per_step_of_the_solution_so_far() -> None:
    data = read([{"prompt": "9.8 or 9.11?", "completions": ["0.8 > 0.11.", "So 9.11."], "labels": [True, False]}])
    assert data["response"] == ["0.8 > 0.11.", "0.8 > 0.11.\nSo 9.11."]
    assert (data["label"], data["step"]) == ([True, False], [0, 1])


def test_numbers_beside_a_response_that_are_no_grades_are_told() -> None:
    _, report = read_with_report([{"prompt": "Q", "response": "A", "helpfulness": 3, "correctness": 4, "id": 1}])
    assert any("helpfulness, correctness (name them: --mapping.grades)" in note for note in report.notes)
    _, report = read_with_report([{"prompt": "Q", "responses": ["A", "B"], "rewards": [0.1, 0.9], "ids": ["1", "2"]}])
    assert any("not read as grades: rewards (" in note for note in report.notes)


def test_verdicts_on_one_response_as_words_and_numbers_in_text() -> None:
    rows = [{"prompt": "Q", "completion": f"A{k}", "label": cell} for k, cell in enumerate(("1.0", "bad", "Yes", ""))]
    data, report = read_with_report(rows)
    assert data["label"] == [True, False, True] and report.dropped == {"no judgement": 1}


def test_calls_of_tools_are_no_text_to_be_rated() -> None:
    said = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    with pytest.raises(DataError, match="says more than text"):
        read([{"prompt": "Q", "completion": said, "label": True}])
    mapping = {"kind": "ratings", "prompt": "prompt", "responses": "completion", "label": "label"}
    with pytest.raises(DataError, match="says more than text"):
        read([{"prompt": "Q", "completion": said, "label": True}], mapping=mapping)
    with pytest.raises(DataError, match="data_source"):
        read([{"prompt": "Q", "reward_model": {"ground_truth": "1"}}], format="verl_prompts")


def test_members_of_a_list_of_truths_are_each_one() -> None:
    rows = [{"prompt": "Q", "ground_truth": [3, "4"]}, {"prompt": "R", "ground_truth": ["5", "6"]}]
    assert read(rows)["ground_truth"] == ['["3", "4"]', '["5", "6"]']
    verl = {"data_source": "d", "prompt": [{"role": "user", "content": "Q"}], "reward_model": {"ground_truth": [42]}}
    assert read([verl])[0]["ground_truth"] == '["42"]'
    assert (
        read([{"q": "Q", "t": [7]}], mapping={"kind": "prompts", "prompt": "q", "ground_truth": "t"})[0]["ground_truth"]
        == '["7"]'
    )
