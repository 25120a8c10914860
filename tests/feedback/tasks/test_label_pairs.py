"""Pairs that hinge on the label or on the rationale: the builders' promises, for every pair."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from assay.errors import ConfigError, DataError
from assay.feedback import from_rows, pairs
from assay.feedback.tasks import Example, Task
from assay.feedback.tasks.label_pairs import (
    check_label_pairs,
    control_pairs,
    label_pairs,
    rationale_pairs,
)
from assay.feedback.tasks.rationales import Borrowed, Generated, NoRationale, Remembered, Templates, Written
from assay.feedback.tasks.task import read_answer
from assay.feedback.tasks.wrong_labels import balanced, wrong_labels

TASK = Task("kinds", ("{text}\n{labels}?", "{labels}: {text}"), ("red", "green", "blue"))
STARS = Task("stars", ("{text}",), ("1", "2", "3", "4", "5"), "ordinal")


def examples(task: Task = TASK, count: int = 90) -> list[Example]:
    """Return examples of which the first label is twice as frequent as each other one."""
    labels = (task.labels[0], *task.labels)
    return [
        Example(
            {"text": f"Thing {k}."},
            labels[k % len(labels)],
            task.labels,
            f"group {k}",
            {labels[k % len(labels)]: (f"it is so, {k}", f"see {k}")},
        )
        for k in range(count)
    ]


def labels_of(row: dict[str, Any]) -> tuple[str | None, str | None]:
    one, other = (read_answer(text, TASK.labels).label for text in row["responses"])
    return one, other


@pytest.mark.parametrize("source", [NoRationale(), Templates(), Borrowed(examples())], ids=lambda own: own.name)
def test_the_right_label_is_over_a_wrong_one_in_every_pair(source: Any) -> None:
    own = examples()
    rows, report = label_pairs(TASK, own, source, template=1)
    right = {TASK.ask(one, 1): one.label for one in own}
    assert report.pairs == len(rows) == 90 and not report.dropped
    for row in rows:
        better, worse = labels_of(row)
        assert better == right[row["prompt"][0]["content"]] != worse is not None
        meta = json.loads(row["meta"])
        assert (meta["better"], meta["worse"], meta["rationales"]) == (better, worse, source.name)
    # every label is as often on the better as on the worse side, by weight
    for label in TASK.labels:
        assert report.better[label] == pytest.approx(30) and report.worse[label] == pytest.approx(30, abs=3)
    view = pairs(from_rows(rows))
    assert len(view) == 90 and (view.p == 1).all() and view.w.mean() == pytest.approx(1)
    assert set(view.group) == {one.group for one in own}


def test_without_balance_frequent_labels_are_more_often_better() -> None:
    _, report = label_pairs(TASK, examples(), NoRationale(), balance=False)
    assert report.better["red"] == 46 and report.better["green"] == 22
    assert "90 pairs" in report.lines()[0] and report.to_dict()["better"]["red"] == 46


def test_labels_that_each_example_has_for_itself_are_not_counted() -> None:
    task = Task("choices", ("{text}\n{labels}?",), kind="choices")
    own = [Example({"text": f"{k}"}, f"a{k}", (f"a{k}", f"b{k}"), f"{k}") for k in range(8)]
    rows, report = label_pairs(task, own, NoRationale())
    assert len(rows) == report.pairs == 8 and report.characters[0] > 0
    assert not report.to_dict()["better"] and not report.to_dict()["worse"]


def test_lengths_are_told_as_pairs_are_weighted() -> None:
    """A balanced control whose sides differ in the label alone is longer on neither side, whatever is frequent."""
    rows, report = control_pairs(TASK, examples(), Templates(), "swapped label")
    plain = np.mean([np.sign(len(a) - len(b)) for a, b in (row["responses"] for row in rows)])
    assert report.longer == pytest.approx(0.5) and plain != 0
    # templates name the right label on both sides, so only the last lines differ, and these balance
    assert report.characters[0] == pytest.approx(report.characters[1])
    unequal, told = label_pairs(TASK, examples(), NoRationale(), balance=False)
    assert told.longer == pytest.approx(
        np.mean([(1 + np.sign(len(a) - len(b))) / 2 for a, b in (row["responses"] for row in unequal)])
    )
    assert told.longer < 0.5  # red, the shortest, is right twice as often
    assert any("labels by side, better/worse: blue " in line for line in told.lines())


def test_wrong_labels_by_rule() -> None:
    own = examples()
    drawn = Counter((one.label, wrong) for one, wrong in zip(own, wrong_labels(TASK, own), strict=True))
    assert all(abs(drawn["red", wrong] - 23) <= 1 for wrong in ("green", "blue"))
    often = {"red": {"green": 1e6}, "green": {"blue": 1e6}, "blue": {"red": 1e6}}
    confused = wrong_labels(TASK, own, "confusion", confused=often)
    assert all(often[one.label].get(wrong) for one, wrong in zip(own, confused, strict=True))
    stars = [replace(one, choices=STARS.labels) for one in examples(STARS)]
    for one, wrong in zip(stars, wrong_labels(STARS, stars, "nearest"), strict=True):
        assert STARS.distance(one.label, wrong) == 1
    with pytest.raises(ConfigError, match="ordinal"):
        wrong_labels(TASK, own, "nearest")
    with pytest.raises(ConfigError, match="needs counts"):
        wrong_labels(TASK, own, "confusion")


@pytest.mark.parametrize("rule", ["uniform", "confusion", "nearest"])
def test_labels_alone_tell_nothing_about_the_side(rule: Any) -> None:
    """Whatever chooses wrong labels: of any two labels each is as often over the other, by weight."""
    random = np.random.default_rng(3)
    labels = random.choice(STARS.labels, 300, p=[0.05, 0.1, 0.2, 0.25, 0.4])
    own = [Example({"text": f"{k}"}, str(label), STARS.labels, f"{k}") for k, label in enumerate(labels)]
    confused = {a: {b: float(random.random() * 9) for b in STARS.labels if a != b} for a in STARS.labels}
    rows, report = label_pairs(STARS, own, NoRationale(), rule, confused=confused)
    view, total = pairs(from_rows(rows)), Counter[tuple[str, str]]()
    for row, weight in zip(rows, view.w, strict=True):
        meta = json.loads(row["meta"])
        total[meta["better"], meta["worse"]] += weight
    assert len(total) >= 8 and all(total[a, b] == pytest.approx(total[b, a]) for a, b in total)
    assert view.w.mean() == pytest.approx(1) and len(rows) + sum(report.dropped.values()) == 300
    assert all(report.better[label] == pytest.approx(report.worse[label]) for label in STARS.labels)


def test_labels_that_are_never_the_other_way_round_are_left_out() -> None:
    assert balanced([("a", "b"), ("b", "a"), ("b", "a"), ("a", "c")]).tolist() == pytest.approx([1.5, 0.75, 0.75, 0.0])
    assert balanced([("a", "c")]).tolist() == [0.0]


def test_paraphrases_come_with_the_pairs() -> None:
    own = examples(count=12)
    rows, _ = label_pairs(TASK, own, NoRationale(), template=1)
    for row, one in zip(rows, own, strict=True):
        assert json.loads(row["meta"])["otherwise"] == [TASK.ask(one, 0)]


def test_both_rationales_come_from_one_source() -> None:
    own = examples()
    rows, report = label_pairs(TASK, own, Written())
    # people explained the right label alone, so there is nothing as good for the wrong one
    assert rows == [] and report.dropped == {"no rationale for both labels": 90}
    borrowed = Borrowed(own)(own, [one.label for one in own])
    assert all(
        text is not None and text not in one.rationales[one.label] for text, one in zip(borrowed, own, strict=True)
    )
    # what is borrowed for a label was written for that label
    for label in TASK.labels:
        written = {text for one in own if one.label == label for text in one.rationales[label]}
        assert set(Borrowed(own)(own, [label] * len(own))) <= written
    same = Templates()(own, ["red"] * 90), Templates()(own, ["blue"] * 90)
    assert [one.replace("red", "blue") for one in same[0] if one] == same[1]


def test_all_kinds_of_pairs_argue_alike() -> None:
    calls: list[str] = []

    def write(prompts: list[str]) -> list[str]:
        calls.extend(prompts)
        return [f"reason {len(calls)}-{k}" for k in range(len(prompts))]

    source, own = Remembered(Generated(TASK, write)), examples(count=8)
    rows, _ = label_pairs(TASK, own, source)
    swapped, _ = control_pairs(TASK, own, source, "swapped label")
    assert len(calls) == 16 and len(set(calls)) == 16
    assert [row["responses"][0] for row in rows] == [row["responses"][0] for row in swapped]


def test_a_generator_is_told_the_label() -> None:
    asked: list[str] = []

    def write(prompts: list[str]) -> list[str]:
        asked.extend(prompts)
        return [" because\n of it " if "red" in prompt.rsplit("\n", 1)[-1] else "" for prompt in prompts]

    own = examples(count=8)
    rows, report = label_pairs(TASK, own, Generated(TASK, write, "mine"))
    assert rows == [] and report.source == "mine" and sum(report.dropped.values()) == 8
    assert asked[0] == "Thing 0.\nred, green, blue?\nThe answer is red. Why?"
    assert Generated(TASK, write)(own[:1], ["red"]) == ["because of it"]


@pytest.mark.parametrize("kind", ["swapped label", "wrong rationale"])
def test_controls_change_one_thing(kind: Any) -> None:
    rows, report = control_pairs(TASK, examples(), Templates(), kind)
    assert report.kind == kind and len(rows) == 90
    for row in rows:
        (better, worse), (one, other) = labels_of(row), (text.splitlines()[0] for text in row["responses"])
        assert (better == worse) == (kind == "wrong rationale") and (one == other) == (kind == "swapped label")
        # the better side argues for its label, and of the other one the rationale alone is for another
        assert better is not None and better in one and (better in other) == (kind == "swapped label")
    silent, report = control_pairs(TASK, examples(), NoRationale(), "wrong rationale")
    assert silent == [] and report.dropped == {"the same rationale for both labels": 90}


def test_rationale_pairs_have_one_label_and_follow_who_ranks() -> None:
    own = examples(count=12)

    def prefer(prompts: list[str], one: list[str], other: list[str]) -> np.ndarray:
        assert len(prompts) == len(one) == len(other) == 12
        return np.array([0.9, 0.2, 0.5, np.nan] * 3)

    rows, report = rationale_pairs(TASK, own, (Written(), Templates()), prefer, name="me")
    assert report.dropped == {"not ranked": 6} and len(rows) == 6
    assert all(len(set(labels_of(row))) == 1 for row in rows)
    assert "it is so" in rows[0]["responses"][0] and "it is so" in rows[1]["responses"][1]
    assert [row["edges"][0]["p"] for row in rows[:2]] == [0.9, 0.8]
    with pytest.raises(DataError, match="another number of pairs"):
        rationale_pairs(TASK, own, (Written(), Templates()), lambda *_: np.ones(3))


def test_pairs_that_are_not_of_their_kind_are_refused() -> None:
    own = examples(count=4)
    rows, _ = label_pairs(TASK, own, NoRationale(), balance=False)
    check_label_pairs(TASK, rows, own)
    turned = [{**row, "responses": row["responses"][::-1]} for row in rows]
    with pytest.raises(DataError, match="pair 1"):
        check_label_pairs(TASK, turned, own)


def test_a_rationale_that_begins_like_a_last_line_gives_no_label() -> None:
    own = examples(count=4)
    rows, _ = label_pairs(TASK, own, Generated(TASK, lambda prompts: ["Answer: ANSWER: red, why not"] * len(prompts)))
    for row in rows:
        assert [text.count("nswer:") for text in row["responses"]] == [1, 1]
        assert row["responses"][0].startswith("red, why not\n")
    # nothing but the mark is no rationale
    assert Generated(TASK, lambda prompts: ["answer: "] * 4)(own, ["red"] * 4) == [None] * 4
