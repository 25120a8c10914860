"""Curves over fractions of the labels: the bootstrap beside that of verdicts, planted differences, what is advised."""

from __future__ import annotations

import numpy as np
import pytest

from assay.evaluation.advice import recommendation
from assay.evaluation.efficiency import Comparison, Curve, HeldOut, curve_of, needed
from assay.evaluation.verdicts import hierarchical_effect

FRACTIONS, LABELS = [0.1, 0.5, 1.0], [20.0, 100.0, 200.0]


def held_out(count: int = 400, groups: int = 80, ties: int = 0) -> HeldOut:
    random = np.random.default_rng(0)
    p = (random.random(count) < 0.5).astype(float)
    p[:ties] = 0.5
    names = np.array([f"g{n % groups}" for n in range(count)])
    return HeldOut(p, np.ones(count), names, np.zeros(count, np.int64))


def curve(tests: HeldOut, accuracies: list[float], seeds: int = 6, seed: int = 0) -> Curve:
    """Draw margins that are right so often; the same judgements are hard for all methods."""
    hard = np.random.default_rng(1).random(len(tests.p))
    random = np.random.default_rng(2 + seed)
    margins = []
    for accuracy in accuracies:
        noise = random.normal(0, 0.05, (seeds, len(tests.p)))
        right = hard + noise < accuracy
        side = np.where(tests.p >= 0.5, 1.0, -1.0)
        margins.append(np.where(right, side, -side) * 1.5)
    return curve_of(tests, FRACTIONS, LABELS, margins, [np.full(seeds, 2.0)] * len(margins))


def test_values_and_errors_are_those_of_the_hierarchical_bootstrap() -> None:
    tests = held_out(ties=10)
    curves = {"bt": curve(tests, [0.55, 0.6, 0.7]), "mlp": curve(tests, [0.6, 0.65, 0.7], seed=5)}
    comparison = Comparison(tests, curves, "bt", resamples=4000)
    weight = tests.w * (tests.p != 0.5)
    for metric, terms in (("accuracy", "hits"), ("nll", "gains")):
        found = comparison.over_baseline("mlp", metric)
        for at, fraction in enumerate(FRACTIONS):
            paired = getattr(curves["mlp"], terms)[at] - getattr(curves["bt"], terms)[at]
            expected = hierarchical_effect(paired, weight, tests.groups)
            assert found[fraction].value == pytest.approx(expected.value)
            assert found[fraction].standard_error == pytest.approx(expected.standard_error, rel=0.1)
            assert np.allclose(found[fraction].ci95, expected.ci95, atol=0.006)


def test_each_seed_may_be_tested_on_another_part() -> None:
    tests = held_out()
    tests = HeldOut(tests.p, tests.w, tests.groups, np.arange(len(tests.p)) % 2)
    margins = np.full((4, len(tests.p)), np.nan)
    for seed in range(4):
        there = tests.part == seed % 2
        # seeds of part 0 are always right, those of part 1 always wrong
        margins[seed, there] = np.where(tests.p[there] > 0.5, 1.0, -1.0) * (1 if seed % 2 == 0 else -1)
    one = curve_of(tests, [1.0], [10.0], [margins], [np.ones(4)])
    found = Comparison(tests, {"bt": one}, "bt", resamples=500).level("bt")[0]
    assert found.value == pytest.approx(0.5) and found.ci95[0] < 0.2 and found.ci95[1] > 0.8


def test_a_method_that_is_the_baseline_is_never_ahead() -> None:
    tests = held_out()
    same = curve(tests, [0.55, 0.6, 0.7])
    comparison = Comparison(tests, {"bt": same, "again": same}, "bt", resamples=300)
    for estimate in comparison.over_baseline("again").values():
        assert estimate.value == 0 and estimate.ci95 == (0, 0)
        assert comparison.verdict(estimate, 0.02) == "does not hold"
    assert comparison.power(1.0, 0.02) is None
    assert "nothing is certainly better than bt: use bt" in recommendation(comparison, 0.02)[0]


def test_a_planted_difference_is_found_and_advised() -> None:
    tests = held_out(2000, 400)
    curves = {
        "bt": curve(tests, [0.55, 0.62, 0.66]),
        "good": curve(tests, [0.66, 0.7, 0.75], seed=3),
        "poor": curve(tests, [0.5, 0.52, 0.55], seed=4),
    }
    comparison = Comparison(tests, curves, "bt", resamples=500)
    told = recommendation(comparison, 0.02)
    assert told[0].startswith("With 200 judgements, use good: +") and "With 20, good is ahead" in told[1]
    assert comparison.verdict(comparison.over_baseline("poor")[1.0], 0.02) == "does not hold"
    wide, narrow = (comparison.over_baseline("good")[1.0].__getattribute__(name) for name in ("simultaneous", "ci95"))
    assert wide[0] < narrow[0] and wide[1] > narrow[1]


