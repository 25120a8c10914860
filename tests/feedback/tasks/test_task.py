"""Tasks as writing: what is asked, what is read from an answer, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ConfigError
from assay.feedback.tasks import TASKS, Example, Task
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


@given(
    st.text(max_size=60) | st.sampled_from(["Answer: entail", "**answer:** Answer : no entailment", "Answer:"]),
    st.sampled_from(LABELS),
)
def test_what_was_written_is_read(rationale: str, label: str) -> None:
    """Also behind a rationale that begins like a last line, which would be a second label."""
    found = read_answer(answer(label, rationale), LABELS)
    assert found.label == label and "\n" not in found.rationale


@pytest.mark.parametrize(
    "text",
    [
        "**Answer: entailment**",
        "**Answer:** entailment",
        "Answer: **entailment**.",
        'Answer: "entailment"',
        "Answer: `entailment`!",
        "answer\uff1aentailment\u3002",
        "## Answer : (entailment)",
    ],
)
def test_models_write_a_last_line_in_their_own_ways(text: str) -> None:
    assert read_answer(f"It follows.\n{text}", LABELS).label == "entailment"


def test_a_number_may_be_written_otherwise() -> None:
    assert read_answer("Answer: 4.0", ("3", "4", "5")).label == "4"
    assert read_answer("Answer: 4.5", ("3", "4", "5")).unread == "unknown label"
    assert read_answer("Answer: 4.0", ("4", "four")).unread == "unknown label"


def test_one_label_beside_what_is_none_is_not_two() -> None:
    found = read_answer("Answer: the man is outside\nAnswer: entailment", LABELS)
    assert (found.label, found.unread) == (None, "unknown label")


def test_a_letter_counts_however_it_is_stored() -> None:
    assert read_answer("Answer: caf\u00e9", ("cafe\u0301", "bar")).label == "cafe\u0301"


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
        (("1", "nan"), "ordinal", "rising numbers"),
        (("1", "inf"), "ordinal", "rising numbers"),
        (("a\r1", "b"), "classes", "cannot be told apart"),
        (("a\u2028b", "c"), "classes", "cannot be told apart"),
        ((), "classes", "its own choices"),
        (("a", "b"), "choices", "its own choices"),
    ],
)
def test_labels_that_cannot_be(labels: tuple[str, ...], kind: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Task("x", ("{text}",), labels, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["{", "}", "{}", "{0}", "{text.upper}", "{text!r}", "{text:>9}", "{ text}"])
def test_templates_that_cannot_be_are_found_before_any_example(template: str) -> None:
    with pytest.raises(ConfigError, match="x, template 2"):
        Task("x", ("{text} {{and}} {labels}", template), ("a", "b"))


def test_all_known_tasks_ask_for_what_their_layouts_have() -> None:
    for name, known in TASKS.items():
        assert known.task.name == name
        for columns in known.layouts:
            assert set(known.task.fields) <= set(columns.texts)
        if known.task.kind == "ordinal":
            assert all(columns.grade for columns in known.layouts)
            assert known.task.distance(known.task.labels[0], known.task.labels[-1]) > 1
    check_choices(("a", "b"), "x")
