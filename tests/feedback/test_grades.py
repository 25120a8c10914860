"""Grades of responses: the table, their combination, and gaps of judgements."""

from __future__ import annotations

import numpy as np
import pytest

from assay.errors import DataError
from assay.feedback import comparison, edge, from_rows, pairs
from assay.feedback.grades import grade_table, scaled
from assay.feedback.records import Grade


def grades(**values: float | None) -> list[Grade]:
    return [{"dimension": name, "value": value} for name, value in values.items()]


ROWS = [
    comparison(
        "Q",
        ["one", "two", "three"],
        [edge(0, 1), edge(2, 1), edge(0, 2)],
        grades=[grades(fluency=4, sense=2), [*grades(fluency=1), *grades(fluency=2)], grades(sense=None)],
    ),
    comparison("R", ["x", "y"], [edge(1, 0)], grades=[grades(fluency=3, sense=5), grades(fluency=5, sense=1)]),
]


def test_table() -> None:
    table = grade_table(from_rows(ROWS))
    nan = np.nan
    assert table.dimensions == ("fluency", "sense")
    np.testing.assert_array_equal(table.values, [[4, 2], [1.5, nan], [nan, nan], [3, 5], [5, 1]])
    np.testing.assert_array_equal(table.offsets, [0, 3, 5])
    np.testing.assert_array_equal(table.combined(), [3, nan, nan, 4, 3])
    np.testing.assert_array_equal(table.combined({"fluency": 2.0}), [4, 1.5, nan, 3, 5])


def test_gaps_are_over_what_both_have() -> None:
    data = from_rows(ROWS)
    table, view = grade_table(data), pairs(data)
    np.testing.assert_array_equal(table.gaps(view), [2.5, np.nan, np.nan, -1])
    np.testing.assert_array_equal(table.gaps(view, {"fluency": 3, "sense": 1}), [2.5, np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(table.gaps(view, {"sense": -1}), [np.nan, np.nan, np.nan, 4])
    np.testing.assert_allclose(table.gaps(view, {"fluency": 1}, "log")[3], np.log(6 / 4))


def test_gaps_have_the_sign_of_the_judgements_that_readers_make() -> None:
    from assay.feedback.drafts import Context, grade_edges

    random = np.random.default_rng(0)
    values = random.integers(1, 6, size=(12, 3)) / 3
    made = [grades(a=row[0], b=row[1] if i % 3 else None, c=row[2]) for i, row in enumerate(values)]
    data = from_rows([comparison("Q", [str(i) for i in range(12)], grade_edges(made, Context()), grades=made)])
    view = pairs(data)
    found = grade_table(data).gaps(view)
    np.testing.assert_array_equal(np.sign(found), np.sign(view.p - 0.5))
    assert (found == 0).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, v: t.gaps(v, {"fluidity": 1}), "no response is graded in fluidity"),
        (lambda t, v: t.gaps(v, {"fluency": 0}), "one of them other than 0"),
        (lambda t, v: scaled(np.array([1.0, np.inf]), "raw"), "a grade is infinite"),
        (lambda t, v: scaled(np.array([-1.0]), "log"), "for counts"),
    ],
)
def test_what_cannot_be_combined_is_refused(call, message) -> None:  # type: ignore[no-untyped-def]
    data = from_rows(ROWS)
    with pytest.raises(DataError, match=message):
        call(grade_table(data), pairs(data))


def test_without_any_grade() -> None:
    data = from_rows([comparison("Q", ["one", "two"], [edge(0, 1)])])
    table = grade_table(data)
    assert table.dimensions == () and np.isnan(table.gaps(pairs(data))).all()
