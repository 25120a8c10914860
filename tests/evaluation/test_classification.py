"""How well labels are told, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from assay.evaluation.classification import UNREAD, classify

LABELS = ("a", "b", "c")


def test_figures_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    right = [LABELS[k] for k in random.integers(3, size=200)]
    told = [LABELS[k] for k in random.integers(3, size=200)]
    found = classify(right, told, range(200), LABELS)
    assert found.accuracy.value == pytest.approx(accuracy_score(right, told))
    assert found.macro_f1 == pytest.approx(f1_score(right, told, average="macro"))
    assert found.unread == 0 and found.error is None
    assert sum(found.confusion["a"].values()) == found.by_class["a"]["count"] == right.count("a")


def test_what_cannot_be_read_is_wrong() -> None:
    found = classify(["a", "a", "b"], ["a", None, None], [0, 1, 2], LABELS)
    assert found.accuracy.value == pytest.approx(1 / 3) and found.unread == pytest.approx(2 / 3)
    assert found.confusion == {"a": {"a": 1, UNREAD: 1}, "b": {UNREAD: 1}}
    # c is no right label here, so it is no part of the mean
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_may_be_called_as_what_cannot_be_read_is() -> None:
    found = classify(["none", "some", "some"], ["none", None, "none"], [0, 1, 2], ("none", "some"), resamples=50)
    assert found.confusion == {"none": {"none": 1}, "some": {"none": 1, "(none)": 1}}


def test_distances_of_ordinal_labels() -> None:
    stars = ("1", "2", "3", "4", "5")
    found = classify(["1", "2", "5"], ["2", None, "5"], [0, 1, 2], stars, ordinal=True)
    assert found.error is not None and found.error.value == pytest.approx((1 + 3 + 0) / 3)
    assert found.to_dict()["error"]["value"] == found.error.value


def test_choices_have_no_classes() -> None:
    found = classify(["x", "y"], ["x", "z"], ["g", "g"])
    assert found.accuracy.value == 0.5 and found.by_class == {} and found.to_dict()["macro_f1"] is None


def test_numbers_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one at least"):
        classify(["a"], [], [0], LABELS)
