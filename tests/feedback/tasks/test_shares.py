"""Shares of a task: no group in two of them, and refusals of what could not be taught."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from assay.errors import ConfigError, DataError
from assay.feedback.tasks import TASKS, Example, Task
from assay.feedback.tasks.shares import TaskShares, share_out_task

TASK = Task("mood", ("{text}\n{labels}?",), ("negative", "positive"))


def examples(count: int = 60, per_group: int = 2) -> list[Example]:
    return [
        Example({"text": f"Text {k}."}, TASK.labels[k % 2], TASK.labels, f"group {k // per_group}")
        for k in range(count)
    ]


def parts(shares: TaskShares) -> list[list[Example]]:
    return [shares.teaching, shares.pairs, shares.pairs_test, shares.asked, shares.test]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_shares(seed: int) -> None:
    found = share_out_task(TASK, examples(), seed=seed)
    groups = [{one.group for one in part} for part in parts(found)]
    assert all(not one & other for one, other in combinations(groups, 2))
    assert sum(map(len, parts(found))) == 60
    assert [len(part) for part in parts(found)] == [20, 14, 4, 10, 12]
    # the order of examples does not matter
    again = share_out_task(TASK, examples()[::-1], seed=seed)
    assert {one.group for one in again.test} == groups[4]


def test_texts_of_the_test_leave_the_rest() -> None:
    own = examples()
    test = [replace(own[0], group="elsewhere"), own[7], Example({"text": "New."}, "positive", TASK.labels, "new")]
    found = share_out_task(TASK, own, test=test)
    # the same text under another group, and both texts of a group that is tested
    assert found.removed == 3 and found.test == test
    rest = [one for part in parts(found)[:4] for one in part]
    assert len(rest) == 57 and not {"Text 0.", "Text 6.", "Text 7."} & {one.texts["text"] for one in rest}


def test_groups_whose_names_are_stored_otherwise_are_one() -> None:
    """A premise whose letters are stored in two ways is one group; others keep their names, and so their places."""
    plain = examples(60, 1)
    stored = [replace(one, group=f"caf\u00e9 {k}") for k, one in enumerate(plain)]
    again = [replace(one, group=f"CAFE\u0301  {k}", texts={"text": f"Other {k}."}) for k, one in enumerate(plain)]
    found = share_out_task(TASK, [*stored, *again])
    numbers = [{one.group.split()[-1] for one in part} for part in parts(found)]
    assert all(not one & other for one, other in combinations(numbers, 2))
    assert sum(map(len, numbers)) == 60 and sum(map(len, parts(found))) == 120
    given = share_out_task(TASK, stored[:50], test=again[40:])
    assert given.removed == 10


def test_the_same_text_with_another_label_is_counted() -> None:
    other = {"negative": "positive", "positive": "negative"}
    turned = [replace(one, label=other[one.label]) for one in examples()[:4]]
    found = share_out_task(TASK, [*examples(), *examples()[:6], *turned], test_share=0.1)
    kept = {one.texts["text"] for part in parts(found)[:4] for one in part}
    assert 0 < found.repeated <= 10 and found.contradicted == sum(one.texts["text"] in kept for one in turned)


def test_texts_of_a_drawn_test_leave_the_rest_too() -> None:
    # one text under two groups each: groups alone do not part them
    own = [
        replace(one, texts={"text": f"Text {k % 30}."}, label=TASK.labels[k % 2]) for k, one in enumerate(examples())
    ]
    own = [replace(one, group=f"group {k}") for k, one in enumerate(own)]
    found = share_out_task(TASK, own)
    tested = {one.texts["text"] for one in found.test}
    assert found.removed > 0 and not tested & {one.texts["text"] for part in parts(found)[:4] for one in part}


@pytest.mark.parametrize("count", range(4, 12))
def test_of_very_few_groups_each_purpose_gets_one(count: int) -> None:
    own = examples(2 * count)
    found = share_out_task(TASK, own, test=[replace(one, group="x", texts={"text": "New."}) for one in own[:2]])
    sizes = [len(part) // 2 for part in parts(found)[:4]]
    assert sum(sizes) == count and min(sizes) >= 1
    # as near to the shares as that allows
    assert sizes[0] == max(sizes) and abs(sizes[0] - 0.4 * count) <= 1


def test_no_more_than_asked_for() -> None:
    found = share_out_task(TASK, examples(400), most=100, test_share=0.5)
    assert sum(map(len, parts(found)[:4])) == 100 and len(found.test) == 200


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        (examples(4), {}, "too few groups"),
        ([replace(one, label="positive") for one in examples()], {}, "one class alone"),
        (examples(), {"shares": {"teaching": 1.0}}, "for each purpose"),
        (examples(), {"test_share": 1.0}, "for each purpose"),
        (examples(), {"test": []}, "has no example"),
    ],
)
def test_what_cannot_be_divided(given: list[Example], options: dict[str, Any], reason: str) -> None:
    with pytest.raises((ConfigError, DataError), match=reason):
        share_out_task(TASK, given, **options)


def test_a_label_that_nothing_teaches() -> None:
    three = Task("kinds", ("{text}",), ("a", "b", "c"))
    own = [Example({"text": f"t{k}"}, "ab"[k % 2], three.labels, f"{k}") for k in range(40)]
    test = [Example({"text": "x"}, "c", three.labels, "x")]
    with pytest.raises(DataError, match="nothing teaches"):
        share_out_task(three, own, test=test)


def test_shares_with_a_group_in_common_are_refused() -> None:
    one = examples()[0]
    with pytest.raises(DataError, match="a group is in two shares"):
        TaskShares([one], [one], [], [], [])


def test_of_symmetric_tasks_texts_may_change_places() -> None:
    task = TASKS["mrpc"].task

    def pair(one: str, other: str, label: str = "same") -> Example:
        return Example({"first": one, "second": other}, label, task.labels, one.lower())

    rest = [pair(f"a{k}", f"b{k}", "same" if k % 2 else "different") for k in range(60)]
    chain = [pair("b0", "c0"), pair("c0", "d0", "different")]
    test = [pair("B1", "a1"), pair("x", "d0", "different")]
    found = share_out_task(task, [*rest, *chain], test=test)
    # the pair exchanged, and the chain a0 - b0 - c0 - d0
    assert found.removed == 4
    texts = [{text.lower() for one in part for text in one.texts.values()} for part in parts(found)]
    assert sum(map(len, texts)) == len(set.union(*texts))
    assert share_out_task(task, [*rest, pair("b5", "a5")], test=test[:1]).repeated == 1


def test_a_group_larger_than_what_is_kept_is_passed_over() -> None:
    task = TASKS["mrpc"].task
    hub = [Example({"first": "hub", "second": f"s{k}"}, task.labels[k % 2], task.labels, "") for k in range(100)]
    rest = [Example({"first": f"a{k}", "second": f"b{k}"}, task.labels[k % 2], task.labels, "") for k in range(60)]
    test = [Example({"first": "x", "second": "y"}, "same", task.labels, "")]
    for seed in range(5):
        found = share_out_task(task, [*hub, *rest], test=test, most=40, seed=seed)
        assert sum(map(len, parts(found)[:4])) == 40
