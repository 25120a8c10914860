"""Two rewards as one: the cap, the safe mix and its multiplier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.credit import CreditError, Multiplier, capped_mix, label_cap, redistribute, safe_mix
from assay.credit.mixing import QUANTILES

GOLDEN = [((2, 0.5), 2.5), ((5, 0.5), 4.4), ((3.9, -1), 2.9), ((7, -1), 2.9), ((4.5, 0.5), 4.4)]


def test_golden_caps_in_every_kind() -> None:
    label, rationale = (np.array([pair[side] for pair, _ in GOLDEN], np.float64) for side in (0, 1))
    expected = [value for _, value in GOLDEN]
    for (one, other), value in GOLDEN:
        found = capped_mix(one, other, 3.9)
        assert isinstance(found, float) and found == pytest.approx(value, abs=1e-12)
    found = capped_mix(label, rationale, 3.9)
    assert isinstance(found, np.ndarray) and found.tolist() == pytest.approx(expected, abs=1e-12)
    tensors = capped_mix(torch.tensor(label), torch.tensor(rationale), 3.9)
    assert isinstance(tensors, torch.Tensor) and tensors.tolist() == pytest.approx(expected, abs=1e-12)


def test_above_the_cap_only_the_rationale_counts() -> None:
    assert capped_mix(4.0, 0.3, 3.9) == capped_mix(400.0, 0.3, 3.9)
    assert capped_mix(4.0, 0.3, 3.9) < capped_mix(3.95, 0.31, 3.9)


_REWARDS = st.floats(-20, 20, allow_nan=False)


@given(_REWARDS, _REWARDS, _REWARDS, _REWARDS, _REWARDS)
def test_the_mix_ranks_by_the_capped_gap(label: float, other: float, why: float, other_why: float, cap: float) -> None:
    """Never falls with the label's reward, rises with the rationale's; who is ahead is told by the capped gap alone."""
    mixed, beside = capped_mix(label, why, cap), capped_mix(other, other_why, cap)
    assert capped_mix(max(label, other), why, cap) >= capped_mix(min(label, other), why, cap)
    assert capped_mix(label, why + 1.0, cap) > mixed
    gap, deficit = min(label, cap) - min(other, cap), other_why - why
    if abs(gap - deficit) > 1e-9:
        assert (mixed > beside) == (gap > deficit)
    # a constant of rationales changes no ranking
    assert capped_mix(label, why + 5, cap) - capped_mix(other, other_why + 5, cap) == pytest.approx(mixed - beside)


def test_the_cap_is_a_quantile() -> None:
    stored = np.quantile([1.0, 5.0, 3.0], QUANTILES).tolist()
    assert label_cap(stored) == 3.0 and label_cap(stored, 0.975) == pytest.approx(4.9)
    assert label_cap([1.0, 5.0, 3.0]) == 3.0 and label_cap([0.0, 10.0], 0.9) == pytest.approx(9.0)
    for rewards, quantile in (([], 0.5), ([np.nan], 0.5), ([1.0], 1.5)):
        with pytest.raises(CreditError, match="a cap is a quantile"):
            label_cap(rewards, quantile)
    with pytest.raises(CreditError, match="no number"):
        capped_mix(1.0, 1.0, float("nan"))
    with pytest.raises(CreditError, match="inf for none"):
        capped_mix(1.0, 1.0, float("-inf"))
    # without a cap it is the plain sum
    assert capped_mix(400.0, 0.3, float("inf")) == 400.3


def test_without_a_multiplier_the_cost_does_not_count() -> None:
    reward, cost = redistribute([0.4, 0.1, 0.9]), redistribute([0.0, 1.0, 0.5])
    assert safe_mix(reward, cost, 0.0).tolist() == reward.tolist()
    assert (safe_mix(reward, cost + 0.1, 2.0) < safe_mix(reward, cost, 2.0)).all()
    assert safe_mix(reward, cost, 1.0).sum() == pytest.approx((reward.sum() - cost.sum()) / 2)
    with pytest.raises(CreditError, match="never negative"):
        safe_mix(reward, cost, -0.1)


def test_the_multiplier_falls_to_0_within_the_budget_and_rises_beyond() -> None:
    multiplier = Multiplier(budget=1.0, rate=0.5)
    assert multiplier.update([3.0, 1.0]) == pytest.approx(0.5)
    values = [multiplier.update([0.5]) for _ in range(5)]
    assert values == pytest.approx([0.25, 0, 0, 0, 0])
