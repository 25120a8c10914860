"""Deviations that know mistakes, deviations that know nothing, and deviations that only repeat the margin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from assay.evaluation import evaluate, fit_temperature
from assay.evaluation.intervals import GroupBootstrap
from assay.evaluation.uncertainty import evaluate_uncertainty, moderated_probability
from assay.feedback.pairs import Pairs

Draw = Callable[..., tuple[Pairs, np.ndarray]]


def judged(draw: Draw, kind: str) -> Any:
    data, truth = draw(records=600, seed=4, scale=0.2)
    rng = np.random.default_rng(0)
    noise = np.where(rng.random(len(truth)) < 0.5, 0.1, 4.0)
    delta = truth + noise * rng.normal(size=len(truth))
    std = {"true": noise, "noise": rng.random(len(truth)), "margin": 1 / (0.1 + np.abs(delta))}[kind]
    return evaluate_uncertainty(data, delta, std, GroupBootstrap(data.group, 500)), data, delta, std


def test_deviations_that_know_mistakes(draw: Draw) -> None:
    found, data, delta, std = judged(draw, "true")
    assert found.sure.value > found.unsure.value and found.difference.excludes_zero()
    assert found.at_equal_margin.excludes_zero() and found.at_equal_margin.value > 0.05
    assert found.auroc.value > 0.55 and found.moderated_nll.value < 0 and found.moderated_nll.excludes_zero()
    assert "beyond the size of the margin" in found.sentence()
    wrong = (delta > 0) != (data.p > 0.5)
    assert found.auroc.value == pytest.approx(roc_auc_score(wrong, std), abs=1e-12)
    assert found.auroc_margin.value == pytest.approx(roc_auc_score(wrong, -np.abs(delta)), abs=1e-12)


@pytest.mark.parametrize("kind", ["noise", "margin"])
def test_deviations_that_add_nothing(draw: Draw, kind: str) -> None:
    found, *_ = judged(draw, kind)
    assert not found.at_equal_margin.excludes_zero() or abs(found.at_equal_margin.value) < 0.05
    if kind == "margin":
        assert found.auroc.value == pytest.approx(found.auroc_margin.value, abs=1e-9)


def test_equal_deviations(draw: Draw) -> None:
    data, truth = draw(records=60)
    found = evaluate_uncertainty(data, truth, np.ones(len(truth)), GroupBootstrap(data.group, 100))
    assert np.isnan(found.unsure.value) and np.isnan(found.difference.value) and found.auroc.value == 0.5
    assert "says nothing for certain" in found.sentence()


def test_it_is_part_of_an_evaluation(draw: Draw) -> None:
    data, truth = draw(records=100)
    std = np.random.default_rng(1).random(len(truth))
    found = evaluate(data, truth, std=std, calibration=fit_temperature(truth, data.p), resamples=100)
    plain = found.to_dict()["uncertainty"]
    assert set(plain) == {
        "auroc", "auroc_margin", "sure", "unsure", "difference", "at_equal_margin", "moderated_nll",
    }  # fmt: skip
    json.dumps(plain)
    assert evaluate(data, truth, resamples=100).to_dict()["uncertainty"] is None


def test_moderation_moves_towards_one_half() -> None:
    margins, std = np.array([-2.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0])
    found = moderated_probability(margins, std)
    assert found[2] == expit(3.0) and found[1] == 0.5
    assert found[0] == pytest.approx(expit(-2.0 / np.sqrt(1 + np.pi / 8)))
