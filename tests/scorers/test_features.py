"""Cached features are the features, computed once per text, and never for another backbone, length or dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.feedback import read
from assay.feedback.records import comparison, edge, from_rows
from assay.scorers import RewardModel
from assay.scorers.encoding import encode_records
from assay.scorers.features import FeatureCache
from tests.scorers.conftest import PROMPTS, REPLIES, same

Make = Callable[..., RewardModel]


def ids_of(model: RewardModel, count: int = len(PROMPTS)) -> list[list[int]]:
    return [e.ids for e in model.encoder.encode(PROMPTS[:count], REPLIES[:count])]


def test_features_give_the_direct_scores(encoder: RewardModel, tmp_path: Path) -> None:
    cache = FeatureCache(encoder, tmp_path)
    for _ in range(2):  # computed, then read back
        features = cache.features(ids_of(encoder))
        assert features.dtype == np.float32
        with torch.no_grad():
            values = encoder(features=torch.from_numpy(features))["values"].numpy()
        same(values, encoder.score(PROMPTS, REPLIES))
    assert (cache.computed, cache.reused) == (0, len(PROMPTS))


def test_texts_are_shared_between_data_sets(encoder: RewardModel, pairs_file: Path, tmp_path: Path) -> None:
    data = read(str(pairs_file))
    records = encode_records(data, encoder.encoder)
    cache = FeatureCache(encoder, tmp_path)
    first = cache.features_of(records)
    distinct = len({tuple(records.text(i)) for i in range(len(records.lengths))})
    assert first.shape == (len(records.lengths), encoder.config.width)
    assert cache.computed == distinct and cache.reused == len(first) - distinct
    some = encode_records(data.select([3, 1]), encoder.encoder)
    again = FeatureCache(encoder, tmp_path)
    features = again.features_of(some)
    assert again.computed == 0
    for row, record in enumerate((3, 1)):
        rows = slice(records.offsets[record], records.offsets[record + 1])
        assert np.array_equal(features[some.offsets[row] : some.offsets[row + 1]], first[rows])


def test_the_same_text_twice_is_computed_once(encoder: RewardModel, tmp_path: Path) -> None:
    ids = ids_of(encoder)
    cache = FeatureCache(encoder, tmp_path)
    features = cache.features([ids[0], ids[1], ids[0]])
    assert (cache.computed, cache.reused) == (2, 1)
    assert np.array_equal(features[0], features[2])


def test_another_length_rule_dtype_or_weight_is_another_feature(
    tiny_encoder: Path, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ["a fine clear answer with the reason given " * 4]

    def computed(model: RewardModel, dtype: torch.dtype | None = None) -> int:
        cache = FeatureCache(model, tmp_path, dtype)
        cache.features([e.ids for e in model.encoder.encode(long, ["No."])])
        return cache.computed

    model = make(tiny_encoder)
    assert [computed(model), computed(model)] == [1, 0]
    assert computed(make(tiny_encoder, max_length_tokens=20)) == 1
    assert computed(make(tiny_encoder, max_length_tokens=20, truncation="right")) == 1
    assert computed(make(tiny_encoder, max_length_tokens=20)) == 0
    assert computed(make(tiny_encoder, pooling="cls")) == 1
    assert [computed(model, torch.bfloat16), computed(model, torch.bfloat16)] == [1, 0]
    with monkeypatch.context() as patch:
        patch.setattr("assay.scorers.pooling.COUNT_UNIT", 32.0)
        assert computed(model) == 1
    with monkeypatch.context() as patch:
        patch.setattr(model.backbone.config, "hidden_act", "relu")  # in no weight
        assert computed(model) == 1
    with torch.no_grad():
        next(model.backbone.parameters())[20, 0] += 1e-3
    assert computed(model) == 1


def test_an_interrupted_write_leaves_no_half_file(
    encoder: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(encoder, tmp_path)
    save = np.savez

    def torn(file: object, **arrays: np.ndarray) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", torn)
    with pytest.raises(KeyboardInterrupt):
        cache.features(ids_of(encoder))
    assert list(cache.store.folder.iterdir()) == []
    monkeypatch.setattr(np, "savez", save)
    assert cache.features(ids_of(encoder)).shape == (len(PROMPTS), encoder.config.width)
    assert cache.computed == len(PROMPTS)


def test_finished_pieces_survive_an_interruption(
    encoder: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.scorers import vector_store as module

    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", 2)
    cache = FeatureCache(encoder, tmp_path)
    write = cache.store._write
    calls: list[int] = []

    def once(keys: list[bytes], made: np.ndarray) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(len(keys))
        write(keys, made)

    monkeypatch.setattr(cache.store, "_write", once)
    with pytest.raises(KeyboardInterrupt):
        cache.features(ids_of(encoder))
    again = FeatureCache(encoder, tmp_path)
    again.features(ids_of(encoder))
    assert (again.computed, again.reused) == (len(PROMPTS) - 2, 2)


def test_a_damaged_store_is_named(encoder: RewardModel, tmp_path: Path) -> None:
    cache = FeatureCache(encoder, tmp_path)
    cache.features(ids_of(encoder))
    (path,) = cache.store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"damaged(.|\n)*delete it") as caught:
        cache.features(ids_of(encoder))
    assert str(path) in str(caught.value)


def test_nothing_asked_nothing_computed(encoder: RewardModel, tmp_path: Path) -> None:
    assert FeatureCache(encoder, tmp_path).features([]).shape == (0, encoder.config.width)
    empty = encode_records(from_rows([comparison("Q", ["A", "B"], [edge(0, 1)])]).select([]), encoder.encoder)
    assert FeatureCache(encoder, tmp_path).features_of(empty).shape == (0, encoder.config.width)
