"""How many true judgements buy what an arm has, read off a curve, with an interval over curve and arm together."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from summary import DataSet

DRAWS = 1000


class Point:
    """True judgements, and the hits that they buy by seed and split group."""

    def __init__(self, judgements: float, data: DataSet, arm: str) -> None:
        self.judgements, self.data, self.arm = judgements, data, arm
        self.hits, self.mass = sums_of(data, arm)

    @property
    def accuracy(self) -> float:
        """Over all seeds."""
        return sum(map(float, self.hits.values())) / sum(map(float, self.mass.values()))


Sums = dict[tuple[int, str], float]


def sums_of(data: DataSet, arm: str) -> tuple[Sums, Sums]:
    """Return weighted hits, and weights, of each seed and split group."""
    hits: Sums = defaultdict(float)
    mass: Sums = defaultdict(float)
    found = data.arms[arm]
    for seed, row in zip(found.seeds, data.hits(found.delta), strict=True):
        there = np.isfinite(row)
        names, of = np.unique(data.group[there].astype(str), return_inverse=True)
        weight = data.weight[there]
        for target, values in ((hits, row[there] * weight), (mass, weight)):
            for group, value in zip(names, np.bincount(of, values, len(names)), strict=True):
                target[seed, group] += float(value)
    return hits, mass


def equal_to(points: list[Point], data: DataSet, arm: str) -> str:
    """Tell how many true judgements buy what an arm has, with an interval of 95 %.

    Seeds and split groups are drawn, the same for the curve and the arm, and the number is read off anew each time.
    """
    if len(points) < 3:
        return "–"
    columns = [(point.hits, point.mass) for point in points] + [sums_of(data, arm)]
    seeds = sorted(set.intersection(*({seed for seed, _ in mass} for _, mass in columns)))
    groups = sorted({group for _, mass in columns for _, group in mass})
    place = {key: k for k, key in enumerate((seed, group) for seed in seeds for group in groups)}
    sums = np.zeros((len(columns), 2, len(seeds), len(groups)))
    for column, both in zip(sums, columns, strict=True):
        for kind, values in zip(column, both, strict=True):
            for key, value in values.items():
                if key in place:
                    kind.flat[place[key]] = value
    number = np.array([point.judgements for point in points])
    random = np.random.default_rng(0)
    drawn = []
    for draw in range(DRAWS + 1):
        rows = random.integers(0, len(seeds), len(seeds)) if draw else np.arange(len(seeds))
        count = np.bincount(random.integers(0, len(groups), len(groups)), minlength=len(groups)) if draw else None
        hits, mass = (sums[:, :, rows] @ (np.ones(len(groups)) if count is None else count)).sum(axis=2).T
        *curve, level = hits / mass
        drawn.append(number_of(number, np.array(curve), level))
    low, high = np.quantile(drawn[1:], [0.025, 0.975], method="nearest")
    return f"{_named(drawn[0], number)} ({_named(low, number)} to {_named(high, number)})"


def number_of(number: np.ndarray, curve: np.ndarray, accuracy: float) -> float:
    """Read off how many judgements buy an accuracy, along the rising hull, by logarithm; 0 or infinite beyond it."""
    level = np.maximum.accumulate(curve)
    if accuracy < level[0]:
        return 0.0
    if accuracy > level[-1]:
        return float("inf")
    rising = np.append(True, np.diff(level) > 0)
    return float(np.exp(np.interp(accuracy, level[rising], np.log(number[rising]))))


def _named(value: float, number: np.ndarray) -> str:
    if value == 0:
        return f"below {number[0]:,.0f}"
    return f"above {number[-1]:,.0f}" if np.isinf(value) else f"{value:,.0f}"
