"""The column mapping reads any other layout; its mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.config import Settings, parse
from assay.errors import ConfigError, DataError
from assay.feedback import ColumnMapping, read, read_with_report
from assay.feedback.mapping import column_mapping
from assay.feedback.paths import CellPath, DropRule
from tests.feedback.conftest import prompt, sides
from tests.feedback.test_detection import MT_BENCH

ROW = {
    "a.b": 1,
    "info": {"post": "P"},
    "list": [{"t": "x"}, {"t": "y"}],
    "packed": '{"k": [1, 2]}',
    "prediction 1": "p",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ('"a.b"', 1),
        ("info.post", "P"),
        ("list[].t", ["x", "y"]),
        ("list[1].t", "y"),
        ("packed.k[0]", 1),
        ("prediction 1", "p"),
        ("=constant", "constant"),
    ],
)
def test_paths(path: str, value: Any) -> None:
    assert CellPath.parse(path).get(ROW) == value


@pytest.mark.parametrize("path", ["", "[0]", "a[", "a]b", "a[x]"])
def test_malformed_paths(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        CellPath.parse(path)


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ("info is null", False),
        ("nothing is null", True),
        ("info.post = P", True),
        ("info.post != P", False),
        ("list is not null", True),
    ],
)
def test_drop_rules(rule: str, applies: bool) -> None:
    assert DropRule.parse(rule).applies(ROW) is applies


def test_signed_confidence_annotator_and_group() -> None:
    """Confidence 1-9 with 5 as the middle, the better one by index."""
    mapping = {
        "prompt": "prompt",
        "responses": "responses",
        "choice": "choice",
        "confidence": "confidence",
        "confidence_middle": 5,
        "annotator": "worker",
        "group": "post_id",
    }
    rows = [
        {"prompt": "P", "responses": ["A", "B"], "choice": c, "confidence": f, "worker": w, "post_id": "x", "batch": 3}
        for c, f, w in ((0, 2, "w1"), (1, 9, "w2"))
    ]
    data, report = read_with_report(rows, mapping=mapping)
    assert report.merged == 1
    assert sides(data[0]) == [("A", "B", 1.0), ("B", "A", 1.0)]
    assert [(e["annotator"], e["confidence"]) for e in data[0]["edges"]] == [("w1", 3.0), ("w2", 4.0)]
    assert data[0]["split_group"] == "x"
    assert json.loads(data[0]["meta"]) == {"row": {"batch": 3}}


@pytest.mark.parametrize(("value", "expected"), [(3, ("A", "B", 1.0)), (7, ("B", "A", 1.0)), (5, ("A", "B", 0.5))])
def test_confidence_alone_says_which_side(value: int, expected: tuple[str, str, float]) -> None:
    mapping = {"prompt": "p", "responses": "r", "confidence": "c", "confidence_middle": 5}
    data = read([{"p": "Q", "r": ["A", "B"], "c": value}], mapping=mapping)
    assert sides(data[0]) == [expected]
    assert data[0]["edges"][0]["confidence"] == abs(value - 5)


MT = {"prompt": "first_question", "responses": "first_answer_0,first_answer_1", "choice": "label", "votes": "votes"}


def test_label_index_and_votes_as_repeated_judgements() -> None:
    rows = [MT_BENCH, {**MT_BENCH, "label": 1, "votes": 1}, {**MT_BENCH, "first_answer_1": None}]
    data, report = read_with_report(rows, mapping=MT)
    assert sides(data[0]) == [("A1", "B1", 1.0), ("A1", "B1", 1.0), ("B1", "A1", 1.0)]
    assert report.dropped == {"null in first_answer_1": 1}
    assert report.places == {"null in first_answer_1": "rows:3"}


def test_votes_as_weight() -> None:
    data = read([MT_BENCH], mapping={**MT, "votes_as": "weight"})
    assert [e["w"] for e in data[0]["edges"]] == [2.0]


def test_votes_for_each_response_are_a_share() -> None:
    mapping = {"prompt": "q", "responses": "a,b", "votes": "votes_a,votes_b"}
    data = read([{"q": "Q", "a": "A", "b": "B", "votes_a": 1, "votes_b": 3}], mapping=mapping)
    assert sides(data[0]) == [("B", "A", 0.75)]
    assert data[0]["edges"][0]["w"] == 4.0


def test_preference_over_all_pairs_of_four() -> None:
    """Verdicts for (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): 1 first better, 2 second better, 0 tie."""
    mapping = {"prompt": "q", "responses": [f"prediction {i}" for i in range(1, 5)], "preference": "preference"}
    row = {"q": "Q", **{f"prediction {i}": f"r{i}" for i in range(1, 5)}, "preference": [1, 2, 0, 2, 1, 1]}
    assert sides(read([row], mapping=mapping)[0]) == [
        ("r1", "r2", 1.0),
        ("r3", "r1", 1.0),
        ("r1", "r4", 0.5),
        ("r3", "r2", 1.0),
        ("r2", "r4", 1.0),
        ("r3", "r4", 1.0),
    ]


def test_preference_over_listed_pairs_with_own_words() -> None:
    mapping = {
        "prompt": "q",
        "responses": "r",
        "preference": "v",
        "preference_pairs": [[0, 2], [1, 2]],
        "preference_values": {"A": "first", "B": "second", "?": "skip"},
    }
    data = read([{"q": "Q", "r": ["x", "y", "z"], "v": ["B", "?"]}], mapping=mapping)
    assert sides(data[0]) == [("z", "x", 1.0)]


def test_choice_names_and_the_best_of_several() -> None:
    mapping = {"prompt": "q", "responses": "r", "choice": "w", "choice_names": {"left": 0, "right": 1, "both": "tie"}}
    rows = [{"q": f"Q{w}", "r": ["A", "B"], "w": w} for w in ("left", "right", "both")]
    assert [sides(record)[0] for record in read(rows, mapping=mapping)] == [
        ("A", "B", 1.0),
        ("B", "A", 1.0),
        ("A", "B", 0.5),
    ]
    best = read([{"q": "Q", "r": ["A", "B", "C"], "w": 1}], mapping={**mapping, "choice_names": {}})
    assert sides(best[0]) == [("B", "A", 1.0), ("B", "C", 1.0)]


def test_choice_may_name_the_response_column() -> None:
    mapping = {"prompt": "q", "responses": "left,right", "choice": "winner"}
    assert sides(read([{"q": "Q", "left": "A", "right": "B", "winner": "right"}], mapping=mapping)[0]) == [
        ("B", "A", 1.0)
    ]


def test_list_elements_with_right_and_wrong() -> None:
    solutions = [
        {"model": m, "solution": s, "is_correct": c}
        for m, s, c in (("m1", "x", False), ("m2", "y", True), ("m3", "z", True))
    ]
    mapping = {
        "prompt": "question",
        "responses": "solutions[].solution",
        "grades": {"correct": "solutions[].is_correct"},
    }
    rows = [{"question": "Q", "solutions": solutions}]
    data, report = read_with_report(rows, mapping={**mapping, "ties": "drop"})
    assert sides(data[0]) == [("y", "x", 1.0), ("z", "x", 1.0)]
    assert report.notes == {"tied grades left out": 1}
    assert json.loads(data[0]["meta"])["responses"] == [{"model": "m1"}, {"model": "m2"}, {"model": "m3"}]
    assert len(read(rows, mapping=mapping)[0]["edges"]) == 3


GRADED = {"prompt": "prompt", "responses": "response", "grades": "grades", "group": "doc"}


def rated(response: str, x: float, y: float, doc: str = "d", **more: Any) -> dict[str, Any]:
    return {
        "prompt": f"text of {doc}",
        "doc": doc,
        "response": response,
        "grades": {"x": x, "y": y},
        "refs": ["r"],
        **more,
    }


def test_rows_of_one_graded_response_each_become_one_list() -> None:
    rows = [rated("A", 1, 1, system="m1"), rated("B", 2, 4, system="m2"), rated("A", 3, 3, system="m3")]
    data, report = read_with_report([*rows, rated("alone", 5, 5, doc="e")], mapping=GRADED)
    assert (report.records, report.merged, report.dropped) == (1, 2, {"one response only": 1})
    record = data[0]
    # A: means 2 and 2 over its two ratings; B: 2 and 4.
    assert (record["responses"], sides(record), record["split_group"]) == (["A", "B"], [("B", "A", 1.0)], "d")
    assert [len(own) for own in record["grades"]] == [4, 2]
    meta = json.loads(record["meta"])
    assert meta["row"] == {"refs": ["r"]}
    assert meta["responses"] == [{"system": "m1", "repeats": [{"system": "m3"}]}, {"system": "m2"}]


def test_one_dimension_can_decide() -> None:
    rows = [rated("A", 1, 5), rated("B", 2, 1)]
    assert sides(read(rows, mapping={**GRADED, "compare": "x"})[0]) == [("B", "A", 1.0)]
    assert sides(read(rows, mapping={**GRADED, "compare": "y"})[0]) == [("A", "B", 1.0)]


def test_single_responses_without_company_are_an_error() -> None:
    with pytest.raises(DataError, match="one response only"):
        read([rated("A", 1, 1, doc="d"), rated("B", 1, 1, doc="e")], mapping=GRADED)


def test_ratings_one_per_dimension() -> None:
    data = read([rated("A", 1, 4)], mapping={**GRADED, "kind": "ratings"})
    assert list(zip(data["dimension"], data["grade"], strict=True)) == [("x", 1.0), ("y", 4.0)]


def test_prompts_with_ground_truth() -> None:
    data = read([{"q": "2+2?", "final": 4}], mapping={"kind": "prompts", "prompt": "q", "ground_truth": "final"})
    assert (data[0]["ground_truth"], prompt(data[0])) == ("4", [("user", "2+2?")])


def test_chosen_rejected_target_margin_weight_source() -> None:
    row = {"s": "Q", "x": {"good": "A", "bad": "B"}, "t": 0.9, "m": -1, "w": 0}
    mapping = {"prompt": "s", "chosen": "x.good", "rejected": "x.bad", "target": "t", "margin": "m", "weight": "w"}
    judged = read([row], mapping={**mapping, "source": "=gpt-4"})[0]["edges"][0]
    assert (judged["p"], judged["m"], judged["w"], judged["source"]) == (0.9, -1.0, 0.0, "gpt-4")


def test_several_prompt_paths_are_joined_and_dialogue_text_is_parsed() -> None:
    row = {"q": "Q", "passages": [["T", "one"], ["U"]], "talk": "Human: x\n\nAssistant: y\n\nHuman: z", "r": ["A", "B"]}
    joined = read([row], mapping={"prompt": "q,passages", "responses": "r"})
    assert prompt(joined[0]) == [("user", "Q\n\nT\none\nU")]
    talk = read([row], mapping={"prompt": "talk", "prompt_format": "hh", "responses": "r"})
    assert prompt(talk[0]) == [("user", "x"), ("assistant", "y"), ("user", "z")]


def test_rules_drop_rows_and_are_counted() -> None:
    rows = [{"q": f"Q{i}", "a": "A", "b": "B", "lang": lang} for i, lang in enumerate(["en", "de", "en"])]
    _, report = read_with_report(rows, mapping={"prompt": "q", "responses": "a,b", "drop": "lang != en"})
    assert (report.records, report.dropped) == (2, {"rule: lang != en": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"promt": "q", "prompt": "q", "responses": "a,b"}, "did you mean (mapping: )?prompt"),
        ({"prompt": "q"}, "responses: missing"),
        ({"responses": "a,b"}, "prompt: required"),
        ({"prompt": "q", "chosen": "a"}, "come together"),
        ({"prompt": "q", "responses": "a,b", "choice": "c", "preference": "p"}, "one place"),
        ({"prompt": "q", "responses": "a,b", "confidence_middle": 5}, "needs confidence"),
        ({"prompt": "q", "responses": "a,b", "votes": "x,y,z"}, "3 paths for 2 responses"),
        ({"prompt": "q[", "responses": "a,b"}, "not a path"),
        ({"prompt": "q", "responses": "a,b", "drop": "lang ~ en"}, "not a rule"),
        ({"prompt": "q", "responses": "a", "kind": "ratings"}, "exactly one of grades and label"),
    ],
)
def test_mistakes_in_a_mapping_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        column_mapping(fields)


def test_a_mapping_and_a_format_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude"):
        read([MT_BENCH], format="hh", mapping=column_mapping({"prompt": "q", "responses": "a,b"}))


def test_a_path_that_leads_nowhere_names_row_and_column() -> None:
    with pytest.raises(DataError, match=r"rows:1:info.pots: the path leads nowhere"):
        read([{"info": {"post": "P"}, "r": ["A", "B"]}], mapping={"prompt": "info.pots", "responses": "r"})


@pytest.mark.parametrize("choice", [2, -1, "x", 0.5])
def test_a_choice_out_of_range_is_an_error(choice: Any) -> None:
    with pytest.raises(DataError, match="rows:1:c"):
        read([{"q": "Q", "r": ["A", "B"], "c": choice}], mapping={"prompt": "q", "responses": "r", "choice": "c"})


class Command(Settings):
    """Settings of a command that takes a mapping."""

    mapping: ColumnMapping | None = None


def test_flags_yaml_and_python_give_the_same_mapping(tmp_path: Path) -> None:
    python = {
        "prompt": ["question"],
        "responses": ["solutions[].solution"],
        "grades": {"correct": ["solutions[].is_correct"]},
        "choice_names": {"1": 0, "both": "tie"},
        "confidence": "sure",
        "confidence_middle": 5.0,
        "ties": "drop",
    }
    words = (
        "--mapping.prompt question --mapping.responses solutions[].solution"
        " --mapping.grades.correct solutions[].is_correct --mapping.choice_names.1 0 --mapping.choice-names.both tie"
        " --mapping.confidence sure --mapping.confidence-middle 5 --mapping.ties drop"
    )
    path = tmp_path / "c.yaml"
    lines = (
        "mapping:",
        "  prompt: question",
        "  responses: solutions[].solution",
        "  grades: {correct: 'solutions[].is_correct'}",
        "  choice_names: {1: 0, both: tie}",
        "  confidence: sure",
        "  confidence_middle: 5",
        "  ties: drop",
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    expected = column_mapping(python)
    assert parse(Command, words.split(), prog="x", summary="").mapping == expected
    assert parse(Command, ["--config", str(path)], prog="x", summary="").mapping == expected
    flat = {key: value for key, value in python.items() if key != "grades"}
    assert column_mapping({**flat, "grades.correct": "solutions[].is_correct"}) == expected


PANDAS = {"p": "Q", "a": "A", "b": "B"}
BETTER = {"prompt": "p", "responses": "a,b", "choice": "w", "choice_names": {"1": 0, "2": 1}}


def test_a_choice_that_is_not_named_is_never_an_index() -> None:
    for cell in ("1.0", " 1", 1.0, 1):
        assert sides(read([PANDAS | {"w": cell}], mapping=BETTER)[0]) == [("A", "B", 1.0)]
    assert sides(read([PANDAS | {"w": "2.0"}], mapping=BETTER)[0]) == [("B", "A", 1.0)]
    with pytest.raises(DataError, match=r"w: unknown verdict(.|\n)*one of a, b, 1, 2(.|\n)*choice_names"):
        read([PANDAS | {"w": 0}], mapping=BETTER)
    # where names mean no index, others are one
    named = BETTER | {"choice_names": {"-1": "tie"}}
    assert sides(read([PANDAS | {"w": 1}], mapping=named)[0]) == [("B", "A", 1.0)]
    assert len(read([PANDAS | {"w": "0.0"}, PANDAS | {"w": 1}], mapping=BETTER | {"drop": "w = 0"})) == 1


def test_lower_ranks_are_better() -> None:
    row = {"q": "Q", "answers": [{"t": "A", "rank": 2}, {"t": "B", "rank": "1"}, {"t": "C", "rank": 2}]}
    mapping = {"prompt": "q", "responses": "answers[].t", "ranks": "answers[].rank"}
    assert sides(read([row], mapping=mapping)[0]) == [("B", "A", 1.0), ("A", "C", 0.5), ("B", "C", 1.0)]
    apart = {"q": "Q", "a": "A", "b": "B", "ra": 2, "rb": 1}
    mapping = {"prompt": "q", "responses": "a,b", "ranks": "ra,rb", "annotator": "=me"}
    judged = read([apart], mapping=mapping)[0]["edges"][0]
    assert (judged["a"], judged["b"], judged["annotator"], judged["source"]) == (1, 0, "me", "ranks")
    _, report = read_with_report([row], mapping={"prompt": "q", "responses": "answers[].t", "grades": "answers[].rank"})
    assert any("grades called rank" in note for note in report.notes)
    with pytest.raises(DataError, match="ranks and responses differ in number"):
        read([row], mapping={"prompt": "q", "responses": "answers[].t", "ranks": "=1"})
    with pytest.raises(ConfigError, match="from one place"):
        column_mapping({"prompt": "q", "responses": "a,b", "ranks": "r", "choice": "c"})


def test_verdicts_that_are_all_skipped_are_none() -> None:
    mapping = {"prompt": "p", "responses": "a,b", "preference": "w", "preference_values": {"x": "skip", "1": "first"}}
    _, report = read_with_report([PANDAS | {"w": "x"}, PANDAS | {"p": "R", "w": 1}], mapping=mapping)
    assert report.dropped == {"no judgement": 1}
