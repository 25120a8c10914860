"""What is said of the curves of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay.credit.answers import Rewards
from assay.training.monitors import parts_of, warnings_of


def curve(cycles: int = 20, **of: Any) -> list[dict[str, Any]]:
    """Return a history; values are numbers, or functions of the cycle."""
    usual: dict[str, Any] = {"length": 5.0, "reward": lambda k: 0.1 * k, "entropy": 2.0}
    usual |= {"lowest reward": 0.0, "highest reward": 1.0}
    return [{name: v(k) if callable(v) else v for name, v in (usual | of).items()} for k in range(cycles)]


def test_nothing_is_said_of_a_quiet_run() -> None:
    assert warnings_of(curve()) == []


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"length": lambda k: 5.0 + k}, "responses grew from"),
        ({"gold": lambda k: -0.1 * k}, "while gold fell"),
        ({"empty": lambda k: 0.05 * k, "length": lambda k: 20 - k}, "88 % of the responses are empty, 8 % at first"),
        ({"entropy": lambda k: 2.0 if k < 10 else 0.1}, "entropy fell from 2.00 to 0.10"),
        ({"learned from": lambda k: float(k < 10)}, "nothing was learned from any more"),
        ({"lowest reward": 0.1, "highest reward": 0.1 + 1e-17}, "all responses had the same reward, 0.1"),
    ],
)
def test_what_is_worth_a_look_is_said(of: dict[str, Any], said: str) -> None:
    (found,) = warnings_of(curve(**of))
    assert said in found


def test_cycles_without_a_figure_do_not_silence_the_others() -> None:
    history = curve(entropy=lambda k: 2.0 if k < 10 else 0.1, gold=None)
    del history[17]["entropy"]
    history[18]["entropy"] = None
    assert len(warnings_of(history)) == 1
    # of a run that has none at one of its ends nothing can be said
    assert warnings_of(curve(entropy=lambda k: 2.0 if k < 10 else None)) == []


def test_little_is_said_of_few_cycles() -> None:
    assert warnings_of(curve(5, length=lambda k: 5.0**k)) == []
    assert len(warnings_of(curve(2, **{"highest reward": 0.0}))) == 1


def test_bounds_are_of_what_responses_got() -> None:
    tokens, lengths = np.array([0.1, 0.0, 0.1, np.nan, 0.2]), [2, 1, 1, 1]
    places = np.concatenate([[0], np.cumsum(lengths)])
    answers: Any = SimpleNamespace(
        sums=lambda values: np.add.reduceat(values, places[:-1]), lengths=np.array(lengths), ended=np.ones(4, bool)
    )
    answers.texts = ["a"] * 4
    told = parts_of(answers, Rewards(tokens), np.zeros(4, bool), {}, {})
    assert (told["lowest reward"], told["highest reward"]) == (0.1, 0.2)
