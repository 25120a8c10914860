from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from assay.evaluation import Temperature, mistakes
from assay.feedback.pairs import pairs
from assay.feedback.records import comparison, edge, from_rows


def test_most_confident_first_one_for_each_record() -> None:
    rows = [
        comparison("one", ["good", "bad"], [edge(0, 1), edge(0, 1, 0.9, source="rule")]),
        comparison("two", ["bad", "good"], [edge(0, 1, 0.0)]),
        comparison("tie", ["x", "y"], [edge(0, 1, 0.5)]),
        comparison("unweighted", ["x", "y"], [edge(0, 1, w=0.0)]),
        comparison("right", ["good", "bad"], [edge(0, 1)]),
    ]
    data = pairs(from_rows(rows))
    delta = np.array([-2.0, -4.0, 3.0, 9.0, -9.0, 8.0])
    found = mistakes(data, delta, 10, calibration=Temperature(2.0, 50, 1.0, 0.9))
    assert [(m.row, m.margin, m.better, m.worse) for m in found] == [(0, 4.0, "good", "bad"), (1, 3.0, "good", "bad")]
    assert (found[0].source, found[0].target) == ("rule", pytest.approx(0.9))
    assert found[0].probability == pytest.approx(expit(2.0))
    assert found[1].prompt[0]["content"] == "two"
    assert len(mistakes(data, delta, 1)) == 1 and mistakes(data, np.zeros(6)) == []
