"""Tasks as writing: what is asked, what is read from an answer, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ConfigError, DataError
from assay.feedback.tasks import TASKS, Example, Task, read_examples
from assay.feedback.tasks.task import answer, check_choices, read_answer

LABELS = ("entail", "entailment", "no entailment")


def example(label: str = "positive", text: str = "A fine film.", group: str | None = None) -> Example:
    return Example({"text": text}, label, ("negative", "positive"), group or text.lower())


@pytest.mark.parametrize(
    ("text", "label", "unread"),
    [
        ("Because so.\nAnswer: entail", "entail", None),
        # a label that begins another is not it
        ("Because so.\nAnswer: entailment", "entailment", None),
        ("answer:  No   Entailment.\n\n", "no entailment", None),
        ("Answer: entails", None, "unknown label"),
        ("Answer: entail or entailment", None, "unknown label"),
        ("Answer:", None, "unknown label"),
        ("It is entail.", None, "no last line"),
        ("Answer: entail\nand so on", None, "no last line"),
        ("", None, "no last line"),
        # two labels
        ("Answer: entail\nAnswer: entailment", None, "two labels"),
        ("Answer: entail\nno\nAnswer: entail", "entail", None),
    ],
)
def test_the_last_line_alone_is_read(text: str, label: str | None, unread: str | None) -> None:
    found = read_answer(text, LABELS)
    assert (found.label, found.unread) == (label, unread)


@given(st.text(max_size=60), st.sampled_from(LABELS))
def test_what_was_written_is_read(rationale: str, label: str) -> None:
    written = answer(label, rationale)
    found = read_answer(written, LABELS)
    # a rationale that begins like the last line is a second label, and is never taken for the first
    assert found.label == label or (found.label is None and "answer:" in rationale.lower())
    assert "\n" not in found.rationale


def test_a_prompt_names_texts_and_labels() -> None:
    task = Task("mood", ("{text}\nIs it {labels}?", "Mood ({labels}): {text}"), ("negative", "positive"))
    assert task.fields == ("text",)
    # braces in a text are only text
    assert task.ask(example(text="A {film}.")) == "A {film}.\nIs it negative, positive?"
    assert task.ask(example(), 1) == "Mood (negative, positive): A fine film."
    with pytest.raises(ConfigError, match="names a text that is not there"):
        Task("mood", ("{review}",), ("negative", "positive")).ask(example())


@pytest.mark.parametrize(
    ("labels", "kind", "reason"),
    [
        (("one",), "classes", "one class alone"),
        (("Yes", "yes."), "classes", "cannot be told apart"),
        (("a\nb", "c"), "classes", "cannot be told apart"),
        (("2", "1"), "ordinal", "rising numbers"),
        (("low", "high"), "ordinal", "rising numbers"),
        ((), "classes", "its own choices"),
        (("a", "b"), "choices", "its own choices"),
    ],
)
def test_labels_that_cannot_be(labels: tuple[str, ...], kind: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Task("x", ("{text}",), labels, kind)  # type: ignore[arg-type]


def test_all_known_tasks_ask_for_what_their_layouts_have() -> None:
    for name, known in TASKS.items():
        assert known.task.name == name
        for columns in known.layouts:
            assert set(known.task.fields) <= set(columns.texts)
        if known.task.kind == "ordinal":
            assert all(columns.grade for columns in known.layouts)
            assert known.task.distance(known.task.labels[0], known.task.labels[-1]) > 1
    check_choices(("a", "b"), "x")


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
    assert report.dropped == {"no label of the task": 1, "a text is missing": 1} and report.rows == 4
    assert "2 examples from 4 rows" in report.lines()[0] and "row" in report.lines()[1]


def test_grades_are_rounded_to_the_nearest_label_and_halves_go_up() -> None:
    pairs = [(0.4, "0"), (2.5, "3"), (4.49, "4"), (5.0, "5"), (7.0, "5")]
    rows = [{"sentence1": f"a{value}", "sentence2": "b", "label": value} for value, _ in pairs]
    found, report = read_examples(TASKS["stsb"], [*rows, {"sentence1": "a", "sentence2": "b", "label": "high"}])
    assert [one.label for one in found] == [label for _, label in pairs]
    assert report.dropped == {"no label of the task": 1}
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
