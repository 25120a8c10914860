"""Heads on a frozen backbone: margins that calibrate come from a head that never saw the group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from assay.errors import DataError
from assay.evaluation import Calibration
from assay.feedback import comparison, edge, from_rows, pairs
from assay.scorers import RewardModel
from assay.scorers.encoding import score_records
from assay.training import PreferenceTrainer
from assay.training.records import TrainingRecords
from assay.workflows import fitting, hardware, heads, teaching
from assay.workflows.data import Shares
from assay.workflows.judging import margins_on
from assay.workflows.options import arguments as arguments_of
from assay.workflows.options import head_rate, resolved
from assay.workflows.settings import TrainSettings
from tests.training.support import assert_equal, encoded, new_model, planted, weights


@dataclass
class Fitted:
    model: RewardModel
    out_of_fold: np.ndarray
    losses: list[tuple[float, float]]


def flipped(data: Dataset, group: str) -> Dataset:
    def flip(row: dict[str, Any]) -> dict[str, Any]:
        if row["split_group"] == group:
            row["edges"] = [edge | {"p": 1.0 - edge["p"]} for edge in row["edges"]]
        return row

    return data.map(flip, features=data.features)


def settings_for(backbone: str, **changes: Any) -> TrainSettings:
    settings = TrainSettings(data="-", out="-", backbone=backbone, freeze_backbone=True, epochs=5, **changes)
    return resolved(settings, 1)


def fit(data: Dataset, folder: Path, backbone: str, **changes: Any) -> Fitted:
    margins: list[np.ndarray] = []
    original = teaching.fit_calibration

    def fit_calibration(found: np.ndarray, *rest: Any) -> Calibration:
        margins.append(found)
        return original(found, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teaching, "fit_calibration", fit_calibration)
        result = fitting.fit(settings_for(backbone, **changes), Shares(data, None, None), folder)
    (found,) = margins
    return Fitted(result.model, found, result.train_loss)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_out_of_fold_margins_of_a_group_do_not_know_its_labels(bert: str, out: Path, head: str) -> None:
    data = planted(40)
    poisoned = data["split_group"][7]
    plain = fit(data, out, bert, head=head)
    other = fit(flipped(data, poisoned), out, bert, head=head)
    inside = encoded(plain.model, data).pairs.group == poisoned
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_array_equal(other.out_of_fold[inside], plain.out_of_fold[inside])
    # what the labels do change: the margins of other groups, and the head that is kept
    assert (other.out_of_fold[~inside] != plain.out_of_fold[~inside]).mean() > 0.5
    kept, before = (score_records(each.model, encoded(each.model, data)) for each in (other, plain))
    assert not np.allclose(kept, before, atol=1e-6)


def test_the_kept_head_is_the_one_trained_on_everything_alone(bert: str, out: Path) -> None:
    data, settings = planted(40), settings_for(bert)
    found = fit(data, out, bert)
    model = RewardModel(found.model.config, found.model.backbone, found.model.encoder)
    assert float(model.get_parameter("head.weight").detach().abs().max()) == 0.0
    records = encoded(model, data)
    features = model.features([records.text(index).tolist() for index in range(len(records.lengths))])
    args = arguments_of(settings, out, settings.seed)
    args.learning_rate, args.max_grad_norm, args.bf16 = head_rate(settings), 0.0, False
    args.save_strategy, args.patience = "no", 0
    alone = PreferenceTrainer(heads._HeadOnly(model), args, TrainingRecords(records, features=features))
    alone.train()
    kept, expected = (each.get_parameter("head.weight").detach() for each in (found.model, model))
    assert_equal({"head": kept}, {"head": expected}, 1e-6)
    assert float(kept.abs().max()) > 1e-3
    assert found.model.config.members == 1


def test_the_backbone_stays_as_it_was_and_the_loss_is_that_of_one_head(bert: str, out: Path) -> None:
    before = weights(new_model(bert).backbone)
    found = fit(planted(40), out, bert, logging_steps=1)
    assert_equal(weights(found.model.backbone), before)
    assert found.losses[0] == (1, pytest.approx(float(np.log(2)), abs=1e-6))
    assert found.losses[-1][1] < found.losses[0][1]


def test_folds_are_groups_and_each_judgement_is_in_one(bert: str) -> None:
    data = planted(20).map(lambda row, i: {"split_group": f"g{i % 7}"}, with_indices=True, features=planted(1).features)
    records = encoded(new_model(bert), data)
    fold = heads.record_folds(data, 5, 0)[records.pairs.row]
    assert set(fold) == set(range(5))
    assert all(len(set(fold[records.pairs.group == group])) == 1 for group in set(records.pairs.group))
    few = heads.record_folds(data, 50, 0)[records.pairs.row]
    assert len(set(few)) == 7


def test_one_group_alone_is_not_called_calibrated(bert: str, out: Path) -> None:
    data = planted(8).map(lambda _: {"split_group": "only"}, features=planted(1).features)
    result = fitting.fit(settings_for(bert, logging_steps=1), Shares(data, None, None), out)
    assert result.calibration is None
    assert result.model.record.calibration is None
    assert result.train_loss[0][1] == pytest.approx(np.log(2), abs=1e-6)
    assert float(result.model.get_parameter("head.weight").detach().abs().max()) > 0


@pytest.mark.parametrize("freeze", [True, False])
def test_pairs_that_are_all_equal_once_truncated(freeze: bool, bert: str, out: Path) -> None:
    rows = [comparison(f"Q{i}", ["same " * 40 + end for end in ("a", "b")], [edge(0, 1)]) for i in range(4)]
    settings = settings_for(bert, max_length_tokens=16).model_copy(
        update={} if freeze else {"freeze_backbone": False, "learning_rate": 1e-3}
    )
    with pytest.raises(
        DataError, match=r"nothing to train on(.|\n)*0 judgements, and 4 of two texts(.|\n)*--max-length-tokens"
    ):
        fitting.fit(settings, Shares(from_rows(rows), None, None), out)


def test_judging_heads_computes_the_states_of_a_text_once(
    bert: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = planted(8, seed=5)
    first, second = (fit(planted(20), out / name, bert).model for name in ("first", "second"))
    live, counts = margins_on(first, test, pairs(test))
    kept, same_counts = margins_on(first, test, pairs(test), keep_features=True)
    np.testing.assert_allclose(kept, live, rtol=0, atol=1e-5)
    assert counts == same_counts and np.ptp(live) > 0
    monkeypatch.setattr(first.backbone, "forward", None)
    monkeypatch.setattr(second.backbone, "forward", None)  # calling it would be an error
    assert np.array_equal(margins_on(second, test, pairs(test), keep_features=True)[0], kept)


def test_the_backbone_computes_where_the_machine_is_fastest(
    bert: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "best_device", lambda: torch.device("meta"))
    model = new_model(bert, freeze_backbone=True)
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        fitting.fit(settings_for(bert), Shares(planted(20), None, None), out, model)
    assert {p.device.type for p in model.parameters()} == {"meta"}
