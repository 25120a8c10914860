"""`assay train` under a launcher: several processes give the run of one."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from assay.scorers import RewardModel
from tests.workflows.conftest import SMALL, Cli, environment, metrics_of, tree

CONFIGS = Path(str(files("assay"))) / "recipes" / "accelerate"


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--baseline-blind",)], ids=["plain", "blind"])
def test_two_processes_write_the_run_of_one(
    cli: Cli, many_pairs: Path, tiny_causal: Path, more: tuple[str, ...]
) -> None:
    words = ["train", str(many_pairs), "--backbone", str(tiny_causal), *SMALL, "--dropout", "none"]
    words += ["--logging-steps", "1", *more]
    assert cli(*words, "--out", "one").code == 0
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "cpu.yaml")]
    done = subprocess.run(
        [*command, "-m", "assay.cli", *words, "--out", "two"],
        env=environment() | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("held-out judgements") == 1, done.stdout
    assert tree(Path("two")) == tree(Path("one")) and not Path("two.partial").exists()
    one, two = metrics_of(Path("one")), metrics_of(Path("two"))
    for name in ("train_loss", "validation_loss"):
        assert len(two["training"][name]) == len(one["training"][name]) > 0
        for here, there in zip(two["training"][name], one["training"][name], strict=True):
            assert here == pytest.approx(there, abs=1e-5)
    assert two["evaluation"]["nll"] == pytest.approx(one["evaluation"]["nll"], abs=1e-4)
    texts = ["fine clear", "no idea"]
    scores = [RewardModel.from_pretrained(folder).score(["Name tool 1."] * 2, texts) for folder in ("one", "two")]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)


@pytest.fixture
def as_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")


@pytest.mark.usefixtures("as_one_of_two")
def test_other_verbs_and_frozen_backbones_refuse_several_processes(
    cli: Cli, many_pairs: Path, tiny_encoder: Path
) -> None:
    said = cli("check", many_pairs)
    assert said.code == 2 and "runs in one process" in said.err and "2 processes" in said.err
    said = cli("train", many_pairs, "--backbone", tiny_encoder, "--freeze-backbone", "--out", "run")
    assert said.code == 2 and "frozen backbone trains in one process" in said.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_what_accelerate_reads_and_say_what_was_run(path: Path) -> None:
    load_config_from_file(str(path))
    text = path.read_text(encoding="utf-8")
    assert f"--config_file {path.name} -m assay.cli train" in text and "\n# Run: " in text
    settings: dict[str, Any] = yaml.safe_load(text)
    assert settings["num_processes"] > 1
    # a step of the data loader is a step of the optimiser
    assert settings.get("deepspeed_config", {}).get("gradient_accumulation_steps", 1) == 1


def test_four_configurations_ship() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"cpu", "ddp", "fsdp", "deepspeed_zero2"}
