"""The two status rules of SER."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from assay.feedback.self_labels import kept_by_rule


def test_centring_decides() -> None:
    raw, centred = (np.array([2.0]), np.array([1.0])), (np.array([0.5]), np.array([-0.5]))
    assert expit(0.5) == pytest.approx(0.62, abs=5e-3) and expit(-0.5) == pytest.approx(0.38, abs=5e-3)
    assert not kept_by_rule(*raw, "one").any() and kept_by_rule(*centred, "one").all()
    assert not kept_by_rule(*raw, "two").any()
    assert kept_by_rule(np.array([0.7]), np.array([-0.7]), "two").all()


@given(st.integers(0, 1000), st.sampled_from(["one", "two"]))
def test_laws(seed: int, rule: Any) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 50)) * 2
    kept = kept_by_rule(a, b, rule)
    assert np.array_equal(kept, kept_by_rule(b, a, rule)), "the order of a pair does not matter"
    assert (a[kept] != b[kept]).all(), "what is kept has a better side"
    stricter = kept_by_rule(a, b, rule, high=0.7, low=0.3, gap=0.5)
    assert (kept | ~stricter).all(), "kept sets are nested in the thresholds"
    assert not kept_by_rule(np.zeros(5), np.zeros(5), rule).any(), "a model that says 0.5 keeps nothing"


def test_unknown_rules() -> None:
    with pytest.raises(ValueError, match="one or two"):
        kept_by_rule(np.ones(1), np.ones(1), "three")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="low <= high"):
        kept_by_rule(np.ones(1), np.ones(1), "one", high=0.5, low=0.6)
