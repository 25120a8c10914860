"""How strong preferences are to heads that did not see them, and what cleaning makes of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from pydantic import TypeAdapter
from sklearn.metrics import roc_auc_score

from assay.feedback import comparison, edge, from_rows, pairs
from assay.feedback.changes import change
from assay.scorers import ModelOptions, create_reward_model
from assay.scorers.encoding import encode_records
from assay.training import PairwiseObjective
from assay.training.records import TrainingRecords
from assay.workflows import feedback_settings as kinds
from assay.workflows.heads import head_arguments
from assay.workflows.options import arguments
from assay.workflows.settings import TrainSettings
from assay.workflows.strength import (
    Strength,
    StrengthWarning,
    clean,
    cross_fitted,
    most_suspicious,
    shares_of_members,
    standardised_log_lengths,
    warn_of_chance,
)
from tests.workflows.conftest import Cli
from tests.workflows.test_targets import data, graded_file

CLEAN = TypeAdapter(kinds.Cleaning)


def strength(*means: float, group: np.ndarray | None = None) -> Strength:
    place = np.arange(len(means))
    return Strength(np.stack([means, np.array(means) + 2.0], axis=1) - 1.0, place, place if group is None else group)


@pytest.mark.parametrize(
    ("options", "p", "m"),
    [
        ({"kind": "flip", "share": 0.4}, [1, 0, 1], [0, 0, 0]),
        ({"kind": "soft", "share": 0.7, "epsilon": 0.25}, [1, 0.75, 0.75], [0, 0, 0]),
        ({"kind": "drop", "low": 0.34, "high": 0.7}, [1, 1, 1], [0, 0, 0]),
        ({"kind": "margin", "factor": 2.0}, [1, 1, 1], [4, -1, 1]),
    ],
)
def test_cleaning_acts_on_the_weakest(options: dict[str, Any], p: list[float], m: list[float]) -> None:
    view = pairs(data())
    doubts = strength(2.0, -0.5, 0.5)
    after, name = clean(CLEAN.validate_python(options), view, doubts)
    told = change(name, view, after)
    np.testing.assert_allclose(after.p, p[: len(after)])
    np.testing.assert_allclose(after.m, m[: len(after)])
    expected = {"flip": (1, 0), "soft": (2, 0), "drop": (0, 1), "margin": (3, 0)}[options["kind"]]
    assert (told.changed, told.dropped) == expected
    assert doubts.summary()["doubted"] == pytest.approx(1 / 3)


def test_flipping_touches_exactly_the_floor_of_the_share() -> None:
    view = pairs(from_rows([comparison(str(i), ["a", "b"], [edge(0, 1)]) for i in range(100)]))
    for share, count in ((0.0, 0), (0.019, 1), (0.29, 29), (0.5, 50)):  # 0.29 * 100 is a little below 29
        after, _ = clean(CLEAN.validate_python({"kind": "flip", "share": share}), view, strength(*range(100)))
        assert np.flatnonzero(after.p != view.p).tolist() == list(range(count))


def test_doubts_by_heads_that_know_nothing_are_warned_of() -> None:
    means = np.linspace(-1, 1, 101)
    with pytest.warns(StrengthWarning, match="no more than chance"):
        warn_of_chance(strength(*means))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_chance(strength(*(means + 0.5)))
        warn_of_chance(strength(np.nan, np.nan))


def test_doubts_are_counted_by_group() -> None:
    means, groups = np.linspace(-0.7, 1.3, 100), np.arange(100)
    doubted = strength(*means).doubted()
    assert doubted.value == pytest.approx(0.35) and doubted.ci95 is not None
    half = 1.96 * np.sqrt(0.35 * 0.65 / 100)
    assert doubted.ci95 == pytest.approx((0.35 - half, 0.35 + half), abs=0.02)
    # the same judgements nine times over tell no more
    many = strength(*np.repeat(means, 9), group=np.repeat(groups, 9))
    assert many.doubted().ci95 == pytest.approx(doubted.ci95, abs=1e-9)
    assert strength(1.0, -1.0, group=np.zeros(2)).summary()["doubted_ci95"] == [0.0, 1.0]


def test_the_most_suspicious_come_with_their_texts() -> None:
    found = list(most_suspicious(pairs(data()), strength(2.0, -0.5, 0.5), 2))
    assert [each["preferred"] for each in found] == ["yy", "v"]
    assert found[0]["strength"] == pytest.approx(-0.5) and found[0]["std"] == pytest.approx(1.0)


def test_no_member_learns_from_the_fold_that_it_judges() -> None:
    groups = ["a", "b", "c", "a", "d"]
    fold_of = np.array([0, 1, 2, 0, 1])
    share = shares_of_members(groups, fold_of, 7, seed=0)
    assert share.shape == (5, 21)
    for record, fold in enumerate(fold_of):
        assert (share[record, fold * 7 : fold * 7 + 7] == 0).all()
        assert share[record].sum() > 0
    np.testing.assert_array_equal(share[0], share[3])  # groups are drawn whole
    kept = share.reshape(5, 3, 7)
    np.testing.assert_array_equal(kept[0, 1], kept[0, 2])


def by_length(count: int, random: np.random.Generator) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return judgements of a judge who tells the longer response the better one in half of the other cases.

    With features, of which the first is the quality and the second nearly the length; and which he turned round.
    """
    words = random.integers(1, 30, (count, 2))
    quality = random.normal(size=(count, 2))
    best = quality.argmax(axis=1)
    turned = (words[range(count), best] < words[range(count), 1 - best]) & (random.random(count) < 0.5)
    told = np.where(turned, 1 - best, best)
    rows = [
        comparison(f"Name sea {i}.", ["ab " * words[i, 0], "cd " * words[i, 1]], [edge(told[i], 1 - told[i])])
        for i in range(count)
    ]
    lengths = np.log(words) + 0.1 * random.normal(size=words.shape)
    return from_rows(rows), np.stack([quality, lengths], axis=2).reshape(-1, 2).astype(np.float32), turned


