"""The top of the likelihood of votes: EM stands still there, and no other point near it is higher."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit

from assay.feedback.label_models import (
    ConfusionLabelModel,
    CorrelatedLabelModel,
    LabelModel,
    LogisticLabelModel,
    SymmetricLabelModel,
    never_apart,
)
from assay.feedback.label_models.likelihood import most_likely
from assay.feedback.label_models.vote_table import VoteTable
from tests.feedback.label_models.test_label_models import planted


@pytest.fixture
def votes() -> np.ndarray:
    return planted([0.8, 0.7, 0.65, 0.6], rows=2000)[0]


@pytest.mark.parametrize("labelled", [0, 300])
def test_em_stands_still_there(votes: np.ndarray, labelled: int) -> None:
    truth = planted([0.8, 0.7, 0.65, 0.6], rows=2000)[1]
    labels = np.where(np.arange(2000) < labelled, truth, 0)
    model = SymmetricLabelModel("em").fit(votes, labels)
    first = np.where(labels == 0, model.predict(votes), labels > 0)
    right = (first[:, None] * (votes > 0) + (1 - first[:, None]) * (votes < 0)).sum(axis=0)
    assert model.accuracy == pytest.approx((right + 1) / ((votes != 0).sum(axis=0) + 2), abs=2e-5)
    assert model.settled


def test_em_of_two_rates_a_function_stands_still_there(votes: np.ndarray) -> None:
    model = ConfusionLabelModel("em").fit(votes)
    first = model.predict(votes)
    voted = votes != 0
    of_first = (first @ (votes > 0) + 1) / (first @ voted + 2)
    of_second = ((1 - first) @ (votes < 0) + 1) / ((1 - first) @ voted + 2)
    assert model.right_of_first == pytest.approx(of_first, abs=1e-4)
    assert model.right_of_second == pytest.approx(of_second, abs=1e-4)
    assert model.prior == pytest.approx((first.sum() + 1) / 2002, abs=1e-4)


def brute(votes: np.ndarray, a: np.ndarray, b: np.ndarray, prior: float, free: np.ndarray) -> float:
    """Return the penalised log-likelihood, row by row."""
    total = sum(np.log(rate) + np.log(1 - rate) for rate in free)
    for row in votes:
        first, second = prior, 1 - prior
        for vote, one, other in zip(row, a, b, strict=True):
            if vote:
                first *= one if vote > 0 else 1 - one
                second *= other if vote < 0 else 1 - other
        total += np.log(first + second)
    return float(total)


@pytest.mark.parametrize("tied", [True, False])
def test_no_point_near_the_top_is_higher(votes: np.ndarray, tied: bool) -> None:
    votes = votes[:150]
    a, b, prior, settled = most_likely(VoteTable.of(votes), prior=0.5 if tied else None, tied=tied)
    assert settled and (not tied or (a == b).all())

    def height(a: np.ndarray, b: np.ndarray, prior: float) -> float:
        return brute(votes, a, b, prior, a if tied else np.concatenate([a, b, [prior]]))

    top = height(a, b, prior)
    for j, step in itertools.product(range(4), (-0.05, 0.05)):
        moved = expit(logit(a) + step * (np.arange(4) == j))
        assert height(moved, moved if tied else b, prior) < top
    if not tied:
        assert height(a, b, prior + 0.02) < top and height(a, b, prior - 0.02) < top


def test_functions_of_one_voice_are_named() -> None:
    random = np.random.default_rng(0)
    one, other = random.choice([-1, 0, 1], (2, 200))
    alike = np.where(random.random(200) < 0.7, one, 0)
    votes = np.stack([one, other, alike, -one], axis=1).astype(np.int8)
    together = int((alike != 0).sum())
    found = never_apart(votes, ["one", "other", "alike", "opposite"])
    assert found == [
        ("one", "alike", 1, together),
        ("one", "opposite", -1, int((one != 0).sum())),
        ("alike", "opposite", -1, together),
    ]
    assert never_apart(votes[:19]) == []


def test_labels_of_one_kind_have_intervals() -> None:
    votes, truth = planted([0.8, 0.7, 0.6], rows=500)
    turned, ones = votes * truth[:, None], np.ones(500)
    model = SymmetricLabelModel("labels").fit(turned, ones)
    low, high = model.intervals(turned, ones).T
    assert (low < model.accuracy).all() and (model.accuracy < high).all()


@pytest.mark.parametrize("model", [LogisticLabelModel(), CorrelatedLabelModel(), ConfusionLabelModel("labels")])
def test_predictions_have_intervals(model: LabelModel) -> None:
    votes, truth = planted([0.8, 0.7, 0.6], rows=500)
    found = model.fit(votes, truth).predicted_intervals(votes[:20], votes, truth, resamples=100)
    p = model.predict(votes[:20])
    assert found.shape == (20, 2) and (found[:, 0] <= p).mean() > 0.9 and (p <= found[:, 1]).mean() > 0.9
    fewer = model.fit(votes[:50], truth[:50]).predicted_intervals(votes[:20], votes[:50], truth[:50], resamples=100)
    assert np.diff(fewer).mean() > np.diff(found).mean()
