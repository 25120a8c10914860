"""Prediction-powered intervals: they cover, they are narrower where the model knows itself, and never need it to."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from assay.errors import ConfigError
from assay.evaluation.powered import powered_accuracy
from assay.feedback.pairs import Pairs, pairs
from assay.feedback.records import comparison, edge, from_rows

pytest.importorskip("ppi_py")


def judged(count: int) -> Pairs:
    rows = [comparison(f"prompt {n}", ["one", "other"], [edge(0, 1, 1.0)], split_group=f"{n}") for n in range(count)]
    return pairs(from_rows(rows))


BASE = judged(120)


def world(rng: np.random.Generator, knows: bool, size: int = 2) -> tuple[Any, float]:
    """Draw groups of ``size`` pairs that share a chance to be right; the model hopes for it, or for something else."""
    chance = np.repeat(rng.beta(4, 1.2, 1000), size)
    right = rng.random(len(chance)) < chance
    hoped = chance if knows else rng.beta(8, 1, len(chance))
    margins = logit(np.clip(np.maximum(hoped, 1 - hoped), 0.501, 0.999))
    signs = np.where(right, 1.0, -1.0)
    groups = np.repeat(np.arange(1000), size)
    return (margins, signs, groups), float(4 / 5.2)


def estimate(rng: np.random.Generator, knows: bool) -> Any:
    (margins, signs, groups), _ = world(rng, knows)
    given = replace(BASE, group=groups[:120].astype(str))
    return powered_accuracy(given, margins[:120] * signs[:120], margins[120:], groups[120:])


@pytest.mark.parametrize("knows", [True, False])
def test_intervals_cover(knows: bool) -> None:
    rng = np.random.default_rng(0)
    found = [estimate(rng, knows) for _ in range(300)]
    truth = 4 / 5.2
    covered = np.mean([one.ci95[0] <= truth <= one.ci95[1] for one in found])
    assert 0.90 <= covered <= 0.985
    worth = np.median([one.worth for one in found])
    assert worth > 1.05 if knows else 0.97 <= worth <= 1.1


def test_groups_count_once() -> None:
    """Each pair a second time adds nothing, and narrows nothing."""
    rng = np.random.default_rng(1)
    (margins, signs, groups), _ = world(rng, True, size=1)
    once = powered_accuracy(
        replace(BASE, group=groups[:120].astype(str)), margins[:120] * signs[:120], margins[120:], groups[120:]
    )
    half = replace(BASE, group=np.repeat(groups[:60], 2).astype(str))
    twice = powered_accuracy(
        half, np.repeat(margins[:60] * signs[:60], 2), np.repeat(margins[60:500], 2), np.repeat(groups[60:500], 2)
    )
    plain = powered_accuracy(
        replace(BASE, group=groups[:120].astype(str)).take(np.arange(60)),
        margins[:60] * signs[:60],
        margins[60:500],
        groups[60:500],
    )
    assert twice.value == pytest.approx(plain.value) and twice.ci95 == pytest.approx(plain.ci95)
    assert once.groups == 120 and twice.groups == plain.groups == 60


def test_it_is_the_formula() -> None:
    rng = np.random.default_rng(2)
    (margins, signs, groups), _ = world(rng, True, size=1)
    given = replace(BASE, group=groups[:120].astype(str))
    found = powered_accuracy(given, margins[:120] * signs[:120], margins[120:], groups[120:])
    hits, hoped, free = (signs[:120] > 0).astype(float), expit(margins[:120]), expit(margins[120:])
    covariance = np.mean((hits - hits.mean()) * (hoped - hoped.mean()))
    best = np.clip(covariance / np.var(np.concatenate([hoped, free])) / (1 + 120 / len(free)), 0, 1)
    assert found.alone == hits.mean()
    assert found.value == pytest.approx(best * free.mean() + (hits - best * hoped).mean(), abs=5e-3)


def test_warnings_of_the_program_are_left_alone() -> None:
    before = list(warnings.filters)
    estimate(np.random.default_rng(3), True)
    assert warnings.filters == before


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="several groups on both sides"):
        powered_accuracy(BASE, np.ones(120), np.ones(3), np.zeros(3))
    monkeypatch.setitem(sys.modules, "ppi_py", None)
    with pytest.raises(ConfigError, match="need a further package"):
        powered_accuracy(BASE, np.ones(120), np.ones(3), np.arange(3))


def test_weights_count() -> None:
    rng = np.random.default_rng(2)
    (margins, signs, groups), _ = world(rng, True)
    right = signs[:120] > 0
    given = replace(BASE, group=groups[:120].astype(str), w=np.where(right, 10.0, 1.0))
    found = powered_accuracy(given, margins[:120] * signs[:120], margins[120:], groups[120:])
    assert found.alone == pytest.approx(np.average(right, weights=given.w))
    assert found.alone_ci95[0] < found.alone < found.alone_ci95[1]
