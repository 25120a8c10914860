"""Grades from yes-or-no questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from assay.scorers.judges import Answer, Question, graded


class Sure:
    """Answers by a distribution over grades 1 to 5 that it has in mind for each response."""

    name = "sure"

    def __init__(self, chances: dict[str, list[float]]) -> None:
        self.chances = chances

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        found = []
        for question in questions:
            text = question.text.split("[Response]\n")[1].split("\n[End")[0]
            grade = int(re.search(r"a grade of (\d+) or higher", question.text).group(1))  # type: ignore[union-attr]
            above = sum(self.chances[text][grade - 1 :]) if self.chances[text] else float("nan")
            found.append(Answer(float(logit(above))))
        return found

    def costs(self) -> dict[str, Any]:
        return {}


def test_a_grade_is_the_mean_of_what_the_judge_has_in_mind() -> None:
    chances: dict[str, list[float]] = {
        "a": [0.1, 0.2, 0.3, 0.3, 0.1],
        "b": [0, 0, 0, 1, 0],
        "c": [1, 0, 0, 0, 0],
        "d": [],
    }
    found = graded(Sure(chances), ["p"] * 4, list("abcd"), top=5)
    means = [float(np.dot(own, range(1, 6))) for own in list(chances.values())[:3]]
    assert found[:3] == pytest.approx(means) and np.isnan(found[3])
