"""Targets, objectives and cleaning from the settings, and through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import TypeAdapter
from safetensors.torch import load_file
from scipy.special import expit

from assay.errors import DataError
from assay.feedback import comparison, edge, from_rows, pairs
from assay.feedback.records import Grade
from assay.feedback.targets import TargetWarning
from assay.objectives import pairwise_loss
from assay.scorers.encoding import EncodedRecords
from assay.workflows import feedback_settings as kinds
from assay.workflows.prepared import Prepared
from assay.workflows.targets import angular_similarity, make_targets
from tests.workflows.conftest import SMALL, Cli

TARGET, LOSS = TypeAdapter(kinds.Target), TypeAdapter(kinds.Loss)


def grades(*values: float | None) -> list[list[Grade]]:
    return [[{"dimension": "quality", "value": value}] for value in values]


def data() -> Dataset:
    return from_rows(
        [
            comparison("Q", ["one", "two"], [edge(0, 1, confidence=3.0)], grades=grades(4, 1)),
            comparison("R", ["x", "yy"], [edge(1, 0, confidence=1.0)], grades=grades(2, 1)),
            comparison("S", ["v", "w"], [edge(0, 1)], grades=grades(5, None)),
        ]
    )


def given(rows: Dataset) -> Prepared:
    """Encode each letter as a token."""
    ids = [[[ord(letter) for letter in text] for text in row["responses"]] for row in rows]
    lengths = np.array([len(text) for row in ids for text in row])
    offsets = np.cumsum([0, *map(len, ids)])
    return Prepared(EncodedRecords(Dataset.from_dict({"ids": ids}), pairs(rows), offsets, lengths, 0, 0, 0))


def prepared(rows: Dataset | None = None, loss: Any = None, like: Prepared | None = None, **target: Any) -> Prepared:
    rows = data() if rows is None else rows
    made = TARGET.validate_python({"kind": "judged"} | target)
    return make_targets(made, LOSS.validate_python(loss or {"kind": "pairwise"}), rows, given(rows), like=like)


def test_margin_matching_sets_targets_from_grades_and_counts_what_has_none() -> None:
    found = prepared(kind="mmpo", gamma=1.1)
    np.testing.assert_allclose(found.records.pairs.p, [expit(3.3), expit(-1.1), 1.0])
    (change,) = found.changes
    told = change.figures
    assert told["signal"] == "grades" and told["without_gap"] == 1 and told["gamma"] == 1.1
    assert (change.changed, change.turned) == (2, 1)  # the judgement that its grades contradict is not clamped


def test_margin_matching_by_confidence_keeps_the_verdict() -> None:
    found = prepared(kind="mmpo", gamma=0.5, signal="confidence")
    np.testing.assert_allclose(found.records.pairs.p, [expit(1.5), expit(0.5), 1.0])


def test_margin_matching_off_is_the_sign_of_the_gap() -> None:
    np.testing.assert_array_equal(prepared(kind="mmpo", gamma="off").records.pairs.p, [1, 0, 1])


def test_a_margin_of_the_data_gives_way_to_the_gap() -> None:
    rows = from_rows([comparison("Q", ["one", "two"], [edge(0, 1, m=3.0)], grades=grades(4, 1))])
    assert prepared(rows, kind="mmpo", gamma=1.0).records.pairs.m.tolist() == [0]


def test_verdicts_made_from_grades_do_not_fit_gamma() -> None:
    judged = [edge(0, 1, source="grades"), edge(0, 1)]
    rows = [comparison(f"Q{i}", ["one", "two"], [judged[i % 2]], grades=grades(3, i % 5)) for i in range(40)]
    independent = prepared(from_rows(rows[1::2]), kind="mmpo", gamma="fit").fixed["gamma"]
    assert independent > 0
    # verdicts that follow from the grades are no part of the fit
    assert prepared(from_rows(rows), kind="mmpo", gamma="fit").fixed["gamma"] == pytest.approx(independent, rel=1e-6)
    with pytest.raises(DataError, match="made from the grades"):
        prepared(from_rows(rows[::2]), kind="mmpo", gamma="fit")


def test_prior_bounds_and_similarities_have_their_published_values() -> None:
    alike = np.array([1.0, 0.8, 0.5])
    by_length = kinds.PriorConstraint(kind="pcrm", similarity="length")
    by_angle = kinds.PriorConstraint(kind="pcrm", similarity="cosine")
    np.testing.assert_allclose(by_length.bound(alike), [4.980020, 9.968789, 24.920160], atol=1e-6)
    np.testing.assert_allclose(by_angle.bound(alike), [4.970030, 12.453184, 34.880240], atol=1e-6)
    kept = float(pairwise_loss(torch.tensor(2.0), margin=0.0))
    turned = float(pairwise_loss(torch.tensor(2.0), torch.tensor(0.0), margin=torch.tensor(4.0)))
    assert kept + turned == pytest.approx(0.253856, abs=1e-6)  # both at the optimum, D0 / 2
    # at right angles, opposite, alike, and of a text without a state
    rows = from_rows([comparison(str(i), ["ab", "cd"], [edge(0, 1)]) for i in range(4)])
    states = np.array([[1, 0], [0, 2], [1, 1], [-3, -3], [1, 2], [2, 4], [0, 0], [1, 0]], np.float32)
    found = angular_similarity(replace(given(rows), features=states))
    np.testing.assert_allclose(found, [0.5, 0.0, 1.0, 0.5], atol=1e-6)


def test_votes_leave_answers_to_other_prompts_alone() -> None:
    judged = [edge(0, 1), edge(1, 0), edge(0, 2, source="another prompt")]
    rows = from_rows([comparison("Q", ["one", "two", "foreign"], judged)])
    assert sorted(prepared(rows, kind="votes").records.pairs.p.tolist()) == [0.5, 1.0]


@pytest.mark.filterwarnings("ignore:gamma 1 leaves")
def test_ties_of_grades_are_kept_or_dropped() -> None:
    rows = from_rows([comparison("Q", ["one", "two"], [edge(0, 1), edge(1, 0)], grades=grades(2, 2))])
    assert prepared(rows, kind="mmpo", gamma=1.0).records.pairs.p.tolist() == [0.5, 0.5]
    dropped = prepared(rows, kind="mmpo", gamma=1.0, ties="drop")
    assert len(dropped.records.pairs) == 0 and dropped.changes[0].dropped == 2


def test_clipped_gaps() -> None:
    np.testing.assert_allclose(prepared(kind="mmpo", gamma=1.0, clip=2.0).records.pairs.p[0], expit(2.0))


def test_other_targets() -> None:
    np.testing.assert_allclose(prepared(kind="smooth", epsilon=0.2).records.pairs.p, 0.8)
    np.testing.assert_allclose(prepared(kind="margin", factor=2.0).records.pairs.m, [6, -2, 0])
    np.testing.assert_allclose(prepared(kind="weight").records.pairs.w, [1.5, 0.5, 1.0])
    assert prepared(kind="judged").changes == ()
    bounded = prepared(kind="pcrm").records.pairs
    np.testing.assert_allclose(bounded.m[3:], [20 / 1.001 - 15, 20 / 0.501 - 15, 20 / 1.001 - 15])
    np.testing.assert_allclose(bounded.p[3:], 0.0)
    assert prepared(kind="votes").changes[0].figures["alpha"] is None


def test_annotators_with_one_vote_are_warned_about() -> None:
    judged = [edge(0, 1, annotator="a"), edge(0, 1, annotator="b"), edge(1, 0, annotator="c")]
    rows = [comparison(f"Q{i}", ["one", "two"], judged[: 3 if i == 0 else 2]) for i in range(3)]
    with pytest.warns(TargetWarning, match=r"1 of 3 annotators have one decided vote or none \(c"):
        found = prepared(from_rows(rows), kind="votes", method="dawid_skene")
    assert found.changes[0].figures["quality"]["a"]["votes"] == 3
    assert len(found.records.pairs) == 3


def test_gamma_is_fitted_on_verdicts_that_are_independent_of_the_gap() -> None:
    random = np.random.default_rng(0)
    values = random.integers(1, 6, (200, 2)).astype(float)
    first = random.random(200) < expit(0.8 * (values[:, 0] - values[:, 1]))
    rows = [
        comparison(f"Q{i}", ["one", "two"], [edge(0, 1) if first[i] else edge(1, 0)], grades=grades(*values[i]))
        for i in range(200)
    ]
    found = prepared(from_rows(rows), kind="mmpo", gamma="fit")
    fitted = found.changes[0].figures["fitted"]
    assert fitted["ci95"][0] < 0.8 < fitted["ci95"][1]
    made_from_them = [
        comparison(f"Q{i}", ["one", "two"], [edge(0, 1) if x > y else edge(1, 0)], grades=grades(x, y))
        for i, (x, y) in enumerate(values)
        if x != y
    ]
    with pytest.raises(DataError, match="repeat the sign of the grade"):
        prepared(from_rows(made_from_them), kind="mmpo", gamma="fit")


def test_a_share_that_is_held_out_takes_over_what_the_first_one_set() -> None:
    first = prepared(loss={"kind": "regression"})
    assert first.grades is not None
    assert np.nanmean(first.grades) == pytest.approx(0) and np.nanstd(first.grades) == pytest.approx(1)
    second = prepared(data().select([0]), {"kind": "regression"}, first)
    assert second.grades is not None
    np.testing.assert_allclose(second.grades, first.grades[:2])
    ranked: Any = {"kind": "mmpo", "gamma": 2.0, "transform": "rank"}
    whole = prepared(**ranked)
    np.testing.assert_allclose(
        prepared(data().select([1]), like=whole, **ranked).records.pairs.p, whole.records.pairs.p[1:2]
    )


@pytest.mark.parametrize("target", ["mmpo", "margin", "weight", "votes"])
def test_a_share_that_is_held_out_may_lack_everything(target: str) -> None:
    bare = from_rows([comparison("Q", ["one", "two"], [edge(0, 1)])])
    options: Any = {"kind": target} | ({} if target == "votes" else {"dimensions": {"quality": 1.0}})
    found = prepared(bare, like=prepared(**options), **options)
    np.testing.assert_array_equal(found.records.pairs.p, [1.0])
    listed = prepared(bare, {"kind": "listnet", "dimensions": {"quality": 1.0}}, prepared(loss={"kind": "listnet"}))
    assert listed.grades is not None and np.isnan(listed.grades).all()


def test_grades_for_lists_and_single_responses() -> None:
    listed = prepared(loss={"kind": "listnet", "gamma": 2.0})
    np.testing.assert_array_equal(listed.grades, [8, 2, 4, 2, 10, np.nan])
    good = prepared(loss={"kind": "pointwise", "good_from": 2})
    np.testing.assert_array_equal(good.grades, [1, 0, 1, 0, 1, np.nan])
    with pytest.raises(DataError, match="no probabilities of being good"):
        prepared(loss={"kind": "pointwise"})
    with pytest.raises(DataError, match="no response is graded in style"):
        prepared(loss={"kind": "listnet", "dimensions": {"style": 1}})


def test_without_any_gap_it_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="nothing says how much better"):
        prepared(from_rows([comparison("Q", ["one", "two"], [edge(0, 1)])]), kind="mmpo")


def graded_file(path: Path, count: int = 60, turned: int = 0) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for i in range(count):
        good, bad = f"fine {'good ' * random.integers(1, 4)}answer", f"no {'bad ' * random.integers(1, 4)}answer"
        worst = i < turned
        rows.append(
            {
                "prompt": f"Name sea {i}.",
                "chosen": bad if worst else good,
                "rejected": good if worst else bad,
                "score_chosen": 4.0,
                "score_rejected": float(random.integers(1, 4)),
            }
        )
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


FROZEN = ("--out", "run", "--freeze-backbone", "--epochs", 5, "--resamples", 200)


@pytest.mark.parametrize(
    "words",
    [
        ("--target.kind", "mmpo", "--target.gamma", 1.1),
        ("--target.kind", "smooth", "--target.epsilon", 0.1),
        ("--target.kind", "margin"),
        ("--target.kind", "pcrm"),
        ("--objective.kind", "listnet"),
        ("--objective.kind", "regression"),
        ("--objective.kind", "pointwise", "--objective.good-from", 3.5),
        ("--clean.kind", "flip", "--clean.share", 0.1, "--clean.members", 3),
    ],
    ids=lambda words: words[1],
)
def test_a_run_says_what_it_did_to_the_judgements(cli: Cli, tiny_encoder: Path, words: tuple[Any, ...]) -> None:
    said = cli("train", graded_file(Path("graded.jsonl")), "--backbone", tiny_encoder, *FROZEN, *words)
    assert said.code == 0, said.err
    metrics = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))
    told = metrics["feedback"]
    if words[0] == "--objective.kind":
        assert told["grades"]["graded"] == 96
    else:
        (change,) = told["changes"]
        assert change["before"] == 48 and change["changed"] + change["appended"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target.kind", "mmpo", "--target.gamma", -1), "prefers the worse response"),
        (("--target.kind", "mmpo", "--target.gamma", "fit"), "repeat the sign of the grade"),
        (("--target.kind", "mmpo", "--target.dimensions.style", 1), "no response is graded in style"),
        (("--target.kind", "pcrm", "--target.b3", -30), "must stay above 0"),
        (("--target.kind", "maybe"), "maybe"),
        (("--clean.kind", "drop", "--clean.low", 0.5, "--clean.high", 0.2), "must be above low"),
    ],
)
def test_bad_settings_and_data_end_with_code_2(
    cli: Cli, tiny_encoder: Path, words: tuple[Any, ...], message: str
) -> None:
    said = cli("train", graded_file(Path("graded.jsonl")), "--backbone", tiny_encoder, *FROZEN, *words)
    assert said.code == 2 and message in said.err, said.err
    assert not Path("run").exists()


@pytest.mark.slow
def test_whole_models_learn_after_cleaning(cli: Cli, tiny_encoder: Path) -> None:
    """The judges are heads on the same backbone, which must not stay frozen."""
    path = graded_file(Path("graded.jsonl"))
    words = ("--backbone", tiny_encoder, *SMALL, "--learning-rate", 1e-2)
    assert cli("train", path, "--out", "plain", *words).code == 0
    assert cli("train", path, "--out", "clean", *words, "--clean.kind", "drop", "--clean.members", 2).code == 0
    frozen = cli("train", path, "--out", "frozen", "--backbone", tiny_encoder, *FROZEN[2:])
    assert frozen.code == 0
    weights = [load_file(Path(name, "model", "backbone", "model.safetensors")) for name in ("plain", "clean", "frozen")]
    name = next(key for key in weights[0] if key.endswith("query.weight"))
    assert not torch.equal(weights[1][name], weights[2][name])
    assert not torch.equal(weights[0][name], weights[2][name])


@pytest.mark.filterwarnings("ignore:gamma 0.01 leaves")
def test_a_sweep_keeps_the_best_gamma_and_can_be_repeated_from_its_own_settings(cli: Cli, tiny_encoder: Path) -> None:
    path = graded_file(Path("graded.jsonl"))
    words = ("--backbone", tiny_encoder, *FROZEN, "--target.kind", "mmpo", "--target.sweep", "0.01", "1", "off")
    assert cli("train", path, *words).code == 0
    told = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["feedback"]
    best = min(told["sweep"], key=lambda tried: tried["nll"])
    assert [tried["gamma"] for tried in told["sweep"]] == [0.01, 1.0, "off"]
    assert told["changes"][0]["figures"]["gamma"] == (None if best["gamma"] == "off" else best["gamma"])
    assert not Path("run/checkpoints").exists()
    assert cli("train", "--config", "run/config.yaml", "--out", "again", "--dry-run").code == 0
    planned = cli("train", path, *words[:2], "--out", "planned", *FROZEN[2:], *words[-6:], "--dry-run")
    assert planned.code == 0, planned.err
    for gamma in ("gamma 0.01:", "gamma 1:", "gamma off:"):
        assert f"mmpo, {gamma}" in planned.err, planned.err


def test_a_sweep_over_whole_models_keeps_its_logs(cli: Cli, tiny_encoder: Path) -> None:
    path = graded_file(Path("graded.jsonl"), 80)
    words = (
        "--out",
        "run",
        "--backbone",
        tiny_encoder,
        *SMALL,
        "--validation-share",
        0.4,
        "--report-to",
        "tensorboard",
    )
    said = cli("train", path, *words, "--target.kind", "mmpo", "--target.sweep", "0.5", "1")
    assert said.code == 0, said.err
    assert not Path("run/checkpoints").exists()
    for gamma in ("0.5", "1.0"):
        assert list(Path("run/logs", f"gamma-{gamma}").glob("**/events.out.*")), gamma
