"""What is known of something that should know nothing."""

from __future__ import annotations

import pytest

from assay.evaluation.chance import near_chance


@pytest.mark.parametrize(
    ("interval", "found"),
    [
        ((0.49, 0.51), "yes"),
        ((0.47, 0.51), "undecided"),
        ((0.49, 0.53), "undecided"),
        ((0.0, 1.0), "undecided"),
        ((0.53, 0.60), "no"),
        ((0.40, 0.47), "no"),  # who is told the wrong side is told the right one
        ((0.505, 0.519), "yes"),
    ],
)
def test_an_interval_lies_within_the_bar_beyond_it_or_across_an_end(interval: tuple[float, float], found: str) -> None:
    assert near_chance(interval) == found
    assert near_chance((interval[0] - 0.5, interval[1] - 0.5), chance=0.0) == found


def test_the_bar_may_be_another() -> None:
    assert near_chance((0.47, 0.51), by=0.05) == "yes" and near_chance((0.515, 0.519), by=0.01) == "no"
