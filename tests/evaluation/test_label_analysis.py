"""The table of labeling functions, calibration out of fold, selection, and the search for features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import pearsonr

from assay.errors import DataError
from assay.evaluation.exploring import explore
from assay.evaluation.label_analysis import analyse
from assay.evaluation.label_calibration import fit_label_model
from assay.evaluation.metrics import nll
from assay.feedback.label_models import CorrelatedLabelModel, SymmetricLabelModel


def test_table_by_hand() -> None:
    votes = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 0], [-1, -1, 0]], np.int8)
    truth, longer = np.array([1, 1, 1, 0]), np.array([1, 1, -1, 0])
    found = analyse(["a", "b", "c"], votes, truth, np.array(list("wxyz")), longer, seconds={"a": 2.0})
    a, b, c = found.rows
    assert (a.votes, a.coverage, a.overlap, a.conflict) == (3, 0.75, 0.75, 0.25)
    assert (a.accuracy.value, a.accuracy.n, b.accuracy.value) == (1.0, 2, 0.5)
    assert (a.longer, b.longer, a.seconds) == (1.0, 0.5, 2.0)
    assert c.coverage == 0 and np.isnan(c.longer) and c.accuracy.n == 0
    assert (found.pairs, found.labelled, found.silent) == (4, 3, 1)
    assert found.agreement[0, 1] == pytest.approx(1 / 3) and np.isnan(found.agreement[0, 2])


def test_shared_errors_are_correlations_of_being_right() -> None:
    random = np.random.default_rng(0)
    truth = random.choice([-1, 1], 4000)
    right = random.random((4000, 3)) < [0.8, 0.7, 0.6]
    right[:2000, 1] = right[:2000, 0]
    votes = (np.where(right, truth[:, None], -truth[:, None]) * (random.random((4000, 3)) < 0.6)).astype(np.int8)
    found = analyse(["a", "b", "c"], votes, truth, np.arange(4000), np.zeros(4000), resamples=100)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = (votes[:, one] != 0) & (votes[:, other] != 0)
        expected = pearsonr(right[both, one], right[both, other]).statistic
        assert found.shared_errors[one, other] == pytest.approx(expected, abs=1e-9)
        assert found.shared_errors[other, one] == pytest.approx(expected, abs=1e-9)
    assert found.shared_errors[0, 1] > 0.3 > 0.1 > abs(found.shared_errors[0, 2])


def tripled_votes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw votes of three functions, the first of which stands there three times."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 1], rows)
    right = random.random((rows, 3)) < [0.75, 0.65, 0.6]
    votes = np.where(right, truth[:, None], -truth[:, None])
    return votes[:, [0, 0, 0, 1, 2]].astype(np.int8), truth


def test_calibration_out_of_fold_mends_what_the_model_believes_of_itself() -> None:
    votes, truth = tripled_votes(4000)
    labels = np.where(np.arange(4000) < 600, truth, 0)
    fitted = fit_label_model(SymmetricLabelModel(), votes, labels, np.arange(4000) // 2)
    assert np.isfinite(fitted.out_of_fold).sum() == 600
    held = slice(600, None)
    y = (truth[held] + 1) / 2
    raw = nll(fitted.model.logits(votes[held]), y)
    after = nll(fitted.logits(votes[held]), y)
    assert after < raw - 0.05
    assert fitted.predict(votes[held]) == pytest.approx(expit(fitted.logits(votes[held])))
    assert fitted.predict(-votes[held]) == pytest.approx(1 - fitted.predict(votes[held]), abs=1e-9)


def test_no_label_judges_itself() -> None:
    """Turning the labels of one fold's groups changes nothing in what that fold is told."""
    votes, truth = tripled_votes(300)
    group = np.arange(300) // 3
    first = fit_label_model(CorrelatedLabelModel(), votes, truth, group, folds=100)
    turned = truth.copy()
    turned[:3] = -turned[:3]
    again = fit_label_model(CorrelatedLabelModel(), votes, turned, group, folds=100)
    assert again.out_of_fold[:3] == pytest.approx(first.out_of_fold[:3])
    assert not np.allclose(again.out_of_fold[3:], first.out_of_fold[3:])


def test_too_few_labels_to_calibrate() -> None:
    votes, truth = tripled_votes(10)
    with pytest.raises(DataError, match="too few labels to calibrate"):
        fit_label_model(SymmetricLabelModel(), votes, truth, np.zeros(10))
    with pytest.raises(DataError, match="too few labels to calibrate"):
        fit_label_model(SymmetricLabelModel(), votes, np.zeros(10, int), np.arange(10))


def test_exploring_finds_the_feature_its_direction_and_its_window() -> None:
    random = np.random.default_rng(0)
    truth = random.choice([-1, 1], 2000)
    d = random.normal(size=(2000, 4))
    d[:, 0] = np.abs(d[:, 0]) * np.where(random.random(2000) < 0.7, -truth, truth)  # less of it is better
    # large differences tell, small ones do not
    telling = np.abs(d[:, 1]) > 1
    d[telling, 1] = np.abs(d[telling, 1]) * np.where(
        random.random(telling.sum()) < 0.85, truth[telling], -truth[telling]
    )
    d[::2, 3] = np.nan
    found = explore(dict(zip("abcd", d.T, strict=True)), truth, np.arange(2000) // 2, resamples=1000)
    by = {each.name: each for each in found}
    assert {each.name for each in found[:2]} == {"a", "b"}
    assert by["a"].prefers == "less" and by["a"].accuracy == pytest.approx(0.7, abs=0.03)
    assert by["b"].prefers == "more" and 0.7 < by["b"].least < 1.2
    assert by["a"].holds and by["b"].holds and not by["c"].holds and not by["d"].holds


def test_exploring_noise_holds_nothing_in_most_draws() -> None:
    false = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = {str(j): random.normal(size=300) for j in range(10)}
        false += any(p.holds for p in explore(noise, random.choice([-1, 1], 300), np.arange(300), resamples=1000))
    assert false <= 4


def test_exploring_what_never_differs() -> None:
    found = explore({"same": np.zeros(20), "none": np.full(20, np.nan)}, np.ones(20), np.arange(20))
    assert [each.coverage for each in found] == [0.0, 0.0] and not any(each.holds for each in found)
