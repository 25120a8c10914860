"""Nothing here draws from, or seeds, the random state that belongs to the caller."""

from __future__ import annotations

import numpy as np

from assay.evaluation import BagOfWords, LengthBaseline, evaluate
from assay.feedback import check, folds, pairs, read, split


def test_reading_splitting_and_judging_leave_numpys_global_state_alone() -> None:
    rows = [{"prompt": f"Q{i}", "chosen": f"good {i} fine", "rejected": f"bad {i}"} for i in range(40)]
    before = np.random.get_state(legacy=False)
    check(rows)
    train, test = split(read(rows), test=0.3, seed=1)
    folds(train, 3, seed=1)
    length, words = LengthBaseline().fit(pairs(train)), BagOfWords().fit(pairs(train))
    first, second = (
        evaluate(pairs(test), words.delta(pairs(test)), baselines={"length": length.delta(pairs(test))}, resamples=100)
        for _ in range(2)
    )
    assert str(first.to_dict()) == str(second.to_dict())
    after = np.random.get_state(legacy=False)
    assert str(after) == str(before)
    assert np.array_equal(after["state"]["key"], before["state"]["key"])
