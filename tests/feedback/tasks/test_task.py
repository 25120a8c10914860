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
