"""Shares, keys of groups, and hidden prompts."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from assay.errors import DataError, ModelError
from assay.feedback import comparison, edge, from_rows, identity, message, pairs
from assay.workflows.data import (
    content_key,
    group_keys,
    seen_groups,
    share_out,
    unseen,
    without_prompts,
    write_seen_groups,
)


def records(count: int, per_group: int = 1, edges: int = 1) -> Dataset:
    return from_rows(
        comparison(f"Q{i}", ["a", "bb"], [edge(0, 1)] * edges, split_group=f"g{i // per_group}") for i in range(count)
    )


def groups(data: Dataset | None) -> set[str]:
    return set() if data is None else set(data["split_group"])


def test_no_group_is_in_two_shares() -> None:
    shares = share_out(records(400, per_group=2), test=None, test_share=0.2, validation_share=0.1, seed=0)
    fit, validation, test = groups(shares.fit), groups(shares.validation), groups(shares.test)
    assert not fit & validation and not fit & test and not validation & test
    assert [len(x) for x in (fit, validation, test)] == [144, 16, 40]  # 200 groups: a fifth, then a tenth of the rest
    assert groups(shares.training) == fit | validation


def test_validation_is_left_out_where_it_would_tell_nothing() -> None:
    few = share_out(records(100), test=None, test_share=0.2, validation_share=0.1, seed=0)
    assert few.validation is None  # 8 judgements
    one_group = share_out(records(400, per_group=400), test=None, test_share=0, validation_share=0.1, seed=0)
    assert one_group.validation is None and one_group.test is None and len(one_group.fit) == 400
    with pytest.raises(DataError, match="too few split groups"):
        share_out(records(400, per_group=400), test=None, test_share=0.2, validation_share=0, seed=0)


def test_given_test_data_is_taken_out_of_training() -> None:
    data = records(60)
    test = data.select(range(40, 60))
    shares = share_out(data, test=test, test_share=0.2, validation_share=0, seed=0)
    assert len(shares.fit) == 40 and shares.removed is not None and shares.removed.train_judgements == 20
    assert shares.test is test


def test_weak_labels_do_not_test(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        comparison(f"Q{i}", ["a", "bb"], [edge(0, 1, source="weak" if i % 4 else "judge")], split_group=f"g{i // 2}")
        for i in range(400)
    ]
    shares = share_out(from_rows(rows), test=None, test_share=0.2, validation_share=0, seed=0)
    assert shares.test is not None and set(pairs(shares.test).source) == {"judge"} and len(shares.test) == 20
    assert not groups(shares.test) & groups(shares.fit) and len(shares.fit) == 400 - 40
    assert "20 weak labels of prompts that test take no part" in capsys.readouterr().err
    shares = share_out(from_rows(rows), test=None, test_share=0, validation_share=0.3, seed=0)
    assert shares.validation is not None and set(pairs(shares.validation).source) == {"judge"}
    shares = share_out(from_rows(rows), test=None, test_share=0, validation_share=0.1, seed=0)
    assert len(shares.validation or ()) == 40  # 10 judgements of people would tell nothing
    weak = from_rows(row for row in rows if row["edges"][0]["source"] == "weak")
    assert len(share_out(weak, test=None, test_share=0.2, validation_share=0, seed=0).test or ()) > 50
    assert "not how good the model is" in capsys.readouterr().err


def test_two_groups_give_one_each() -> None:
    shares = share_out(records(2), test=None, test_share=0.01, validation_share=0.1, seed=0)
    assert len(shares.fit) == len(shares.test or []) == 1


def test_unseen_looks_at_group_and_prompt() -> None:
    data = records(10, per_group=2)
    by_group, dropped = unseen(data, group_keys(data.select([0])))
    assert dropped == 2 and "g0" not in groups(by_group)
    alone = from_rows([comparison("Q9", ["x", "y"], [edge(0, 1)], split_group="another name")])
    by_prompt, dropped = unseen(data, group_keys(alone))
    assert dropped == 1 and identity([message("user", "Q9")]) not in by_prompt["prompt_id"]
    same, dropped = unseen(
        data, group_keys(records(3).select([0]).map(lambda _: {"split_group": "z", "prompt_id": "z"}))
    )
    assert dropped == 0 and same is data


def test_unseen_is_quick_on_many_records() -> None:
    data = Dataset.from_dict(
        {"split_group": [f"g{i}" for i in range(100_000)], "prompt_id": [f"p{i}" for i in range(100_000)]}
    )
    started = time.perf_counter()
    left, dropped = unseen(data, group_keys(data.select(range(50_000))))
    assert (len(left), dropped) == (50_000, 50_000)
    assert time.perf_counter() - started < 10


def test_seen_groups_are_stored_with_the_model(tmp_path: Path) -> None:
    keys = group_keys(records(5))
    write_seen_groups(tmp_path, keys)
    np.testing.assert_array_equal(seen_groups(str(tmp_path)), keys)
    assert seen_groups(str(tmp_path / "elsewhere")) is None
    # a model that begins as another one has seen what that saw
    (tmp_path / "next").mkdir()
    write_seen_groups(tmp_path / "next", np.array([3, 1 << 60], np.uint64), str(tmp_path))
    np.testing.assert_array_equal(seen_groups(str(tmp_path / "next")), np.union1d(keys, np.array([3, 1 << 60])))
    write_seen_groups(tmp_path / "next", keys, "some/hub-model")
    np.testing.assert_array_equal(seen_groups(str(tmp_path / "next")), keys)
    (tmp_path / "seen_groups.npy").write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        seen_groups(str(tmp_path))


def test_content_key_tells_content_and_shares_apart() -> None:
    data = records(6)
    key = content_key((data, None, data.select([0])))
    assert key == content_key((from_rows(list(data)), None, from_rows(list(data.select([0])))))
    rows = list(data)
    rows[3] = comparison("Q3", ["a", "bc"], [edge(0, 1)], split_group="g3")
    others = [
        (from_rows(rows), None, data.select([0])),
        (data.select([1, 0, 2, 3, 4, 5]), None, data.select([0])),
        (data, data.select([0]), None),
        (records(6, edges=2), None, data.select([0])),
    ]
    assert key not in {content_key(parts) for parts in others}


def test_hidden_prompts_change_nothing_else() -> None:
    data = records(4)
    hidden = without_prompts(data)
    assert all(record["prompt"] == [message("user", "")] for record in hidden)
    assert hidden.features == data.features
    rest = [name for name in data.column_names if name != "prompt"]
    assert list(hidden.select_columns(rest)) == list(data.select_columns(rest))
    np.testing.assert_array_equal(pairs(hidden).a, pairs(data).a)