def test_a_judge_who_likes_length_is_found_out_with_length_set_apart(tiny_encoder: Path, tmp_path: Path) -> None:
    rows, features, turned = by_length(400, np.random.default_rng(0))
    model = create_reward_model(ModelOptions(backbone=str(tiny_encoder), freeze_backbone=True))
    records = encode_records(rows, model.encoder)
    settings = TrainSettings(data="-", out="-", freeze_backbone=True, epochs=30, head_learning_rate=3e-2)
    args = head_arguments(arguments(settings, tmp_path, 0), 3e-2)
    found = {}
    for apart in (False, True):
        ensemble = kinds.Flip(kind="flip", members=3, length_apart=apart)
        learned = TrainingRecords(records, features=features)
        strength = cross_fitted(model, args, rows, learned, ensemble, 0, PairwiseObjective())
        found[apart] = roc_auc_score(turned, -strength.of(records.pairs))
    assert found[True] > 0.9 > found[False] + 0.1, found


def test_log_lengths_are_standardised_over_what_was_judged(tiny_encoder: Path) -> None:
    model = create_reward_model(ModelOptions(backbone=str(tiny_encoder)))
    rows = [
        comparison("Q", ["a", "abc", "not judged, and long"], [edge(0, 1)]),
        comparison("R", ["abcdefg", "abc"], [edge(0, 1)]),
    ]
    found = standardised_log_lengths(encode_records(from_rows(rows), model.encoder))
    logs = np.log([2, 4, 8, 4])
    expected = (logs - logs.mean()) / logs.std()
    np.testing.assert_allclose(found, [*expected[:2], 0.0, *expected[2:]])
    alike = from_rows([comparison("Q", ["ab", "cd"], [edge(0, 1)])])
    np.testing.assert_array_equal(standardised_log_lengths(encode_records(alike, model.encoder)), [0, 0])


def test_planted_flips_are_found(cli: Cli, tiny_encoder: Path) -> None:
    path = graded_file(Path("graded.jsonl"), 120, turned=12)
    said = cli("strength", path, "--backbone", tiny_encoder, "--members", 3, "--epochs", 10, "--out", "doubts")
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in Path("doubts/judgements.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 120
    assert sum(row["preferred"].startswith("no") for row in rows[:12]) >= 8  # one would be by chance
    assert "would have been judged the other way" in said.out and "preferred: no bad" in said.out
    summary = json.loads(Path("doubts/metrics.json").read_text(encoding="utf-8"))
    assert summary["judgements"] == 120 and sum(summary["histogram"]["counts"]) == 120
    again = cli("strength", path, "--backbone", tiny_encoder, "--out", "doubts")
    assert again.code == 2 and "--overwrite" in again.err
    words = ("--backbone", tiny_encoder, "--members", 3, "--epochs", 10, "--length-apart", "--out", "apart")
    assert cli("strength", path, *words).code == 0
    apart = json.loads(Path("apart/metrics.json").read_text(encoding="utf-8"))
    assert apart["length_apart"] and not summary["length_apart"]
    assert apart["quantiles"] != summary["quantiles"]
