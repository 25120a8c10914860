"""Scores with mean 0 and deviation 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.scorers import RewardModel, Standardised
from tests.scorers.conftest import PROMPTS, REPLIES


def test_mean_0_deviation_1_and_the_same_order(causal: RewardModel) -> None:
    found = Standardised.on(causal, PROMPTS, REPLIES)
    raw, scores = causal.score(PROMPTS, REPLIES), found.score(PROMPTS, REPLIES)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-5) and float(scores.std()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(raw))
    states = torch.from_numpy(causal.features([e.ids for e in causal.encoder.encode(PROMPTS, REPLIES)]))
    values, edges = found.values(states).detach(), torch.tensor([[0, 1], [2, 0]])
    np.testing.assert_allclose(values.numpy(), scores, atol=1e-5)
    margins = found.edge_margins(states, edges).detach()
    torch.testing.assert_close(margins, values[edges[:, 0]] - values[edges[:, 1]])
    torch.testing.assert_close(found.nodes({"features": states}), states)


def test_what_was_stored_is_taken(causal: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal.record, "score", {"mean": 2.0, "std": 4.0})
    expected = (causal.score(PROMPTS, REPLIES) - 2.0) / 4.0
    np.testing.assert_allclose(Standardised(causal).score(PROMPTS, REPLIES), expected, atol=1e-6)
    for stored in (None, {"mean": 0.0, "std": 0.0}):
        monkeypatch.setattr(causal.record, "score", stored)
        with pytest.raises(ModelError, match="cannot be standardised"):
            Standardised(causal)
