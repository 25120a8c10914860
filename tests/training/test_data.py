from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader

from assay.errors import ConfigError
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.layout import Layout
from assay.training.data import FeatureSource, PlannedSteps, TextSource
from assay.training.plan import plan_batches
from assay.training.records import TrainingRecords
from tests.training.support import encoded, new_model, planted


@pytest.fixture
def many() -> Dataset:
    return planted(21)


def test_texts_read_from_the_table_equal_the_rows(llama: str, many: Dataset) -> None:
    records = encode_records(many, new_model(llama).encoder)
    rows = records.rows["ids"]
    texts = [ids for row in rows for ids in row]
    pieces = concatenate_datasets([records.rows.select(range(start, min(start + 4, 21))) for start in range(0, 21, 4)])
    assert len(pieces.with_format("arrow")[:]["ids"].chunks) > 1
    for each in (records, replace(records, rows=pieces)):
        assert [[ids.tolist() for ids in each.ids(record)] for record in range(21)] == list(rows)
        assert [each.text(index).tolist() for index in range(len(texts))] == texts
        assert each.text(0).dtype == np.int32
    assert records.lengths.tolist() == [len(ids) for ids in texts]


def test_texts_of_rearranged_rows(llama: str, many: Dataset) -> None:
    order = [20, 3, 3, 0, 11]
    model = new_model(llama)
    records = encode_records(many.select(order), model.encoder)
    whole = encode_records(many, model.encoder)
    for place, record in enumerate(order):
        assert [x.tolist() for x in records.ids(place)] == [x.tolist() for x in whole.ids(record)]


def test_scores_are_in_the_order_of_texts_however_many_at_once(llama: str, many: Dataset) -> None:
    model = new_model(llama)
    torch.nn.init.normal_(model.get_parameter("head.weight"))
    records = encode_records(many, model.encoder)
    at_once = score_records(model, records)
    np.testing.assert_allclose(score_records(model, records, texts_at_once=5), at_once, atol=1e-6)
    np.testing.assert_allclose(model.score_encoded([records.text(7).tolist()]), at_once[7:8], atol=1e-6)
    assert len(set(at_once.round(5))) > 20
    assert len(score_records(model, encode_records(many.select([]), model.encoder))) == 0


def test_a_micro_batch_holds_each_text_once_and_every_judgement(llama: str) -> None:
    model, data = new_model(llama), planted(9)
    records = encoded(model, data)
    chosen = np.array([6, 1, 3])
    weight = np.arange(len(records.pairs), dtype=float)
    batch = TextSource(TrainingRecords(records, pad_id=0, weight=weight)).batch(chosen)
    texts = [ids for record in chosen for ids in records.ids(record)]
    found_texts = [
        row[: int(mask.sum())].tolist()
        for rows in batch["rows"]
        for row, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True)
    ]
    assert [found_texts[place] for place in batch["order"]] == [text.tolist() for text in texts]
    assert sorted(batch["order"].tolist()) == list(range(len(texts)))
    found = []
    for (a, b), p, w in zip(batch["edges"].tolist(), batch["target"].tolist(), batch["weight"].tolist(), strict=True):
        found.append((texts[a].tolist(), texts[b].tolist(), p, w))
    view = records.pairs
    expected = [
        (records.ids(r)[view.a[e]].tolist(), records.ids(r)[view.b[e]].tolist(), view.p[e], float(e))
        for r in chosen
        for e in np.flatnonzero(view.row == r)
    ]
    assert found == expected
    assert len(expected) == 5


def test_features_stand_in_for_token_ids(llama: str) -> None:
    records = encoded(new_model(llama), planted(6))
    features = np.arange(len(records.lengths), dtype=np.float32)[:, None]
    data = TrainingRecords(records, features=features)
    batch = FeatureSource(data).batch(np.array([3, 0]))
    assert "rows" not in batch
    assert batch["features"][:, 0].tolist() == [7, 8, 9, 0, 1, 2]
    assert FeatureSource(data).sizes().longest.tolist() == [1] * 6


def test_sizes_measure_texts_tokens_judgements_and_weights(llama: str) -> None:
    records = encoded(new_model(llama), planted(4))
    sizes = TextSource(TrainingRecords(records, weight=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))).sizes()
    assert np.diff(sizes.starts).tolist() == [3, 2, 2, 3]
    assert sizes.items.tolist() == [2, 1, 1, 2]
    assert sizes.weight.tolist() == [3.0, 3.0, 4.0, 11.0]
    for record in range(4):
        lengths = [len(ids) for ids in records.ids(record)]
        assert sizes.longest[record] == max(lengths)
        assert sizes.tokens[record] == sum(lengths)
        assert sizes.cost[record] == pytest.approx(sum(n * (1 + n / 4096) for n in lengths))


def test_reading_ahead_in_another_process_gives_the_same_steps(llama: str, tmp_path: Path) -> None:
    source = TextSource(TrainingRecords(encoded(new_model(llama), planted(12))))
    plan = plan_batches(source.sizes(), epochs=1, pairs_per_step=8, token_budget=80, seed=0)
    steps = PlannedSteps(plan, source)
    ahead = list(DataLoader(steps, batch_size=None, num_workers=1))
    for step, item in enumerate(ahead):
        for batch, other in zip(item["batches"], steps[step]["batches"], strict=True):
            assert all(torch.equal(batch[name], other[name]) for name in other if name != "rows")
            for rows, others in zip(batch["rows"], other["rows"], strict=True):
                assert all(torch.equal(rows[name], others[name]) for name in others)


def test_a_budget_below_the_longest_text_is_refused(llama: str) -> None:
    records = encoded(new_model(llama), planted(4))
    longest = int(records.lengths.max())
    with pytest.raises(ConfigError, match=f"at least {longest}") as caught:
        TextSource(TrainingRecords(records), token_budget=longest - 1)
    assert "max_length_tokens" in str(caught.value)
    TextSource(TrainingRecords(records), token_budget=longest)
    # what nobody judged is never computed
    judged = records.pairs.take(
        np.flatnonzero(records.pairs.row != np.searchsorted(records.offsets, records.lengths.argmax(), "right") - 1)
    )
    TextSource(TrainingRecords(replace(records, pairs=judged)), token_budget=longest - 1)


def test_records_over_the_budget_are_counted_and_kept(llama: str) -> None:
    source = TextSource(TrainingRecords(encoded(new_model(llama), planted(6))), token_budget=40)
    with pytest.warns(UserWarning, match="of 6 records have more tokens than the budget of 40"):
        sizes = source.sizes()
    plan = plan_batches(sizes, epochs=1, pairs_per_step=100, token_budget=40, seed=0)
    assert sorted(np.concatenate(plan.steps[0][0])) == list(range(6))


def test_a_tree_longer_than_the_budget_is_cut_into_rows(llama: str) -> None:
    records = encoded(new_model(llama), planted(6))
    longest = int(records.lengths.max())
    source = TextSource(TrainingRecords(records), Layout(shares=True), token_budget=longest + 2)
    whole = TextSource(TrainingRecords(records), Layout(shares=True))
    found = [[tree.length for tree in source.trees(record)] for record in range(6)]
    assert max(length for row in found for length in row) <= longest + 2
    assert sum(map(len, found)) > sum(len(whole.trees(record)) for record in range(6))
