"""Answers to other prompts as losers."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from assay.errors import DataError
from assay.feedback import pairs, split
from assay.feedback.cross_prompts import CROSS_PROMPT, with_cross_prompts
from assay.feedback.records import comparison, edge, from_rows


def data(count: int = 12, groups: int = 12) -> Dataset:
    rows = [
        comparison(
            f"question {i}",
            [f"good {i}", f"bad {i}"],
            [edge(0, 1, w=1.0 + i) if i % 2 else edge(1, 0, 0.0)],
            split_group=f"group {i % groups}",
        )
        for i in range(count)
    ]
    return from_rows([*rows, comparison("a tie", ["one", "other"], [edge(0, 1, 0.5)])])


def test_a_good_answer_to_another_prompt_loses() -> None:
    given = data()
    after, told = with_cross_prompts(given, 0.5, seed=0)
    assert told == {"appended": 6, "without_partner": 0}
    view = pairs(after)
    new = np.flatnonzero(view.source == CROSS_PROMPT)
    assert len(view) == 13 + 6 and len(new) == 6
    for index in new:
        row = int(view.row[index])
        _, own, other = view.texts(int(index))
        assert own == f"good {row}" and other.startswith("good ") and other != own
        assert view.p[index] == 1 and view.w[index] == (1.0 + row if row % 2 else 1.0)
    changed = set(view.row[new].tolist())
    for row, (before, now) in enumerate(zip(given, after, strict=True)):
        assert now["responses"][:2] == before["responses"] and now["edges"][:1] == before["edges"]
        assert len(now["responses"]) == len(now["grades"]) == len(now["response_messages"]) == 2 + (row in changed)
        assert now["prompt_id"] == before["prompt_id"] and now["split_group"] == before["split_group"]


def test_partners_are_of_another_group_and_of_the_same_part() -> None:
    given = data(12, groups=3)
    part = np.array([i % 3 // 2 for i in range(12)] + [0])  # part 1 holds one group alone
    after, told = with_cross_prompts(given, 1.0, seed=1, part=part)
    assert told == {"appended": 8, "without_partner": 4}
    view = pairs(after)
    for index in np.flatnonzero(view.source == CROSS_PROMPT):
        row, donor = int(view.row[index]), int(view.texts(int(index))[2].split()[1])
        assert part[row] == part[donor] == 0 and row % 3 != donor % 3


def test_rows_without_a_judgement_count_in_a_split() -> None:
    judged = [comparison(f"Q{i}", ["a", "b"], [edge(0, 1)]) for i in range(10)]
    graded = [comparison(f"R{i}", ["a"], [], grades=[[{"dimension": "d", "value": 1.0}]]) for i in range(90)]
    train, test = split(from_rows([*judged, *graded]), test=0.2, seed=0)
    assert (len(train), len(test)) == (80, 20)


def test_draws_follow_the_seed_and_nothing_is_nothing() -> None:
    given = data()
    assert with_cross_prompts(given, 0.0, seed=0)[0] is given
    same, again, other = (with_cross_prompts(given, 0.5, seed=seed)[0]["responses"] for seed in (0, 0, 1))
    assert list(same) == list(again) != list(other)
    with pytest.raises(DataError, match="share is out of range"):
        with_cross_prompts(given, 1.5, seed=0)
