"""Whether something that should know nothing is known to know nothing."""

from __future__ import annotations

from typing import Literal

#: How far from chance what is blind may be, as a share: half the width of an interval from 2,401 judgements.
BLIND = 0.02


def near_chance(
    interval: tuple[float, float], *, chance: float = 0.5, by: float = BLIND
) -> Literal["yes", "no", "undecided"]:
    """Say whether an interval lies within ``by`` of chance, beyond it on one side, or across one of the ends.

    Certainly below chance is beyond it too: who is told the wrong side is told the right one.
    """
    low, high = interval[0] - chance, interval[1] - chance
    return "yes" if low > -by and high < by else "no" if low > by or high < -by else "undecided"
