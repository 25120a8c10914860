"""Rewards of right answers, formats and majorities."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import ConfigError
from assay.scorers.verifiers import Majority, Verifier

TAGGED = r"<answer>(.*?)</answer>"


def rewards(verifier: Any, texts: list[Any], truths: list[Any] | None = None) -> list[Any]:
    columns = {} if truths is None else {"ground_truth": truths}
    return verifier(prompts=["p"] * len(texts), completions=texts, **columns)


def test_exact_answers() -> None:
    found = rewards(
        Verifier("exact"), [" Paris\n", "paris", "Rome", "", "x"], ["Paris", "Paris", "Paris", "Paris", None]
    )
    assert found == [1.0, 1.0, 0.0, 0.0, None]


def test_tagged_answers_are_right_wrong_or_not_there() -> None:
    verifier = Verifier("exact", TAGGED, right=1.0, wrong=-1.0, unparsed=-3.0)
    texts = [
        "I think <answer>yes</answer>",
        "<answer>no</answer>",
        "yes",
        "<answer>no</answer> or <answer>yes</answer>",
    ]
    assert rewards(verifier, texts, ["yes"] * 4) == [1.0, -1.0, -3.0, 1.0]
    assert rewards(verifier, [[{"role": "assistant", "content": "<answer>yes</answer>"}]], ["yes"]) == [1.0]


def test_numbers_are_equal_whatever_they_look_like() -> None:
    found = rewards(Verifier("numeric", unparsed=-1.0), ["so 1,000", "1000.0000001", "999", "many"], ["#### 1000"] * 4)
    assert found == [1.0, 1.0, 0.0, -1.0]
    with pytest.raises(ConfigError, match="the truth is no number"):
        rewards(Verifier("numeric"), ["1"], ["one"])


def test_each_of_several_truths_is_right() -> None:
    """As lists, and as the JSON that a text column holds of a list."""
    truths = [["4", "four"], '["4", "four"]', '["5"]', "4"]
    assert rewards(Verifier("exact"), ["Four"] * 4, truths) == [1.0, 1.0, 0.0, 0.0]
    # brackets around numbers are an interval or a vector, and no alternatives
    assert rewards(Verifier("exact"), ["[0, 1]", "0"], ["[0, 1]"] * 2) == [1.0, 0.0]
    assert rewards(Verifier("numeric"), ["4.0"] * 3, [["4", "5"], '["3", "4"]', '["3"]']) == [1.0, 1.0, 0.0]
    assert rewards(Verifier("near"), ["4"], ['["1", "3.5"]']) == [2.0]
    # no truth at all is no reward
    for kind in ("exact", "numeric", "near"):
        assert rewards(Verifier(kind), ["4", "4"], [[], "[]"]) == [None, None]


@pytest.mark.parametrize(
    ("kind", "columns", "reason"),
    [
        ("numeric", {"ground_truth": ["1", None, "one", "two"]}, "of 2 of 4 prompts"),
        ("near", {"ground_truth": ["1", "?"]}, "of 1 of 2 prompts"),
        ("near", {"ground_truth": ["1", "72"]}, "a number from 0 to 5 .--reward.verifier.bounds"),
        ("near", {"ground_truth": ["0"], "choices": [["1", "2", "3"]]}, "a number from 1 to 3"),
        ("label", {"ground_truth": ["a", "c"], "choices": [["a", "b"]] * 2}, "the truth is no choice"),
        ("label", {"ground_truth": ["a"]}, "labels that there are"),
        ("exact", {"answer": ["a"]}, "expected: one of answer"),
        ("near", {"ground_truth": [[], None]}, "the truth is not in the data"),
    ],
)
def test_truths_are_looked_at_before_training(kind: Any, columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Verifier(kind).check(columns)


def test_truths_that_are_there_pass() -> None:
    Verifier("numeric").check({"ground_truth": ["1/2", None, "#### 4", ["3", "4"]]})
    Verifier("label").check({"ground_truth": ["a", None], "choices": [["a", "b"], None]})
    Verifier("format", "x").check({})
    Verifier("exact").check({"ground_truth": ["anything"]})


def test_near_numbers_keep_the_order_of_wrong_and_unparsed() -> None:
    """STS-B: an error of 5 scores -2.5, which must stay above what cannot be read."""
    found = rewards(Verifier("near"), ["2.5", "0", "9", "none"], ["2.5", "5", "0", "3"])
    assert found == [2.5, -2.5, -2.5, -3.0]


def test_near_knows_the_numbers_that_a_task_has() -> None:
    """As PPO on GLUE, on grades from 1 to 6: the label of the last line is the number, and no number in the text is."""
    verifier, choices = Verifier("near"), [["1", "2", "3", "4", "5", "6"]]
    texts = ["3 of them.\nAnswer: 6", "Answer: 5", "Answer: 1", "so 6", "Answer: 7"]
    columns: dict[str, Any] = {"ground_truth": ["6"] * 5, "choices": choices * 5}
    verifier.check(columns)
    assert verifier([""] * 5, texts, **columns) == [2.5, 1.5, -2.5, -3.0, -3.0]
    # a wide scale: what cannot be read stays below the worst that can
    wide = Verifier("near", bounds=(0, 100))
    assert rewards(wide, ["0", "many", "120"], ["100", "100", "100"]) == [-97.5, -98.0, 2.5]
    assert rewards(Verifier("near", unparsed=-200, bounds=(0, 100)), ["many"], ["100"]) == [-200]
    # choices that are no numbers say nothing of bounds
    words = {"ground_truth": ["4"], "choices": [["low", "high"]]}
    assert Verifier("near")([""], ["so 4"], **words) == [2.5]
    with pytest.raises(ConfigError, match="bounds are out of order"):
        Verifier("near", bounds=(5, 0))
    with pytest.raises(ConfigError, match="kind near"):
        Verifier("numeric", bounds=(0, 5))


def test_formats_need_no_truth() -> None:
    assert rewards(Verifier("format", r"^\w+\.$"), ["Yes.", "Yes"]) == [1.0, 0.0]


def test_the_majority_is_right() -> None:
    majority = Majority(Verifier("exact", TAGGED))
    texts = [
        "<answer>a</answer>",
        "<answer>A</answer>",
        "<answer>b</answer>",
        "nothing",
        "nothing",
        "<answer>c</answer>",
    ]
    found = majority(prompts=["p"] * 6, completions=texts, groups=[0, 0, 0, 0, 1, 1])
    assert found == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    order = [3, 2, 1, 0]
    permuted = majority(prompts=["p"] * 4, completions=[texts[k] for k in order], groups=[0] * 4)
    assert permuted == [found[k] for k in order]
    # without answers nobody is right
    assert majority(prompts=["p"], completions=["nothing"], groups=[0]) == [0.0]
    numbers = Majority(Verifier("numeric"))
    assert numbers(prompts=["p"] * 3, completions=["1.0", "so 1", "2"], groups=[0] * 3) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": "format"}, "a format is a pattern"),
        ({"kind": "exact", "pattern": "("}, "no regular expression"),
        ({"kind": "exact", "right": 0.0}, "out of order"),
        ({"kind": "exact", "unparsed": 0.5}, "out of order"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Verifier(**options)


def test_a_truth_that_is_not_in_the_data() -> None:
    with pytest.raises(ConfigError, match="the truth is not in the data"):
        Verifier("exact", column="answer")(prompts=["p"], completions=["a"], ground_truth=["a"])


LABELS = ["entail", "entailment", "neutral"]


def test_labels_are_read_from_the_last_line() -> None:
    texts = [
        "so\nAnswer: entail",
        "Answer: Entailment.",
        "Answer: neutral",
        "entail",
        "Answer: entail\nAnswer: neutral",
    ]
    verifier, columns = Verifier("label"), {"ground_truth": ["entail"] * 5, "choices": [LABELS] * 5}
    found = verifier(prompts=["p"] * 5, completions=texts, **columns)
    assert found == [1.0, -1.0, -1.0, -3.0, -3.0]
    # other names for the classes change nothing
    names = dict(zip(LABELS, "xyz", strict=True))
    renamed = [text.replace("entailment", "y").replace("Entailment", "y") for text in texts]
    renamed = [text.replace("entail", "x").replace("neutral", "z") for text in renamed]
    other = {"ground_truth": ["x"] * 5, "choices": [list(names.values())] * 5}
    assert verifier(prompts=["p"] * 5, completions=renamed, **other) == found
    # every example may have its own choices, and one without a truth has no reward
    own = {"ground_truth": ["a", None], "choices": [["a", "b"], ["c", "d"]]}
    assert verifier(prompts=["p"] * 2, completions=["Answer: a", "Answer: c"], **own) == [1.0, None]
    with pytest.raises(ConfigError, match="labels that there are"):
        verifier(prompts=["p"], completions=["Answer: a"], ground_truth=["a"])
    with pytest.raises(ConfigError, match="from the last line"):
        Verifier("label", pattern="x")
    with pytest.raises(ConfigError, match="out of order"):
        Verifier("label", unparsed=0.0)


@pytest.mark.parametrize(("truth", "answer"), [("6.626e-34", "0"), ("6.67e-11", "1e-12"), ("-1e-10", "1e-10")])
def test_tiny_numbers_are_not_all_alike(truth: str, answer: str) -> None:
    given = Verifier("numeric")
    assert given.right == 1.0
    told = given(["Q"] * 3, [answer, truth, f"It is {truth}"], ground_truth=[truth] * 3)
    assert list(told) == [given.of_wrong, 1.0, 1.0]
    assert list(given(["Q"], ["0.0000000001"], ground_truth=["0"])) == [1.0]
