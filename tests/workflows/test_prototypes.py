"""Heads with prototypes, by the command line: trained, reported, stored, explained, resumed and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import ModelError
from assay.scorers import RewardModel
from assay.scorers.prototypes import PrototypeHead
from assay.training.records import TrainingRecords
from assay.training.starting import choose, owners_of
from tests.training.support import encoded, new_model, planted
from tests.workflows.conftest import SMALL, Cli, metrics_of

FROZEN = ["--freeze-backbone", "--epochs", 8, "--calibration-folds", 2, "--resamples", 100]
FULL = [*SMALL, "--max-length-tokens", 48]


@pytest.fixture(scope="module")
def with_prototypes(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, many_pairs: Path) -> Path:
    from tests.workflows.conftest import run

    folder = tmp_path_factory.mktemp("prototypes") / "run"
    said = run("train", many_pairs, "--out", folder, "--backbone", tiny_encoder, "--head", "prototypes", *FROZEN)
    assert said.code == 0, said.err
    return folder


def test_prototypes_are_reported(with_prototypes: Path) -> None:
    metrics = metrics_of(with_prototypes)
    bank = metrics["prototypes"]
    assert metrics["evaluation"]["accuracy"]["value"] > 0.6
    assert bank["at_start"] == 36 and bank["active"] == 36 + bank["added"] and not bank["cap_reached"]
    low, high = bank["band"]
    assert low == 3 and high == bank["active"] / 2 and low <= bank["effective_number"] <= high and bank["in_band"]
    # room for all: 250 free slots and twice as many responses at most
    assert bank["threshold_level"] == 0.95 and bank["omega"] == 0.5


@pytest.mark.parametrize("words", [FULL, [*FULL, "--lora.rank", 2]], ids=["full", "lora"])
def test_whole_models_learn_prototypes_too(cli: Cli, tiny_encoder: Path, many_pairs: Path, words: list[Any]) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--head", "prototypes", *words)
    assert said.code == 0, said.err
    bank = metrics_of(Path("run"))["prototypes"]
    assert bank["active"] >= bank["at_start"] == 36 and "effective_number" in bank
    model = RewardModel.from_pretrained("run")
    assert isinstance(model.head, PrototypeHead) and int(model.head.counts[0]) == bank["active"]


def test_scores_are_explained(cli: Cli, with_prototypes: Path, many_pairs: Path) -> None:
    assert cli("score", with_prototypes, many_pairs, "--explain", "--out", "scores.jsonl").code == 0
    lines = [json.loads(line) for line in Path("scores.jsonl").read_text(encoding="utf-8").splitlines()]
    known = {json.loads(line)[side] for line in many_pairs.read_text().splitlines() for side in ("chosen", "rejected")}
    for line in lines[:20]:
        weights = [entry["weight"] for entry in line["prototypes"]]
        assert len(weights) == 3 and weights == sorted(weights, reverse=True) and 0 < sum(weights) <= 1
        assert {entry["class"] for entry in line["prototypes"]} <= {"chosen", "rejected"}
        assert all(example["response"] in known for entry in line["prototypes"] for example in entry["nearest"])
    model = RewardModel.from_pretrained(with_prototypes)
    assert isinstance(model.head, PrototypeHead)
    found = model.explain([lines[0]["prompt"]], [lines[0]["response"]], top=100)[0]
    assert sum(entry["weight"] for entry in found) == pytest.approx(1.0, abs=1e-4)
    assert [entry["weight"] for entry in found[:3]] == pytest.approx(
        [entry["weight"] for entry in lines[0]["prototypes"]], abs=1e-5
    )


def test_other_models_cannot_explain(cli: Cli, trained: Path, many_pairs: Path) -> None:
    said = cli("score", trained, many_pairs, "--explain")
    assert said.code == 2 and "no prototypes" in said.err and "--head prototypes" in said.err
    with pytest.raises(ModelError, match="no prototypes"):
        RewardModel.from_pretrained(trained).explain(["a"], ["b"])


def test_the_same_seed_gives_the_same_bank(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, with_prototypes: Path
) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--head", "prototypes", *FROZEN)
    assert said.code == 0
    one, other = (RewardModel.from_pretrained(folder) for folder in ("run", with_prototypes))
    assert all(torch.equal(one.head_state()[name], value) for name, value in other.head_state().items())


def test_an_interrupted_run_goes_on_as_it_would_have(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", many_pairs, "--backbone", tiny_encoder, "--head", "prototypes", *FULL]
    assert cli(*words, "--out", "whole").code == 0
    steps = iter(range(100))
    once = PrototypeHead.end_step

    def stop(head: PrototypeHead) -> None:
        if next(steps) == 8:
            raise KeyboardInterrupt
        once(head)

    with monkeypatch.context() as patch:
        patch.setattr(PrototypeHead, "end_step", stop)
        assert cli(*words, "--out", "torn").code != 0
    assert cli(*words, "--out", "torn", "--resume").code == 0
    one, other = (RewardModel.from_pretrained(folder) for folder in ("whole", "torn"))
    assert all(torch.equal(one.head_state()[name], value) for name, value in other.head_state().items())


def test_kernels_learn(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--head", "kernel", *FROZEN)
    assert said.code == 0, said.err
    metrics = metrics_of(Path("run"))
    assert metrics["kernel"]["active"] == 36 and metrics["evaluation"]["accuracy"]["value"] > 0.6


def test_cleaning_beside_prototypes(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = ["--clean", "flip", "--clean.members", 2, "--clean.folds", 2]
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, "--head", "prototypes", *FROZEN, *words)
    assert said.code == 0, said.err


def few(count: int, **verdict: Any) -> Path:
    """Write some pairs about different prompts."""
    words = ["fine", "clear", "poor", "odd", "long", "short", "plain", "brief"]
    rows = [
        {"prompt": f"Ask {n}", "chosen": f"{words[n % 8]} one {n}", "rejected": f"{words[-n % 7]} two {n}", **verdict}
        for n in range(count)
    ]
    Path("few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("few.jsonl")


@pytest.mark.parametrize("kind", ["prototypes", "kernel"])
def test_fewer_than_twenty_pairs_are_refused(cli: Cli, tiny_encoder: Path, kind: str) -> None:
    words = ["--backbone", tiny_encoder, "--head", kind, "--freeze-backbone", "--test-share", 0]
    said = cli("train", few(19), "--out", "run", *words)
    assert said.code == 2 and "at least 20 judgements" in said.err and "19" in said.err and not Path("run").exists()
    assert cli("train", few(20), "--out", "run", *words, "--epochs", 2).code == 0
    bank = metrics_of(Path("run"))[kind]
    # five of each class from half of the prompts; the other half tries them
    assert bank["active"] >= 10


def test_judgements_count_once_for_all_members(cli: Cli, tiny_encoder: Path) -> None:
    words = ["--backbone", tiny_encoder, "--head", "prototypes", "--test-share", 0, "--validation-share", 0]
    said = cli("train", few(12), "--out", "run", *words, "--ensemble.members", 3, "--epochs", 1)
    assert said.code == 2 and "at least 20 judgements" in said.err and not Path("run").exists()


def test_ties_alone_are_refused(cli: Cli, tiny_encoder: Path) -> None:
    words = ["--backbone", tiny_encoder, "--head", "prototypes", "--freeze-backbone", "--test-share", 0]
    said = cli("train", few(30, target=0.5), "--out", "run", *words)
    assert said.code == 2 and "one class" in said.err and "ties" in said.err


def test_options_that_do_not_belong(cli: Cli, pairs_file: Path) -> None:
    said = cli("train", pairs_file, "--out", "run", "--head", "prototypes", "--head.alpha", 0.2)
    assert said.code == 2 and "belongs to --head.growth imp" in said.err
    said = cli("train", pairs_file, "--out", "run", "--head", "prototypes", "--objective", "regression")
    assert said.code == 2 and "use --objective.kind pairwise" in said.err
    learned = ("--head", "prototypes", "--head.omega-schedule", "learned")
    said = cli("train", pairs_file, "--out", "run", *learned, "--head.omega", 1)
    assert said.code == 2 and "between 0 and 1" in said.err
    said = cli("train", pairs_file, "--out", "run", *learned, "--head.released")
    assert said.code == 2 and "is fading with --head.released" in said.err
    said = cli("train", pairs_file, "--out", "run", "--head", "prototypes", "--head.cap", 10)
    assert said.code == 2 and "no room for 18" in said.err


def test_builders_and_probes_share_no_record(tiny_encoder: Path) -> None:
    data = TrainingRecords(encoded(new_model(str(tiny_encoder)), planted(90)))
    head = PrototypeHead(4, per_class=18)
    found = choose(head, data, 0)
    owners = owners_of(data)
    assert found.pairs == 120 and found.chosen.shape == found.rejected.shape == (18, 2)
    built = set(owners[found.chosen].ravel()) | set(owners[found.rejected].ravel())
    assert built.isdisjoint(owners[found.probes].tolist()) and 0 < len(found.probes) <= 128
    assert (data.classes[found.chosen] == 1).all() and (data.classes[found.rejected] == -1).all()
    again = choose(head, data, 0)
    assert np.array_equal(found.chosen, again.chosen) and np.array_equal(found.probes, again.probes)
    # what a member does not learn from builds nothing of its own
    share = np.ones((90, 2))
    share[:45, 1] = 0
    blind = choose(head, replace(data, share=share), 1)
    assert min(owners[blind.texts]) >= 45
