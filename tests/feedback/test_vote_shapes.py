"""Votes of people on pairs: arenas, confidences, several annotators, and pairs of turns."""

from __future__ import annotations

import json

import pytest

from assay.errors import DataError
from assay.feedback import read, read_with_report
from tests.feedback.conftest import A, B, Q, one, prompt, sides

ARENA = {"prompt": '["Q"]', "response_a": '["A"]', "response_b": '["B"]'}


@pytest.mark.parametrize(
    ("wins", "expected"), [((0, 0, 1), ("A", "B", 0.5)), ((1, 0, 0), ("A", "B", 1.0)), ((0, 1, 0), ("B", "A", 1.0))]
)
def test_arena(wins: tuple[int, int, int], expected: tuple[str, str, float]) -> None:
    flags = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), wins, strict=True))
    record = one({**ARENA, **flags, "model_a": "m1"})
    assert (prompt(record), sides(record)) == ([("user", "Q")], [expected])
    assert json.loads(record["meta"]) == {"row": {"model_a": "m1"}}


def test_arena_of_several_turns_compares_whole_conversations() -> None:
    row = {"prompt": ["Q", "Q2"], "response_a": ["A", "A2"], "response_b": ["B", "B2"], "winner": "model_b"}
    record = one(row)
    assert prompt(record) == [("user", "Q")]
    assert [t["content"] for t in json.loads(record["response_messages"][1])] == ["B", "Q2", "B2"]
    assert record["edges"][0]["a"] == 1


@pytest.mark.parametrize("answer", ['{"name": "x"}', "[1, 2]"])
def test_an_answer_in_an_arena_may_itself_be_json(answer: str) -> None:
    record = one({"prompt": "Return JSON", "response_a": answer, "response_b": "b", "winner": "model_a"})
    assert sides(record) == [(answer, "b", 1.0)]
    assert prompt(one({"prompt": "[1, 2]", "response_a": "a", "response_b": "b", "winner": "tie"})) == [
        ("user", "[1, 2]")
    ]


def test_arena_with_two_winners_is_an_error_and_with_none_is_dropped() -> None:
    good = {**ARENA, "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    with pytest.raises(DataError, match=r"rows:2:winner_model_a: more than one verdict"):
        read([good, {**good, "winner_tie": 1}])
    assert read_with_report([good, {**good, "winner_model_a": 0}])[1].dropped == {"no judgement": 1}


def test_confidence_and_worker() -> None:
    summaries = [{"text": "A", "policy": "m1"}, {"text": "B", "policy": "m2"}]
    row = {"info": {"id": "p1", "post": "Q", "title": "T"}, "summaries": summaries, "choice": 0, "worker": "w7"}
    record = one({**row, "extra": {"confidence": 4}})
    assert (prompt(record), sides(record)) == ([("user", "Q")], [("A", "B", 1.0)])
    assert (record["edges"][0]["annotator"], record["edges"][0]["confidence"]) == ("w7", 1.0)
    assert record["split_group"] == "p1"
    meta = json.loads(record["meta"])
    assert meta["responses"] == [{"policy": "m1"}, {"policy": "m2"}]
    assert meta["row"]["info"] == {"id": "p1", "title": "T"}


def test_confidence_on_the_wrong_side_is_counted() -> None:
    summaries = [{"text": "A"}, {"text": "B"}]
    row = {"info": {"post": "Q"}, "summaries": summaries, "choice": 0, "extra": {"confidence": 8}}
    assert read_with_report([row])[1].notes == {"confidence on the other side than the choice": 1}


def test_several_annotators_are_an_edge_each_and_zero_is_a_tie() -> None:
    row = {"instruction": "Q", "input": "I", "response1": "A", "response2": "B"}
    record = one({**row, "annotator1": 2, "annotator2": 1, "annotator3": 0})
    assert prompt(record) == [("user", "Q\nI")]
    assert sides(record) == [("B", "A", 1.0), ("A", "B", 1.0), ("A", "B", 0.5)]
    assert [e["annotator"] for e in record["edges"]] == ["annotator1", "annotator2", "annotator3"]


def test_prompts_of_an_arena_may_be_messages_too() -> None:
    asked = [{"role": "system", "content": "S"}, Q]
    record = one({"prompt": asked, "response_a": [A], "response_b": [B], "winner": "both_bad"})
    assert prompt(record) == [("system", "S"), ("user", "Q")] and sides(record) == [("A", "B", 0.5)]
    with pytest.raises(DataError, match="turns do not match"):
        read([{"prompt": ["Q", "more"], "response_a": [A], "response_b": [B], "winner": "tie"}])


def test_turns_as_json_in_some_cells_only_are_refused() -> None:
    row = {"prompt": '["Q", "R"]', "response_a": '["a", "b"]', "winner": "tie"}
    with pytest.raises(DataError, match="response_b: turns are JSON in some cells only"):
        read([row | {"response_b": '["c", "tru'}])
    with pytest.raises(DataError, match="prompt: turns are JSON in some cells only"):
        read([row | {"prompt": '["Q", "tru', "response_b": '["c", "d"]'}])


def test_turns_without_a_verdict() -> None:
    record = one({"prompt": '["Q", "R"]', "response_a": '["a", "b"]', "response_b": '["c", "d"]'})
    assert prompt(record) == [("user", "Q")] and record["edges"] == []
    assert "R" in record["responses"][0] and record["responses"][1].endswith("d")
