"""Examples of tasks from rows: layouts, labels as sets write them, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import DataError
from assay.feedback.tasks import TASKS, read_examples
from assay.feedback.tasks.task import answer, read_answer


def test_rows_become_examples() -> None:
    rows = [
        {
            "premise": "A dog runs.",
            "hypothesis": "An animal moves.",
            "label": "entailment",
            "explanations": ["a dog is an animal", "", "a dog is an animal"],
            "split": "dev",
        },
        # as on the Hub: numbers for labels
        {"premise": "A dog runs.", "hypothesis": "A cat sleeps.", "label": 2},
        {"premise": "A dog runs.", "hypothesis": "Unlabelled.", "label": -1},
        {"premise": "", "hypothesis": "Nothing.", "label": 0},
    ]
    found, report = read_examples(TASKS["esnli"], rows)
    assert [one.label for one in found] == ["entailment", "contradiction"]
    assert found[0].rationales == {"entailment": ("a dog is an animal",)} and found[0].part == "dev"
    assert found[0].group == found[1].group == "a dog runs."
    assert report.dropped == {"it has no label": 1, "a text is missing": 1} and report.rows == 4
    assert report.lines()[0] == "2 examples from 4 rows, 1 of them with rationales" and "row" in report.lines()[1]


def test_grades_are_rounded_to_the_nearest_label_and_halves_go_up() -> None:
    pairs = [(0.4, "0"), (2.5, "3"), (4.49, "4"), (5.0, "5"), ("0", "0"), (0, "0")]
    rows = [{"sentence1": f"a{value}", "sentence2": "b", "label": value} for value, _ in pairs]
    others = ["high", True, 7.0, -1.0, float("inf"), None, float("nan")]
    rows += [{"sentence1": "a", "sentence2": "b", "label": other} for other in others]
    found, report = read_examples(TASKS["stsb"], rows)
    assert [one.label for one in found] == [label for _, label in pairs]
    assert report.dropped == {"no label of the task": 2, "the grade is out of range": 3, "it has no label": 2}
    graded = [{"prompt": "x", "response": "y", "grades": {"quality": 4.5}}]
    assert read_examples(TASKS["d2t_quality"], graded)[0][0].label == "5"


def test_choices_are_the_examples_own_and_said_once() -> None:
    row = {"question": "Where?", "choices": ["house", "House.", "shop"], "answer": "house", "rationale": "So it is."}
    found, _ = read_examples(TASKS["ecqa"], [row])
    assert found[0].choices == ("house", "shop") and found[0].rationales == {"house": ("So it is.",)}
    with pytest.raises(DataError, match="one choice alone"):
        read_examples(TASKS["ecqa"], [row | {"choices": ["house", "house"]}])
    with pytest.raises(DataError, match="no layout of ecqa"):
        read_examples(TASKS["ecqa"], [{"text": "a", "label": "b"}])


def labels_of(name: str, cells: list[Any], **more: Any) -> tuple[list[str], Any]:
    texts = {"mrpc": ("sentence1", "sentence2")}.get(name, ("text",))
    rows = [dict.fromkeys(texts, f"Text {k}.") | {"label": cell} | more for k, cell in enumerate(cells)]
    found, report = read_examples(TASKS[name], rows)
    return [one.label for one in found], report


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("sst2", ["Positive", " NEGATIVE ", "positive"], ["positive", "negative", "positive"]),
        ("sst2", [0, 1, "0", "1", 1.0, "1.0"], ["negative", "positive"] * 2 + ["positive"] * 2),
        ("ag_news", ["Sci/Tech", "World", "business"], ["science and technology", "world", "business"]),
        ("mrpc", ["equivalent", "not_equivalent", 0], ["same", "different", "different"]),
        ("trec", ["ABBR", "HUM", "NUM", 0], ["abbreviation", "human", "number", "abbreviation"]),
    ],
)
def test_labels_are_read_as_sets_write_them(name: str, cells: list[Any], expected: list[str]) -> None:
    found, report = labels_of(name, cells)
    assert found == expected and not report.dropped and not report.notes


def test_numbers_from_one_are_noticed_in_all_of_them() -> None:
    found, report = labels_of("ag_news", [1, 4, "3", 2])
    assert found == ["world", "science and technology", "business", "sports"]
    assert report.notes == ["labels are numbered from 1: world is 1"]
    # so does another part of the same set, whatever numbers it has
    part, _ = read_examples(TASKS["ag_news"], [{"text": "Text.", "label": 1}], first=report.first)
    assert report.first == 1 and part[0].label == "world"
    # so does the last number alone; 0 says the other
    assert labels_of("ag_news", [2, 4])[0] == ["sports", "science and technology"]
    assert labels_of("ag_news", [0, 1])[0] == ["world", "sports"]
    found, report = labels_of("ag_news", [1, 2])
    assert found == ["sports", "business"] and "neither 0 nor 4 is among them" in report.notes[0]


@pytest.mark.parametrize(
    ("name", "cells", "known", "said"),
    [
        ("ag_news", [1, 2, 3, 4, 5], None, r"from 0 to 3 or numbers from 1 to 4(.|\n)*1, 2, 3, 4, 5"),
        ("ag_news", [0, 1, 4], None, "0, 1, 4"),
        ("sst2", [0, 1, "2", 3.0, 4], None, "0, 1, 2, 3, 4"),
        ("sst2", [1, 10**400], None, "1, 100000000000"),
        ("ag_news", [0, 3], 1, "from 1 to 4, as in the other part"),
    ],
)
def test_numbers_of_another_scheme_are_refused(name: str, cells: list[Any], known: int | None, said: str) -> None:
    rows = [{"text": "Text.", "label": cell} for cell in cells]
    with pytest.raises(DataError, match=rf"rows: these are not the numbers(.|\n)*{said}"):
        read_examples(TASKS[name], rows, first=known)


def test_older_numbers_of_trec() -> None:
    rows = [{"text": "What?", "label-coarse": k} for k in range(6)]
    found, _ = read_examples(TASKS["trec"], rows)
    assert [one.label for one in found] == ["description", "entity", "abbreviation", "human", "number", "location"]
    assert found[0].choices == TASKS["trec"].task.labels


def test_answers_numbered_from_one_are_noticed_in_all_of_them() -> None:
    row: dict[str, Any] = {"question": "Which?", "choices": ["a", "b", "c"]}
    found, report = read_examples(TASKS["cos_e"], [row | {"answer": k} for k in (1, 3, 2)])
    assert [one.label for one in found] == ["a", "c", "b"] and report.notes == ["answers are numbered from 1"]
    with pytest.raises(DataError, match="neither from 0 nor from 1"):
        read_examples(TASKS["cos_e"], [row | {"answer": k} for k in (0, 3)])
    # another part of the same set counts alike, whatever numbers it has, or is refused
    assert report.first == 1
    part, _ = read_examples(TASKS["cos_e"], [row | {"answer": 1}], first=report.first)
    assert part[0].label == "a"
    with pytest.raises(DataError, match="do not count from 1, as in the other part"):
        read_examples(TASKS["cos_e"], [row | {"answer": k} for k in (0, 1)], first=1)
    # what tells neither is said; what no choice has is refused, and what marks none is left out
    found, report = read_examples(TASKS["cos_e"], [row | {"answer": k} for k in (1, 2, -1)])
    assert [one.label for one in found] == ["b", "c"] and "read as from 0" in report.notes[0] and report.first is None
    with pytest.raises(DataError, match="7 among 3 choices"):
        read_examples(TASKS["cos_e"], [row | {"answer": k} for k in (1, 7)])


def test_the_answers_spelling_does_not_tell_it() -> None:
    columns = {"q_text": "Where?", "q_ans": "SHOP ", "q_op1": "bank", "q_op2": "shop", "q_op3": None, "q_op4": ""}
    found, _ = read_examples(TASKS["ecqa"], [columns | {"q_op5": "tree"}])
    assert found[0].choices == ("bank", "shop", "tree") and found[0].label == "shop"


def test_half_characters_are_left_out() -> None:
    rows = [{"text": text, "label": 1} for text in ("Fine.", "half \ud800", "Fine too.")]
    found, report = read_examples(TASKS["sst2"], rows)
    assert len(found) == 2 and report.dropped == {"a text has characters that UTF-8 cannot write": 1}
    named = [{"response": "So.", "doc_id": own, "grades": {"coherence": 3.0}} for own in ("a", "\ud800")]
    assert read_examples(TASKS["summeval_coherence"], named)[1].dropped == {
        "its group has characters that UTF-8 cannot write": 1
    }
    graded = [{"sentence1": "a", "sentence2": "b", "label": k} for k in (3, 10**400)]
    assert len(read_examples(TASKS["stsb"], graded)[0]) == 1


def test_numbers_of_choices_count_those_of_the_row() -> None:
    def chosen(choices: list[str], answer: Any) -> str | None:
        row = {"question": "Which?", "choices": choices, "answer": answer}
        found, _ = read_examples(TASKS["cos_e"], [row, row | {"choices": ["x", "y"], "answer": "x"}])
        return found[0].label if len(found) == 2 else None

    assert chosen(["a", "b", "c"], 2) == "c" and chosen(["a", "A.", "b", "c"], 2) == "b"
    assert chosen(["a", "A ", "b"], 1) == "a"
    # a text is never a number
    assert chosen(["4", "2", "3"], "1") is None and chosen(["two", "three", "four"], "2") is None
    assert chosen(["4", "2", "3"], "2") == "2"


def test_what_was_found_instead_of_labels_is_named() -> None:
    _, report = labels_of("sst2", ["positive", "good", "bad", True, 0.5, "", -1, None])
    assert report.dropped == {"no label of the task": 4, "it has no label": 3}
    assert "found 'good', 'bad', True, 0.5" in "\n".join(report.lines())
    with pytest.raises(DataError) as caught:
        labels_of("sst2", ["good", "bad"])
    assert "negative, positive" in str(caught.value) and "'good'" in str(caught.value)


def test_layouts_of_the_hub() -> None:
    nli = {"premise": "A dog runs.", "hypothesis": "It moves.", "label": 0}
    found, report = read_examples(TASKS["esnli"], [nli | {"explanation_1": "Running is moving.", "explanation_2": ""}])
    assert found[0].rationales == {"entailment": ("Running is moving.",)} and report.explained == 1
    choices = {"question": "Where?", "choices": ["a", "b"], "answer": "b", "abstractive_explanation": "So."}
    assert read_examples(TASKS["cos_e"], [choices])[0][0].rationales == {"b": ("So.",)}
    ecqa = {"q_text": "Where?", "q_ans": "b"} | {f"q_op{k}": name for k, name in enumerate("abcde", 1)}
    found, _ = read_examples(TASKS["ecqa"], [ecqa | {"taskB": "It is so."}])
    assert found[0].choices == tuple("abcde") and found[0].rationales == {"b": ("It is so.",)}
    assert read_examples(TASKS["trec"], [{"text": "Who?", "coarse_label": 3, "fine_label": 9}])[0][0].label == "human"
    assert (
        read_examples(TASKS["qqp"], [{"question1": "a?", "question2": "b?", "is_duplicate": "1"}])[0][0].label == "same"
    )


@pytest.mark.parametrize(
    "why", ["Answer: dog, since it barks", "answer:\nAnswer: house", "a\u2028Answer: b\x85Answer: c"]
)
@pytest.mark.parametrize("label", ["dog", "hot\rdog", "a\u2028b"])
def test_what_is_taught_is_read_back_whatever_people_wrote(why: str, label: str) -> None:
    row = {"question": "What?", "choices": [label, "cat"], "answer": label, "rationale": why}
    (found,), _ = read_examples(TASKS["ecqa"], [row])
    for reason in (*found.rationales[found.label], why):
        assert read_answer(answer(found.label, reason), found.choices).label == found.label
