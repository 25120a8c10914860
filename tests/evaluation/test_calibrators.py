"""What a model keeps of its calibration, and what scoring makes of that."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from assay.evaluation import fit_calibration, fit_platt, from_stored, stored_form
from assay.evaluation.calibrators import Calibration
from assay.scorers.calibrated import calibrated_probability

RANDOM = np.random.default_rng(0)
DELTA = RANDOM.normal(size=400)
BETTER = (RANDOM.random(400) < expit(2 * DELTA)).astype(float)


@pytest.mark.parametrize(
    "fitted",
    [
        fit_calibration(DELTA, BETTER),
        fit_calibration(DELTA, BETTER, kind="isotonic"),
        fit_platt(DELTA, BETTER),
    ],
    ids=lambda fitted: type(fitted).__name__,
)
def test_scoring_reads_what_is_stored(fitted: Calibration) -> None:
    stored = json.loads(json.dumps(stored_form(fitted, "somehow")))
    assert stored["method"] == "somehow" and from_stored(stored) == fitted
    grid = np.linspace(-3, 3, 41)
    np.testing.assert_allclose(calibrated_probability(grid, stored), fitted.probability(grid), atol=1e-12)
    np.testing.assert_allclose(expit(fitted.apply(grid)), fitted.probability(grid), atol=1e-12)
    np.testing.assert_allclose(fitted.probability(grid) + fitted.probability(-grid), 1.0, atol=1e-12)
    assert fitted.nll_after < fitted.nll_before


def test_models_of_before_had_a_temperature() -> None:
    assert calibrated_probability(np.array([1.0]), {"temperature": 2.0})[0] == pytest.approx(expit(0.5))
    assert calibrated_probability(np.array([1.0]), None)[0] == pytest.approx(expit(1.0))


def test_few_judgements_are_too_few_for_steps() -> None:
    assert fit_calibration(DELTA[:100], BETTER[:100], kind="isotonic").flags == ("few_for_isotonic",)
    assert fit_calibration(DELTA, BETTER, kind="isotonic").flags == ()


def test_scores_that_are_the_wrong_way_round_say_nothing() -> None:
    found = fit_platt(-DELTA, BETTER)
    assert found.slope == 0 and found.flags == ("no_signal",)
    assert found.good(np.array([5.0]))[0] == pytest.approx(BETTER.mean(), abs=0.01)
