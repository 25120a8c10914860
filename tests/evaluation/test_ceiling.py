"""The best accuracy that repeated judgements allow, against a world where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assay.evaluation import evaluate
from assay.evaluation.ceiling import ceiling_of
from assay.evaluation.intervals import GroupBootstrap
from assay.feedback.pairs import Pairs, pairs
from assay.feedback.records import comparison, edge, from_rows


def judged(chances: np.ndarray, annotators: list[str | None], seed: int = 0) -> Pairs:
    """Draw verdicts on pairs whose first response is better with these chances, named in either order."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, chance in enumerate(chances):
        edges = []
        for name in annotators:
            first = rng.random() < chance
            turned = rng.random() < 0.5
            edges.append(
                edge(1, 0, float(not first), annotator=name) if turned else edge(0, 1, float(first), annotator=name)
            )
        rows.append(comparison(f"prompt {number}", ["one", "other"], edges, split_group=f"{number}"))
    return pairs(from_rows(rows))


@pytest.mark.parametrize("hard", ["equally", "partly"])
def test_bounds_hold_the_best_model(hard: str) -> None:
    rng = np.random.default_rng(1)
    sure = np.full(3000, 0.8) if hard == "equally" else np.where(rng.random(3000) < 0.5, 1.0, 0.5)
    chances = np.where(rng.random(3000) < 0.5, sure, 1 - sure)
    data = judged(chances, ["ann", "bob", "cat"])
    found = ceiling_of(data, GroupBootstrap(data.group, 200))
    assert found is not None and found.agreeing.n == 3000
    best = np.mean(np.maximum(chances, 1 - chances))
    assert found.least <= best <= found.most
    # the upper bound is reached where all are equally hard, the lower one where they are easy or a toss-up
    assert (found.high if hard == "equally" else found.low) == pytest.approx(best, abs=0.015)
    assert found.agreeing.value == pytest.approx(np.mean(chances**2 + (1 - chances) ** 2), abs=0.015)


def test_nothing_is_said_without_repeats() -> None:
    data = judged(np.full(100, 0.8), ["ann"])
    assert ceiling_of(data, GroupBootstrap(data.group, 50)) is None
    few = judged(np.full(9, 0.8), ["ann", "bob"])
    assert ceiling_of(few, GroupBootstrap(few.group, 50)) is None


def test_a_judge_who_repeats_himself_is_one_judge() -> None:
    data = judged(np.full(100, 0.8), ["ann", "ann"])
    assert ceiling_of(data, GroupBootstrap(data.group, 50)) is None
    nameless = judged(np.full(100, 0.8), [None, None])
    assert ceiling_of(nameless, GroupBootstrap(nameless.group, 50)) is not None


def test_it_is_part_of_an_evaluation() -> None:
    data = judged(np.full(100, 0.9), ["ann", "bob"])
    found = evaluate(data, np.ones(len(data)), resamples=100)
    assert found.ceiling is not None and found.to_dict()["noise_ceiling"]["accuracy"][1] == found.ceiling.high
    assert "judged again" in found.ceiling.sentence()


def test_judgements_of_no_weight_say_nothing() -> None:
    data = judged(np.full(40, 1.0), ["ann", "bob"])
    against = replace(data, p=np.where(data.annotator == "bob", 1 - data.p, data.p))
    muted = replace(against, w=(data.annotator == "ann").astype(float))
    assert ceiling_of(muted, GroupBootstrap(muted.group, 50)) is None
    found = ceiling_of(against, GroupBootstrap(against.group, 50))
    assert found is not None and found.agreeing.value == 0


def test_that_all_agree_is_not_certain() -> None:
    data = judged(np.full(12, 1.0), ["ann", "bob"])
    found = ceiling_of(data, GroupBootstrap(data.group, 50))
    assert found is not None and found.agreeing.ci95 == pytest.approx((0.025 ** (1 / 12), 1.0)) and not found.nameless
    nameless = judged(np.full(12, 1.0), [None, None])
    told = ceiling_of(nameless, GroupBootstrap(nameless.group, 50))
    assert told is not None and "without a name" in told.sentence() and told.to_dict()["nameless"]
