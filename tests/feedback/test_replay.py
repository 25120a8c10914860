"""The buffer that SAPO draws from."""

from __future__ import annotations

import numpy as np
import pytest

from assay.errors import ConfigError
from assay.feedback.replay import ReplayBuffer


def test_what_was_drawn_less_is_drawn_more() -> None:
    buffer: ReplayBuffer[int] = ReplayBuffer(3)
    for item in range(3):
        buffer.put(str(item), item)
    for key, draws in zip("012", (0, 1, 3), strict=True):
        buffer._kept[key].draws = draws
    np.testing.assert_allclose(buffer.shares(), (0.571429, 0.285714, 0.142857), atol=1e-6)
    random, counts = np.random.default_rng(0), np.zeros(3)
    for _ in range(900):
        for item in buffer.draw(1, random):
            counts[item] += 1
    assert np.ptp(counts) < 40  # shares become equal


def test_the_oldest_leaves_a_full_buffer() -> None:
    buffer: ReplayBuffer[str] = ReplayBuffer(2)
    for key in "abc":
        buffer.put(key, key.upper())
    assert len(buffer) == 2 and sorted(buffer.draw(5, np.random.default_rng(0))) == ["B", "C"]
    buffer.put("b", "anew")  # it is new again, and the youngest
    np.testing.assert_allclose(buffer.shares(), (1 / 3, 2 / 3))
    assert ReplayBuffer(1).draw(3, np.random.default_rng(0)) == []
    with pytest.raises(ConfigError, match="needs room"):
        ReplayBuffer(0)
