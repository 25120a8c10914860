"""`assay run` and `assay demo`: stages in order, each done once, all problems before the first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.config import build
from assay.errors import ConfigError
from assay.output import new_folder, write_json
from assay.workflows import recipe_stages
from assay.workflows.verbs import STAGES, Verb
from tests.workflows.conftest import Cli, metrics_of, tree
from tests.workflows.test_bad_input import assert_refused


@pytest.fixture
def recipe(tiny_encoder: Path, pairs_file: Path) -> Path:
    """Write a recipe of three stages: check, train, evaluate."""
    path = Path("three.yaml")
    write(path, tiny_encoder, pairs_file)
    return path


def write(path: Path, backbone: Path, data: Path, **training: Any) -> None:
    train = {"verb": "train", "data": "{data}", "out": "{out}/model", "backbone": str(backbone), "epochs": 1}
    train |= {"freeze_backbone": True, "resamples": 200}
    stages = [
        {"verb": "check", "data": "{data}", "backbone": "none"},
        train | training,
        {"verb": "evaluate", "name": "judge", "model": "{out}/model", "data": "{data}", "out": "{out}/judged",
         "resamples": 200},
    ]  # fmt: skip
    path.write_text(yaml.safe_dump({"data": str(data), "stages": stages}), "utf-8")


class Stub:
    """Stages that only note that they ran, and leave a folder behind as real ones do."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def verb(self, name: str) -> Verb:
        def run(settings: Any) -> int:
            self.ran.append(name)
            if getattr(settings, "out", None) and not settings.dry_run:
                with new_folder(settings.out, overwrite=settings.overwrite) as folder:
                    write_json(folder / "metrics.json", {"settings": settings})
            return 0

        return Verb(STAGES[name].settings, run)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Replace what the verbs do; recipes are read and checked as ever."""
    made = Stub()
    for name in ("check", "train", "evaluate"):
        monkeypatch.setitem(STAGES, name, made.verb(name))
    return made


def test_stages_run_once(cli: Cli, recipe: Path) -> None:
    said = cli("run", recipe)
    assert said.code == 0, said.err
    assert [line for line in said.err.splitlines() if line.startswith("stage")] == [
        "stage 1 of 3: check", "stage 2 of 3: train", "stage 3 of 3: judge",
    ]  # fmt: skip
    assert "no errors" in said.out and "picks the better response" in said.out
    out = Path("runs/three")
    assert metrics_of(out / "judged")["data"]["test_pairs"] == metrics_of(out / "model")["data"]["test_pairs"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = cli("run", recipe)
    assert again.code == 0 and again.err.count("finished before") == 3
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_stage_whose_result_is_gone_runs_again_with_what_follows(cli: Cli, recipe: Path, stub: Stub) -> None:
    assert cli("run", recipe).code == 0
    shutil.rmtree("runs/three/model")
    stub.ran.clear()
    again = cli("run", recipe)
    assert again.code == 0, again.err
    assert stub.ran == ["train", "evaluate"]


def test_other_settings_are_refused_until_overwritten(
    cli: Cli, recipe: Path, tiny_encoder: Path, pairs_file: Path, stub: Stub
) -> None:
    assert cli("run", recipe).code == 0
    write(recipe, tiny_encoder, pairs_file, epochs=2)
    assert_refused_after_stage(cli("run", recipe), "finished with other settings")
    assert cli("run", recipe, "--overwrite").code == 0
    assert metrics_of(Path("runs/three/model"))["settings"]["epochs"] == 2
    # --overwrite itself is no other setting
    assert cli("run", recipe).err.count("finished before") == 3
    assert_refused_after_stage(cli("run", recipe, "--seed", 5), "finished with other settings")


def assert_refused_after_stage(said: Any, part: str) -> None:
    assert said.code == 2 and part in said.err and "--overwrite" in said.err


def test_changed_data_is_noticed(cli: Cli, recipe: Path, pairs_file: Path, stub: Stub) -> None:
    shutil.copy(pairs_file, "mine.jsonl")
    assert cli("run", recipe, "--data", "mine.jsonl").code == 0
    with Path("mine.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "New?", "chosen": "fine", "rejected": "no"}\n')
    assert_refused_after_stage(cli("run", recipe, "--data", "mine.jsonl"), "its data has changed")


def test_changed_data_in_a_folder_is_noticed(cli: Cli, recipe: Path, pairs_file: Path, stub: Stub) -> None:
    Path("mine").mkdir()
    shutil.copy(pairs_file, "mine/train.jsonl")
    assert cli("run", recipe, "--data", "mine:train").code == 0
    again = cli("run", recipe, "--data", "mine:train")
    assert again.code == 0 and "finished before" in again.err
    with Path("mine/train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "New?", "chosen": "fine", "rejected": "no"}\n')
    assert_refused_after_stage(cli("run", recipe, "--data", "mine:train"), "its data has changed")


def test_every_problem_of_every_stage_before_anything_runs(cli: Cli, pairs_file: Path) -> None:
    stages = [
        {"verb": "train", "data": "{data}", "out": "{out}/model", "epoch": 3, "test_share": 7},
        {"verb": "evalute", "model": "m", "data": "{data}"},
        {"verb": "evaluate", "data": "{data}", "resamples": "many"},
        {"verb": "train", "data": "{data}", "out": "{out}"},
        "train",
    ]
    Path("bad.yaml").write_text(yaml.safe_dump({"stages": stages, "dta": "x"}), "utf-8")
    said = cli("run", "bad.yaml", "--data", pairs_file)
    assert_refused(
        said,
        "bad.yaml, stage 1: epoch: no such setting; did you mean epochs?",
        "test_share",
        "stage 2: verb: expected one of check, label, task, classify, strength, train",
        "did you mean evaluate?",
        "stage 3: resamples",
        "MODEL: required",
        "stage 4: out: runs/bad is the folder of the whole run",
        "stage 5: verb",
        "bad.yaml: dta: no such setting",
    )
    assert tree(Path()) == ["bad.yaml"]


@pytest.mark.parametrize(
    ("content", "words", "parts"),
    [
        (None, ("dmo",), ("no such recipe", "assay run demo")),
        ("stages: [", ("r.yaml",), ("cannot read the recipe", "r.yaml")),
        ("- train", ("r.yaml",), ("not a recipe",)),
        ("stages: []", ("r.yaml",), ("not a recipe",)),
        ("stages: [{verb: check, data: '{data}'}]", ("r.yaml",), ("needs data", "--data")),
        ("stages: [{verb: check, data: d.jsonl}]", ("r.yaml", "--data", "x"), ("does not use {data}",)),
        ("stages: [{verb: check, data: a}]", ("r.yaml", "--out", "r.yaml"), ("exists already",)),
    ],
)  # fmt: skip
def test_recipes_that_cannot_run(content: str | None, words: tuple[str, ...], parts: tuple[str, ...], cli: Cli) -> None:
    if content is not None:
        Path("r.yaml").write_text(content, "utf-8")
    before = tree(Path())
    assert_refused(cli("run", *words), *parts)
    assert tree(Path()) == before


def test_check_with_errors_stops_the_recipe(cli: Cli, recipe: Path, pairs_file: Path) -> None:
    Path("bad.jsonl").write_text(pairs_file.read_text("utf-8") + '{"prompt": "x", "chosen": 3}\n', "utf-8")
    said = cli("run", recipe, "--data", "bad.jsonl", "--out", "run")
    assert said.code == 1 and "stopped: stage 1 of 3" in said.err
    assert not Path("run").exists()


def test_dry_run_checks_all_stages_and_writes_nothing(cli: Cli, recipe: Path) -> None:
    said = cli("run", recipe, "--dry-run")
    assert said.code == 0, said.err
    assert "would train on" in said.out
    assert "it needs runs/three/model, which an earlier stage makes" in said.err
    assert tree(Path()) == ["three.yaml"]


def test_other_peoples_folders_stay(cli: Cli, recipe: Path, stub: Stub) -> None:
    Path("runs/three/model").mkdir(parents=True)
    Path("runs/three/model/mine").touch()
    assert_refused_after_stage(cli("run", recipe), "exists already")
    overwritten = cli("run", recipe, "--overwrite")
    assert overwritten.code == 2 and "not written by assay" in overwritten.err
    assert Path("runs/three/model/mine").exists()


def test_interrupted_training_goes_on(
    cli: Cli, recipe: Path, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(recipe, tiny_encoder, many_pairs, freeze_backbone=False, evaluations_per_epoch=3, epochs=2)
    from assay.scorers import RewardModel

    kept = RewardModel.load_weights

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RewardModel, "load_weights", interrupted)  # when training is over and the best is loaded
    stopped = cli("run", recipe)
    assert stopped.code == 130 and "with --resume goes on from there" in stopped.err
    monkeypatch.setattr(RewardModel, "load_weights", kept)
    resumed = cli("run", recipe)
    assert resumed.code == 0, resumed.err
    assert Path("runs/three/judged/metrics.json").exists()


def test_shipped_recipes_are_right() -> None:
    for name, path in recipe_stages.shipped_recipes().items():
        given = {"recipe": name, "out": "x"}
        if "data" not in recipe_stages.recipe_content(path):
            # it says which data it needs
            with pytest.raises(ConfigError, match="examples of the task"):
                recipe_stages.read_recipe(build(recipe_stages.RunRecipeSettings, given))
            given["data"] = "d.jsonl"
        assert recipe_stages.read_recipe(build(recipe_stages.RunRecipeSettings, given)), name


def test_the_task_of_a_recipe(cli: Cli, recipe: Path) -> None:
    given = {"recipe": "rllr", "task": "trec", "data": "d.jsonl", "backbone": "folder", "out": "x"}
    stages = recipe_stages.read_recipe(build(recipe_stages.RunRecipeSettings, given))
    assert stages[0].values["task"] == "trec" and stages[1].values["backbone"] == "folder"
    assert_refused(cli("run", recipe, "--task", "trec"), "names no task")


def tiny_demo(path: Path, backbone: Path) -> Path:
    """Write the demo's recipe around a tiny backbone."""
    content = yaml.safe_load(recipe_stages.shipped_recipes()["demo"].read_text("utf-8"))
    for stage in content["stages"]:
        if stage["verb"] == "train":
            stage |= {"backbone": str(backbone), "max_length_tokens": 32, "epochs": 1, "resamples": 200}
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def test_demo_twice(cli: Cli, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.workflows import recipes

    made = tiny_demo(tmp_path / "demo.yaml", tiny_encoder)
    monkeypatch.setattr(recipes, "shipped_recipes", lambda: {"demo": made})
    planned = cli("demo", "--dry-run")
    assert planned.code == 0 and "would train on" in planned.out
    assert tree(Path()) == ["demo.yaml"]
    part = tmp_path / "sample.jsonl"
    lines = recipe_stages.sample_path().read_text("utf-8").splitlines()
    part.write_text("\n".join(lines[:15]), "utf-8")
    monkeypatch.setattr(recipes, "sample_path", lambda: part)
    first = cli("demo")
    assert first.code == 0, first.err
    assert "assay demo" in first.out and "next: open runs/demo/report.html" in first.out
    metrics = metrics_of(Path("runs/demo"))
    assert metrics["data"]["test_pairs"] > 5
    assert "sample.jsonl" in Path("runs/demo/report.html").read_text("utf-8")
    assert cli("demo").code == 0  # replaces its own former run
    assert metrics_of(Path("runs/demo"))["evaluation"] == metrics["evaluation"]
    shutil.rmtree("runs/demo")
    Path("runs/demo").mkdir()
    Path("runs/demo/mine").touch()
    refused = cli("demo")
    assert refused.code == 2 and "not written by assay" in refused.err


@pytest.mark.slow
def test_real_demo(cli: Cli) -> None:
    said = cli("demo")
    assert said.code == 0, said.err
    metrics = json.loads(Path("runs/demo/metrics.json").read_text("utf-8"))
    assert metrics["evaluation"]["accuracy"]["value"] > 0.6
