"""Models that tell how sure they are, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import ModelError
from assay.scorers import RewardModel
from assay.scorers.ensemble import EnsembleModel
from assay.training import PreferenceTrainer
from tests.workflows.conftest import SMALL, Cli, metrics_of

FROZEN = ["--freeze-backbone", "--epochs", 6, "--calibration-folds", 2, "--resamples", 100]
FULL = [*SMALL, "--max-length-tokens", 48]


@pytest.mark.parametrize(
    "words",
    [
        [*FROZEN, "--ensemble.members", 3],
        [*FROZEN, "--ensemble.members", 3, "--ensemble.sample", "all", "--head", "mlp", "--head.hidden", 8],
        [*FROZEN, "--ensemble.members", 2, "--head.init-std", 0.1],
        [*FROZEN, "--ensemble.members", 2, "--head", "prototypes"],
        [*FULL, "--ensemble.members", 3],
        [*FULL, "--ensemble.members", 2, "--ensemble.kind", "models"],
        [*FULL, "--ensemble.members", 2, "--ensemble.kind", "lora", "--lora.rank", 2],
        [*FROZEN, "--laplace"],
        [*FROZEN, "--laplace.precision", 2, "--head", "prototypes"],
        [*FULL, "--laplace"],
    ],
    ids=[
        "heads",
        "all",
        "drawn",
        "prototypes",
        "full",
        "models",
        "lora",
        "laplace",
        "laplace of prototypes",
        "laplace of all",
    ],
)
def test_uncertain_models(cli: Cli, tiny_encoder: Path, many_pairs: Path, words: list[Any]) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, *words)
    assert said.code == 0, said.err
    metrics = metrics_of(Path("run"))
    found = metrics["evaluation"]["uncertainty"]
    assert 0 <= found["sure"]["value"] <= 1 and "among margins of like size" in said.err
    assert "among margins of like size" in Path("run/report.html").read_text(encoding="utf-8")
    model = RewardModel.from_pretrained("run")
    prompts, replies = ["Name tool 3."] * 2, ["fine clear answer", "no idea whatever"]
    margin, deviation = model.margin_uncertainty(prompts[:1], replies[:1], replies[1:])
    assert deviation[0] > 0 and margin[0] == pytest.approx(np.subtract(*model.score(prompts, replies)), abs=1e-5)
    scores, deviations = model.uncertainty(prompts, replies)
    # two responses of one prompt: each is half the margin's deviation from their mean
    assert deviations.tolist() == pytest.approx([deviation[0] / 2] * 2, rel=1e-3)
    assert scores == pytest.approx(model.score(prompts, replies), abs=1e-5)
    if "--laplace" not in words and "--laplace.precision" not in words:
        members = model.config.members
        assert members == words[words.index("--ensemble.members") + 1]
        assert len((model.record.score or {})["members"]) == members

    assert cli("score", "run", many_pairs, "--out", "mean.jsonl").code == 0
    assert cli("score", "run", many_pairs, "--reduce", "lcb", "--b", 2, "--out", "lcb.jsonl").code == 0
    plain, lower = (
        [json.loads(line) for line in Path(name).read_text().splitlines()] for name in ("mean.jsonl", "lcb.jsonl")
    )
    for one, other in zip(plain, lower, strict=True):
        assert one["std"] == other["std"] >= 0
        assert other["score"] == pytest.approx(one["score"] - 2 * one["std"], abs=1e-5)
    said = cli("score", "run", many_pairs, "--reduce", "min", "--out", "min.jsonl")
    assert said.code == (2 if model.laplace is not None else 0)
    assert cli("evaluate", "run", many_pairs, "--include-seen", "--resamples", 100).code == 0


def test_lora_members_keep_one_base(cli: Cli, tiny_causal: Path, many_pairs: Path) -> None:
    words = ["--ensemble.members", 2, "--ensemble.kind", "lora", "--lora.rank", 2]
    assert cli("train", many_pairs, "--out", "run", "--backbone", tiny_causal, *FULL, *words).code == 0
    model = RewardModel.from_pretrained("run")
    assert isinstance(model, EnsembleModel)
    one, other = (dict(member.get_submodule("backbone").named_parameters()) for member in model.members.children())
    shared = [name for name in one if one[name].data_ptr() == other[name].data_ptr()]
    assert shared and not any("lora_" in name for name in shared)
    assert all(name in shared for name in one if "lora_" not in name)
    prefix = model.prefix_scores("Name tool 3.", "fine clear")
    assert prefix[-1] == pytest.approx(model.score(["Name tool 3."], ["fine clear"])[0], abs=1e-5)
    said = cli("export", "run", "--out", "plain")
    assert said.code == 2 and "not a single linear layer" in said.err
    shutil.rmtree("run/model/member-1")
    with pytest.raises(ModelError, match="missing: member-1"):
        RewardModel.from_pretrained("run")


def test_members_that_do_not_fit_together(trained: Path, trained_causal: Path) -> None:
    models = [RewardModel.from_pretrained(folder) for folder in (trained, trained_causal)]
    with pytest.raises(ModelError, match="2 ways to write conversations"):
        EnsembleModel(models)
    with pytest.raises(ModelError, match="two or more"):
        EnsembleModel(models[:1])


def test_an_interrupted_ensemble_goes_on(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "train",
        many_pairs,
        "--backbone",
        tiny_encoder,
        *FULL,
        "--ensemble.members",
        2,
        "--ensemble.kind",
        "models",
    ]
    assert cli(*words, "--out", "whole").code == 0
    steps = iter(range(1000))
    once = PreferenceTrainer.training_step

    def stop(self: PreferenceTrainer, *given: Any, **named: Any) -> Any:
        if next(steps) == 15:
            raise KeyboardInterrupt
        return once(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTrainer, "training_step", stop)
        assert cli(*words, "--out", "torn").code != 0
    said = cli(*words, "--out", "torn", "--resume")
    assert said.code == 0, said.err
    prompts, replies = ["Name tool 3."] * 2, ["fine clear answer", "no idea whatever"]
    one, other = (RewardModel.from_pretrained(folder).score(prompts, replies) for folder in ("whole", "torn"))
    assert np.array_equal(one, other)


def test_an_ensemble_of_one_warns(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    said = cli("train", many_pairs, "--out", "run", "--backbone", tiny_encoder, *FROZEN, "--ensemble.members", 1)
    assert said.code == 0 and "an ensemble of one tells nothing" in said.err
    assert metrics_of(Path("run"))["evaluation"]["uncertainty"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ensemble.sample", "all"], "linear heads that are the same"),
        (["--ensemble.kind", "lora"], "--lora.rank"),
        (["--ensemble.kind", "models", "--freeze-backbone"], "use heads"),
        (["--ensemble.members", 2, "--laplace"], "choose one"),
        (["--laplace", "--head", "attributes"], "linear in its last layer"),
        (["--laplace", "--head", "prototypes", "--head.class-weight", 1], "linear in its last layer"),
        (["--ensemble.members", 0], "greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_refused(cli: Cli, pairs_file: Path, words: list[Any], message: str) -> None:
    said = cli("train", pairs_file, "--out", "run", *words)
    assert said.code == 2 and message in said.err, said.err


def test_sure_models_do_not_tell(cli: Cli, trained: Path, many_pairs: Path) -> None:
    said = cli("score", trained, many_pairs, "--reduce", "lcb")
    assert said.code == 2 and "tells how sure it is" in said.err
    said = cli("score", trained, many_pairs, "--b", 2)
    assert said.code == 2 and "belongs to --reduce lcb" in said.err
    with pytest.raises(ModelError, match=r"--ensemble\.members 5, or --laplace"):
        RewardModel.from_pretrained(trained).uncertainty(["a"], ["b"])


def noisy_grades(count: int = 150) -> Path:
    """Write graded answers: long ones are graded at random, short ones by their words."""
    rng = np.random.default_rng(3)
    good, bad = ["fine", "clear", "answer"], ["no", "idea", "boring"]
    rows = []
    for n in range(count):
        answers, grades = [], []
        for k in range(4):
            pool, long = (good if k % 2 else bad), k > 1
            answers.append(" ".join(rng.choice(pool, 9 if long else 2)))
            grades.append(float((1 if k % 2 else -1) + rng.normal() * (3.0 if long else 0.1)))
        rows.append({"prompt": f"Question {n}", "responses": answers, "grades": grades})
    Path("graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("graded.jsonl")


@pytest.mark.parametrize(
    "words",
    [["--freeze-backbone", "--epochs", 30, "--calibration-folds", 2], [*SMALL, "--head", "mlp"]],
    ids=["frozen", "full"],
)
def test_quantiles_of_grades(cli: Cli, tiny_encoder: Path, words: list[Any]) -> None:
    common = ["--backbone", tiny_encoder, "--objective", "quantile", "--objective.levels", 0.1, 0.5, 0.9]
    common += ["--head-learning-rate", 0.02, "--resamples", 100] if "--freeze-backbone" in words else []
    said = cli("train", noisy_grades(), "--out", "run", *common, *words)
    assert said.code == 0, said.err
    model = RewardModel.from_pretrained("run")
    assert model.config.members == 3 and model.config.levels == [0.1, 0.5, 0.9]
    prompts, replies = ["Question 3"] * 2, ["fine clear", "fine clear answer fine clear answer fine clear answer"]
    scores, deviations = model.uncertainty(prompts, replies)
    assert np.isfinite(scores).all() and (deviations >= 0).all()
    deviation = model.margin_uncertainty(prompts[:1], replies[:1], replies[1:])[1]
    assert deviation[0] == pytest.approx(np.hypot(*deviations), rel=1e-4)
    if "--freeze-backbone" in words:
        assert deviations[1] > 2 * deviations[0], "long answers are graded at random"
    assert metrics_of(Path("run"))["evaluation"]["uncertainty"] is not None
    assert cli("score", "run", "graded.jsonl", "--reduce", "lcb", "--out", "lcb.jsonl").code == 0
    said = cli("score", "run", "graded.jsonl", "--reduce", "min")
    assert said.code == 2 and "several members" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective.levels", 0.5], "two or more numbers"),
        (["--objective.levels", 0.5, 0.2], "each above the one before"),
        (["--head", "prototypes"], "pairwise"),
        (["--ensemble.members", 3], "quantiles already"),
    ],
)
def test_quantiles_that_are_none(cli: Cli, pairs_file: Path, words: list[Any], message: str) -> None:
    said = cli("train", pairs_file, "--out", "run", "--objective", "quantile", *words)
    assert said.code == 2 and message in said.err, said.err
