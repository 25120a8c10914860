"""What of a fit is kept with the model: scores of what judgements prefer, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay.scorers import ModelOptions, create_reward_model
from assay.workflows.fits import Fit, sides_of, store


@pytest.mark.parametrize("members", [1, 2])
def test_preferred_responses_count_once_and_ties_never(members: int) -> None:
    view = SimpleNamespace(
        row=np.array([0, 0, 1, 1, 1]),
        a=np.array([0, 1, 0, 0, 1]),
        b=np.array([1, 0, 1, 2, 2]),
        p=np.array([1.0, 0.2, 0.5, 0.9, 0.1]),
    )
    # record 0 has texts 0 and 1, record 1 texts 2, 3 and 4; preferred: 0, 0 again, nobody, 2, 4
    records: Any = SimpleNamespace(pairs=view, offsets=np.array([0, 2, 5]))
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    given = np.stack([values - 1, values + 1], axis=1) if members == 2 else values
    won, lost = sides_of(records, given)
    np.testing.assert_array_equal(won, [1.0, 3.0, 5.0])
    np.testing.assert_array_equal(lost, [2.0, 4.0])


def test_quantiles_are_stored_with_the_model() -> None:
    result = Fit(create_reward_model(ModelOptions()))
    store(result, np.arange(5.0), None, (np.array([1.0, 3.0, 5.0]), np.array([2.0])))
    kept = result.model.record.score
    assert kept is not None and kept["mean"] == 2 and kept["preferred"][10] == 3 and len(kept["preferred"]) == 21
    assert kept["rejected"] == [2.0] * 21
    store(result, np.arange(5.0), None)
    assert "preferred" not in (result.model.record.score or {})
