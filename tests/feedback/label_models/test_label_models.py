"""Identities and golden values of the label models."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assay.errors import ConfigError, DataError, ModelError
from assay.feedback import SymmetricLabelModel
from assay.feedback.label_models import (
    ConfusionLabelModel,
    CorrelatedLabelModel,
    LabelModel,
    LogisticLabelModel,
    MajorityLabelModel,
    duplicates,
)
from assay.feedback.label_models.moments import by_triplets
from assay.feedback.label_models.vote_table import VoteTable

MODELS = [
    SymmetricLabelModel("labels"),
    SymmetricLabelModel("em"),
    SymmetricLabelModel("moments"),
    ConfusionLabelModel("labels"),
    ConfusionLabelModel("em"),
    CorrelatedLabelModel(),
    LogisticLabelModel(),
    MajorityLabelModel(),
]
BLIND_TO_ORDER = [model for model in MODELS if not isinstance(model, ConfusionLabelModel)]


def name_of(model: LabelModel) -> str:
    return f"{model.name} {getattr(model, 'estimator', '')}".strip()


def planted(
    accuracy: list[float], rows: int = 10_000, coverage: float = 0.7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw votes of independent functions, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 1], rows)
    right = random.random((rows, len(accuracy))) < np.array(accuracy)
    voted = random.random(right.shape) < coverage
    return (np.where(right, truth[:, None], -truth[:, None]) * voted).astype(np.int8), truth


def nll(p: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(np.where(truth > 0, p, 1.0 - p)).mean())


def test_known_accuracies() -> None:
    model = SymmetricLabelModel.with_accuracies([0.8, 0.7, 0.6])
    found = model.predict(np.array([[1, 1, -1], [0, 0, 0], [-1, -1, 1]]))
    assert found == pytest.approx([0.861538, 0.5, 1 - 0.861538], abs=1e-6)
    copied = SymmetricLabelModel.with_accuracies([0.8, 0.8, 0.8])
    assert copied.predict(np.array([[1, 1, 1]])) == pytest.approx([0.984615], abs=1e-6)


def test_function_that_is_always_right_decides_and_coins_leave_the_prior() -> None:
    sure = SymmetricLabelModel.with_accuracies([1.0, 0.6, 0.6]).predict(np.array([[1, -1, -1], [-1, 1, 1]]))
    assert sure == pytest.approx([1.0, 0.0], abs=1e-9)
    coins = SymmetricLabelModel.with_accuracies([0.5, 0.5], prior=0.3).predict(np.array([[1, 1], [1, -1], [0, 0]]))
    assert coins == pytest.approx([0.3, 0.3, 0.3])


def test_triplets() -> None:
    mean = np.array([[0, 0.24, 0.12], [0.24, 0, 0.08], [0.12, 0.08, 0]])
    assert by_triplets(mean) == pytest.approx([0.6, 0.4, 0.2], abs=1e-12)
    assert np.isnan(by_triplets(mean[:2, :2])).all()


def test_accuracy_from_labels_is_the_mean_of_a_rate_under_a_uniform_prior() -> None:
    votes = np.array([[1, 0], [1, -1], [-1, -1], [1, 0], [1, 1]])
    model = SymmetricLabelModel().fit(votes, labels=np.array([1, 1, 1, 0, -1]))
    # the first is right in 2 of 4 labelled votes, the second in none of 3
    assert model.accuracy == pytest.approx([3 / 6, 1 / 5])


@pytest.mark.parametrize("estimator", ["em", "moments"])
def test_accuracies_of_independent_functions_are_found_without_labels(estimator: str) -> None:
    accuracy = [0.8, 0.7, 0.6, 0.75, 0.65]
    model = SymmetricLabelModel(estimator).fit(planted(accuracy)[0])  # type: ignore[arg-type]
    assert model.accuracy == pytest.approx(accuracy, abs=0.05)


def test_moments_find_the_function_that_is_wrong_more_often_than_right() -> None:
    accuracy = [0.8, 0.7, 0.35, 0.75]
    assert SymmetricLabelModel("moments").fit(planted(accuracy)[0]).accuracy == pytest.approx(accuracy, abs=0.05)


def test_em_takes_labels_where_there_are_some() -> None:
    votes, truth = planted([0.8, 0.7, 0.6])
    assert nll(SymmetricLabelModel("em").fit(votes, truth).predict(votes), truth) == pytest.approx(
        nll(SymmetricLabelModel("labels").fit(votes, truth).predict(votes), truth), abs=1e-6
    )


def test_function_counted_three_times_fools_em_but_not_the_correlated_model() -> None:
    votes, truth = planted([0.8, 0.7, 0.6, 0.75, 0.65])
    tripled = np.concatenate([votes[:, :1]] * 3 + [votes[:, 1:]], axis=1)
    fooled = SymmetricLabelModel("em").fit(tripled)
    p = fooled.predict(tripled)
    sure = np.maximum(p, 1 - p) > 0.95
    assert fooled.accuracy is not None and fooled.accuracy[:3].min() > 0.99
    assert sure.mean() == pytest.approx(0.70, abs=0.02)
    assert ((p > 0.5) == (truth > 0))[sure].mean() == pytest.approx(0.79, abs=0.02)

    labels = np.where(np.arange(len(truth)) < 1000, truth, 0)
    cost = {}
    for name, model in (
        ("whole", CorrelatedLabelModel(independence=0.0)),
        ("default", CorrelatedLabelModel()),
        ("none", SymmetricLabelModel("labels")),
    ):
        once, thrice = (nll(model.fit(v, labels).predict(v), truth) for v in (votes, tripled))
        cost[name] = thrice - once
    assert cost["whole"] == pytest.approx(0.0, abs=0.002)
    assert 0.002 < cost["default"] < cost["none"] / 3 and cost["none"] > 0.05


def test_correlated_model_of_copies_of_one_function_says_its_accuracy() -> None:
    votes, truth = planted([0.8], coverage=1.0)
    model = CorrelatedLabelModel(spread=1e6, independence=0.0).fit(np.repeat(votes, 3, axis=1), truth)
    model.ridge = 1e-9
    assert model.accuracy is not None
    expected = model.accuracy[0]
    assert model.predict(np.array([[1, 1, 1], [1, 1, 0], [0, -1, 0]])) == pytest.approx(
        [expected, expected, 1 - expected], abs=1e-3
    )


def test_correlated_model_of_independent_functions_is_the_symmetric_one() -> None:
    model = CorrelatedLabelModel()
    model.accuracy, model.correlation = np.array([0.8, 0.7, 0.6]), np.eye(3)
    with pytest.raises(ConfigError, match="no share"):
        CorrelatedLabelModel(independence=2.0)
    rows = np.array(list(itertools.product([-1, 0, 1], repeat=3)))
    assert model.predict(rows) == pytest.approx(SymmetricLabelModel.with_accuracies([0.8, 0.7, 0.6]).predict(rows))


def test_correlated_votes_cost_the_independent_models() -> None:
    random = np.random.default_rng(0)
    votes, truth = planted([0.65, 0.62, 0.6, 0.63, 0.6, 0.55, 0.58], rows=12_000, coverage=1.0)
    for j in range(1, 5):  # four more often than not repeat the first, right or wrong
        copied = random.random(len(votes)) < 0.7
        votes[copied, j] = votes[copied, 0]
    labels = np.where(np.arange(len(truth)) < 1000, truth, 0)
    of = {name_of(m): nll(m.fit(votes, labels).predict(votes[2000:]), truth[2000:]) for m in MODELS if m.needs_labels}
    assert of["correlated"] < of["symmetric labels"] - 0.05
    assert of["correlated"] < of["logistic"] + 0.005


@pytest.mark.parametrize("model", BLIND_TO_ORDER, ids=name_of)
def test_other_order_gives_the_complement(model: LabelModel) -> None:
    votes, truth = planted([0.8, 0.7, 0.6, 0.4], rows=500)
    model.fit(votes, truth)
    assert model.predict(-votes) == pytest.approx(1.0 - model.predict(votes), abs=1e-12)
    again = type(model)(**({"estimator": model.estimator} if hasattr(model, "estimator") else {}))
    # fitted to turned pairs it is the same model
    again.fit(-votes, -truth)
    assert again.predict(votes) == pytest.approx(model.predict(votes), abs=1e-9)
    assert model.predict(np.zeros((1, 4), int)) == pytest.approx([0.5])


def test_confusion_model_knows_a_judge_who_likes_the_first_place() -> None:
    votes, truth = planted([0.7, 0.7, 0.7], coverage=1.0)
    votes[np.random.default_rng(1).random(len(votes)) < 0.4, 0] = 1
    model = ConfusionLabelModel().fit(votes, truth)
    assert model.right_of_first is not None and model.right_of_second is not None
    assert model.right_of_first[0] == pytest.approx(0.82, abs=0.02)
    assert model.right_of_second[0] == pytest.approx(0.42, abs=0.02)
    assert nll(model.predict(votes), truth) < nll(SymmetricLabelModel().fit(votes, truth).predict(votes), truth)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_distinct_rows_say_all(model: LabelModel) -> None:
    """Fitting to the table is fitting to every row: neither order nor twice the rows at half the weight change it."""
    votes, truth = planted([0.8, 0.7, 0.6], rows=300)
    table = VoteTable.of(votes, truth)
    order = np.random.default_rng(0).permutation(len(votes))
    model._learn(table)
    one = model.predict(votes)
    model._learn(VoteTable.of(votes[order], truth[order]))
    assert model.predict(votes) == pytest.approx(one, abs=1e-9)
    both, twice = np.tile(truth, 2), VoteTable.of(np.tile(votes, (2, 1)), np.tile(truth, 2))
    model._learn(twice.weighted(both, np.full(len(both), 0.5)))
    assert model.predict(votes) == pytest.approx(one, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.int8, st.tuples(st.integers(1, 40), st.sampled_from([1, 3, 13, 14, 33, 34, 60])), elements=st.integers(-1, 1)
    )
)
def test_table_holds_every_row(votes: np.ndarray) -> None:
    table = VoteTable.of(votes)
    assert (table.rows[table.index] == votes).all()
    assert len(np.unique(table.rows, axis=0)) == len(table.rows)
    assert table.count.sum() == len(votes)


def test_many_functions_give_no_nan() -> None:
    votes, truth = planted([0.55] * 600, rows=2000, coverage=0.3)
    for model in (SymmetricLabelModel("em"), SymmetricLabelModel("labels"), ConfusionLabelModel("em")):
        p = model.fit(votes, truth if model.needs_labels else None).predict(votes)
        assert np.isfinite(p).all() and ((p > 0.5) == (truth > 0)).mean() > 0.8


def test_agrees_with_logistic_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    votes, truth = planted([0.8, 0.7, 0.6], rows=2000)
    peer = LogisticRegression(C=1.0, fit_intercept=False).fit(votes, truth)
    assert LogisticLabelModel().fit(votes, truth).weight == pytest.approx(peer.coef_[0], abs=1e-3)


@pytest.mark.parametrize("model", [SymmetricLabelModel("labels"), SymmetricLabelModel("em")], ids=name_of)
def test_intervals_hold_the_truth_as_often_as_they_say(model: LabelModel) -> None:
    accuracy, held = np.array([0.8, 0.7, 0.6, 0.75, 0.65]), []
    for seed in range(12):
        votes, truth = planted(accuracy.tolist(), rows=1000, seed=seed)
        labels = truth if model.needs_labels else None
        low, high = model.fit(votes, labels).intervals(votes, labels, resamples=50, seed=seed).T
        held.append((low < accuracy) & (accuracy < high))
        assert model.accuracy is not None and (low < model.accuracy).all() and (model.accuracy < high).all()
    assert 0.85 < np.mean(held) < 0.99


def test_intervals_by_group_are_wider_where_groups_agree() -> None:
    votes, truth = planted([0.7, 0.6], rows=200)
    votes, truth, groups = np.repeat(votes, 20, axis=0), np.repeat(truth, 20), np.repeat(np.arange(200), 20)
    model = SymmetricLabelModel().fit(votes, truth)
    by_row, by_group = (np.diff(model.intervals(votes, truth, g))[:, 0] for g in (None, groups))
    assert (by_group > 3 * by_row).all()


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_stored_model_says_the_same(model: LabelModel) -> None:
    votes, truth = planted([0.8, 0.7, 0.6], rows=500)
    stored = json.loads(json.dumps(model.fit(votes, truth).to_dict()))
    assert type(model).from_dict(stored).predict(votes) == pytest.approx(model.predict(votes), abs=1e-12)


def test_duplicates_are_named() -> None:
    votes = np.array([[1, 0, 1, 0, 1], [-1, 0, -1, 1, 1], [0, 0, 0, 0, -1]])
    assert duplicates(votes, ["a", "silent", "b", "c", "d"]) == [("b", "a")]


@pytest.mark.parametrize(
    ("votes", "labels", "model", "says"),
    [
        ([[1, 7]], None, MajorityLabelModel(), "row 0, column 1"),
        ([[1, 0.5]], None, MajorityLabelModel(), "a vote is +1, -1 or 0"),
        ([[1, np.nan]], None, MajorityLabelModel(), "a vote is +1, -1 or 0"),
        ([["first"]], None, MajorityLabelModel(), "a vote is +1, -1 or 0"),
        ([1, -1], None, MajorityLabelModel(), "votes are a matrix"),
        ([[0, 0], [0, 0]], None, SymmetricLabelModel(), "nobody voted"),
        ([[1, 0]], [1, 1], SymmetricLabelModel(), "one label for each row"),
        ([[1, 0]], [2], SymmetricLabelModel(), "a label is +1, -1 or 0"),
        ([[1, 0]], None, CorrelatedLabelModel(), "needs labels"),
        ([[1, 0]], [0], LogisticLabelModel(), "needs labels"),
        ([[1, 0], [1, 1]], [1, 1], ConfusionLabelModel(), "in all of 2 labelled pairs the first response is better"),
        ([[1, 1], [1, -1]], None, SymmetricLabelModel("moments"), "no three functions vote on the same pairs"),
    ],
)
def test_bad_input_is_told(votes: list, labels: list | None, model: LabelModel, says: str) -> None:
    with pytest.raises(DataError, match=says.replace("+", r"\+")):
        model.fit(np.array(votes), None if labels is None else np.array(labels))


def test_unfitted_model_and_other_number_of_functions() -> None:
    with pytest.raises(ModelError, match="not fitted"):
        SymmetricLabelModel().predict(np.array([[1]]))
    model = SymmetricLabelModel.with_accuracies([0.7, 0.6])
    with pytest.raises(DataError, match=r"\[n, 2\]"):
        model.predict(np.array([[1, 0, 1]]))
    with pytest.raises(ModelError, match="no accuracies"):
        MajorityLabelModel().intervals(np.array([[1]]))


def test_functions_that_never_vote_together_are_taken_as_independent() -> None:
    random = np.random.default_rng(0)
    truth = random.choice([-1, 1], 4000)
    votes = np.where(random.random((4000, 2)) < 0.8, truth[:, None], -truth[:, None]).astype(np.int8)
    votes[::2, 0], votes[1::2, 1] = 0, 0
    model = CorrelatedLabelModel().fit(votes, truth)
    assert model.correlation is not None and model.correlation[0, 1] == pytest.approx(0)
    # one common pair on which they differ tells next to nothing
    votes[0] = [1, -1]
    model.fit(votes, truth)
    assert model.predict(np.array([[1, 1]])) == pytest.approx([0.8**2 / (0.8**2 + 0.2**2)], abs=0.02)


def test_samples_without_both_labels_do_not_end_the_intervals() -> None:
    votes, truth = planted([0.8, 0.7, 0.6], rows=100)
    labels = np.where(np.arange(100) < 8, truth, 0)
    found = ConfusionLabelModel().fit(votes, labels).intervals(votes, labels, resamples=50)
    assert np.isfinite(found).all()