def noisy(tests: HeldOut, seeds: int, of_seeds: float, random: np.random.Generator) -> Curve:
    """Draw a method that is right on three in four, each seed by so much more or less, on judgements of its own."""
    chances = np.clip(0.75 + of_seeds * random.normal(size=seeds), 0, 1)
    right = random.random((seeds, len(tests.p))) < chances[:, None]
    side = np.where(tests.p >= 0.5, 1.0, -1.0)
    return curve_of(tests, [1.0], [100.0], [np.where(right, side, -side)], [np.ones(seeds)])


@pytest.mark.parametrize("parts", [1, 2])
def test_power_tells_judgements_from_seeds(parts: int) -> None:
    random = np.random.default_rng(0)
    found = {}
    for count in (1000, 4000):
        tests = held_out(count, count)
        tests = HeldOut(tests.p, tests.w, tests.groups, np.arange(count) % parts)
        same, few = noisy(tests, 20, 0.0, random), []
        for _ in range(8):
            other = noisy(tests, 20, 0.0, random)
            few.append(Comparison(tests, {"bt": same, "other": other}, "bt", resamples=100).power(1.0, 0.02))
        found[count] = np.median([each["judgements"] for each in few if each and each["judgements"]])
    # what is needed does not depend on how many there are: 2.8^2 * var / (20 * 0.02^2), var = 2 * 0.75 * 0.25
    assert found[1000] == pytest.approx(found[4000], rel=0.35)
    tests = held_out(1000, 1000)
    wild = noisy(tests, 20, 0.1, random)
    comparison = Comparison(tests, {"bt": noisy(tests, 20, 0.0, random), "wild": wild}, "bt", resamples=100)
    needs = comparison.power(1.0, 0.02)
    # a seed is off by 10 points: 20 of them by 2.2, and no test is large enough
    assert needs is not None and needs["judgements"] is None and needs["seeds"] is not None and needs["seeds"] > 200
    assert any("more seeds are needed first" in line for line in recommendation(comparison, 0.02))


def test_what_is_not_calibrated_has_no_likelihood() -> None:
    tests = held_out()
    good = curve(tests, [0.55, 0.6, 0.7])
    margins = [np.where(np.isfinite(row), 1.0, np.nan) for row in good.hits]
    bare = curve_of(tests, FRACTIONS, LABELS, margins, [np.full(6, np.nan)] * 3)
    comparison = Comparison(tests, {"bt": good, "bare": bare}, "bt", resamples=200)
    assert comparison.over_baseline("bare", "nll") == {} and len(comparison.over_baseline("bare")) == 3


def test_nothing_is_advised_where_nothing_was_compared() -> None:
    tests = held_out()
    alone = Comparison(tests, {"bt": curve(tests, [0.55, 0.6, 0.7])}, "bt", resamples=200)
    assert recommendation(alone, 0.02)[0] == "With 200 judgements, nothing was compared with bt."


def test_labels_needed() -> None:
    tests = held_out(2000, 400)
    curves = {"bt": curve(tests, [0.5, 0.6, 0.7]), "good": curve(tests, [0.6, 0.75, 0.8], seed=3)}
    curves |= {"poor": curve(tests, [0.5, 0.5, 0.5], seed=4)}
    comparison = Comparison(tests, curves, "bt", resamples=500)
    own, good, poor = (comparison.labels_needed(name) for name in ("bt", "good", "poor"))
    assert own is not None and own["labels"] == pytest.approx(200)
    assert good is not None and good["labels"] is not None and 50 < good["labels"] < 100
    assert good["ci95"][0] <= good["labels"] <= good["ci95"][1] and good["reached"] == 1
    assert poor is not None and poor["labels"] is None and poor["reached"] == 0


def test_they_are_not_defined_where_the_baseline_learns_nothing() -> None:
    tests = held_out()
    curves = {"bt": curve(tests, [0.6, 0.6, 0.6]), "other": curve(tests, [0.6, 0.6, 0.6], seed=3)}
    comparison = Comparison(tests, curves, "bt", resamples=300)
    assert comparison.labels_needed("other") is None
    assert any("say little about who needs fewer labels" in line for line in recommendation(comparison, 0.02))


def test_between_fractions_accuracy_follows_the_logarithm() -> None:
    labels = np.array([10.0, 100.0, 1000.0])
    assert needed(labels, np.array([0.5, 0.6, 0.7]), 0.65) == pytest.approx(10**2.5)
    assert needed(labels, np.array([0.5, 0.6, 0.7]), 0.5) == pytest.approx(10)
    assert needed(labels, np.array([0.5, 0.6, 0.7]), 0.71) == float("inf")
    # a dip is averaged away, not read twice
    assert needed(labels, np.array([0.6, 0.5, 0.7]), 0.55) == pytest.approx(10)


def test_methods_may_lack_fractions() -> None:
    tests = held_out()
    whole, part = curve(tests, [0.55, 0.6, 0.7]), curve(tests, [0.6, 0.65, 0.8], seed=3)
    part = Curve(part.fractions[1:], part.labels[1:], part.hits[1:], part.gains[1:], part.calibrated[1:])
    found = Comparison(tests, {"bt": whole, "some": part}, "bt", resamples=300).over_baseline("some")
    assert sorted(found) == [0.5, 1.0] and found[1.0].value == pytest.approx(0.1, abs=0.03)
