"""Words of a text in place of rationales that nobody wrote."""

from __future__ import annotations

import pytest

from assay.errors import DataError
from assay.feedback.tasks import Example, Task
from assay.feedback.tasks.telling_words import TellingWords

MOOD = Task("mood", ("{text}",), ("negative", "positive"))
KINDS = Task("kinds", ("{text}",), ("red", "green", "blue"))


def example(text: str, label: str, task: Task = MOOD) -> Example:
    return Example({"text": text}, label, task.labels, text)


TAUGHT = [example(f"a {'great' if k % 2 else 'dull'} film number {k // 2}", MOOD.labels[k % 2]) for k in range(40)]


def test_words_that_speak_for_a_label_are_quoted() -> None:
    telling = TellingWords(MOOD, TAUGHT)
    one = example("This GREAT, dull thing of a film", "positive")
    assert telling([one, one], ["positive", "negative"]) == [
        "The words that tell are great.",
        "The words that tell are dull.",
    ]
    # nothing that is known speaks for it, and a label that nobody taught has no words
    assert telling([example("Unheard of", "positive")], ["positive"]) == [None]
    assert telling([one], ["unknown"]) == [None]
    told = telling.explain([one, example("Unheard of", "negative")])
    assert told[0].rationales == {"positive": ("The words that tell are great.",)} and not told[1].rationales


def test_several_classes_and_a_limit() -> None:
    words = {"red": "rose wine blood brick", "green": "grass leaf moss lime", "blue": "sky sea ice denim"}
    taught = [example(f"{words[label]} {k}", label, KINDS) for k in range(4) for label in KINDS.labels]
    telling = TellingWords(KINDS, taught, most=2)
    (found,) = telling([example(" ".join(words.values()), "blue", KINDS)], ["blue"])
    assert found is not None
    named = found.removeprefix("The words that tell are ").removesuffix(".").split(", ")
    assert len(named) == 2 and set(named) < set(words["blue"].split())


@pytest.mark.parametrize("taught", [[example(f"word{k}", MOOD.labels[k % 2]) for k in range(6)], TAUGHT[::2]])
def test_nothing_to_tell_by(taught: list[Example]) -> None:
    with pytest.raises(DataError, match="no words tell the labels apart"):
        TellingWords(MOOD, taught)
