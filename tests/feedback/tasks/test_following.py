"""Whether rationales depend on the label that they were asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from assay.feedback.tasks import Example, Task
from assay.feedback.tasks.following import follows_labels

TASK = Task("kinds", ("{text}",), ("red", "green", "blue"))
CHOICES = Task("choices", ("{text}",), kind="choices")
Triple = tuple[Example, tuple[str, str], tuple[str, str]]


def pairs(write: str, count: int = 90) -> list[Triple]:
    random, found = np.random.default_rng(0), []
    for k in range(count):
        right, wrong = (TASK.labels[int(i)] for i in random.permutation(3)[:2])
        words = {
            "the label": lambda label: f"it looks {label} to me",
            "the same": lambda label: "because it is so",
            "at random": lambda label: " ".join(random.choice(list("abcdefgh"), 5)),
        }[write]
        one = Example({"text": f"Thing {k}."}, right, TASK.labels, f"group {k}")
        found.append((one, (right, words(right)), (wrong, words(wrong))))
    return found


def test_what_names_its_label_is_told_apart() -> None:
    found = follows_labels(TASK, pairs("the label"))
    assert found is not None and found.told == 1.0 and found.same == 0.0 and not found.ignored
    assert found.low > 0.9 and found.pairs == 90 and "ignores" not in found.line()


@pytest.mark.parametrize("write", ["the same", "at random"])
def test_a_source_that_ignores_the_label_is_named(write: str) -> None:
    found = follows_labels(TASK, pairs(write))
    assert found is not None and found.ignored and found.low < 0.5 < found.high
    assert "ignores the label" in found.line() and found.same == (1.0 if write == "the same" else 0.0)


def test_where_every_example_has_its_own_labels_names_count() -> None:
    kept = [
        (Example({"text": "t"}, "ice cream", ("ice cream", "cream"), str(k)), ("ice cream", a), ("cream", b))
        for k, (a, b) in enumerate([("It is ice cream.", "So cream it is."), ("no idea", "no idea")] * 10)
    ]
    found = follows_labels(CHOICES, kept)
    assert found is not None and found.by == "the labels that it names"
    # the first kind of pair is told rightly, the second one is a tie
    assert found.told == pytest.approx(0.75) and found.same == 0.5


def test_too_few_say_nothing() -> None:
    assert follows_labels(TASK, pairs("the label", 19)) is None
    assert follows_labels(TASK, [(one, (a[0], ""), b) for one, a, b in pairs("the label")]) is None


def test_one_group_alone_is_not_learned_from_itself() -> None:
    one = [(Example(e.texts, e.label, e.choices, "same"), a, b) for e, a, b in pairs("the label")]
    found = follows_labels(TASK, one)
    assert found is not None and found.told == 0.5


def test_a_label_is_named_as_words_of_its_own() -> None:
    def told(write: Callable[[str], str]) -> float:
        sides = [("bank", "river bank"), ("art", "cart")]
        kept = []
        for k in range(30):
            right, wrong = sides[k % 2][:: 1 if k % 4 < 2 else -1]
            one = Example({"text": f"Thing {k}."}, right, (right, wrong), f"group {k}")
            kept.append((one, (right, write(right)), (wrong, write(wrong))))
        found = follows_labels(CHOICES, kept)
        assert found is not None
        return found.told

    # whatever marks stand beside it
    assert told(lambda label: f"It says '{label}', so it is.") == told(lambda label: f"it is {label} here") > 0.7
    # and not as a part of another word
    assert told(lambda label: f"it is s{label}s") == 0.5
