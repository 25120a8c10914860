"""Small reward models that score unlike zero, made once; tests that change one make their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.scorers import ModelOptions, RewardModel, create_reward_model

#: Prompts and replies of many lengths, the last pair with nothing in it.
PROMPTS = ["Name a sea.", "What is a bird?", "Tell me about one river, please.", "Name a sea.", "", ""]
REPLIES = ["The Baltic.", "It flies, certainly, and that is the reason given.", "No.", "", "A reply alone.", ""]


def same(found: Any, expected: Any) -> None:
    """Demand equal scores: within 1e-5 in float32, of the score where that is beyond 1."""
    np.testing.assert_array_less(np.abs(np.subtract(found, expected)), 1e-5 * np.maximum(1.0, np.abs(expected)))


@pytest.fixture(scope="session")
def causal(tiny_causal: Path, learned: Callable[..., Any]) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_causal))))


@pytest.fixture(scope="session")
def chat(tiny_chat: Path, learned: Callable[..., Any]) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_chat))))


@pytest.fixture(scope="session")
def encoder(tiny_encoder: Path, learned: Callable[..., Any]) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_encoder))))


@pytest.fixture
def make(learned: Callable[..., Any]) -> Callable[..., RewardModel]:
    """Return a function that makes a model with options and gives it weights unlike zero."""

    def build(backbone: Path, **options: Any) -> RewardModel:
        return learned(create_reward_model(ModelOptions(backbone=str(backbone), **options)))

    return build
