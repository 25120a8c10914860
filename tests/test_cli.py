"""The command line itself: verbs, help, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import assay
from assay.cli import VERBS, help_page, main, verb_named
from assay.config import build, dump_yaml, parse
from assay.workflows.online_settings import OnlineSettings
from assay.workflows.run_settings import RunSettings

REQUIRED = {
    "check": ["d.jsonl"],
    "train": ["d.jsonl", "--out", "r"],
    "evaluate": ["m", "d.jsonl"],
    "calibrate": ["m", "d.jsonl", "--out", "r"],
    "score": ["m", "d.jsonl"],
    "label": ["x.jsonl"],
    "evolve": ["d.jsonl", "--out", "r", "--unlabelled", "u.jsonl"],
    "select": ["m", "d.jsonl", "--out", "s"],
    "classify": ["p", "t", "--out", "c"],
    "task": ["sst2", "d.jsonl", "--out", "t"],
    "strength": ["d.jsonl"],
    "align": ["d.jsonl", "--out", "r", "--backbone", "m"],
    "curriculum": ["p", "--tasks", "a", "b", "--out", "c"],
    "compare": ["p", "d.jsonl", "--out", "c", "--by", "m"],
    "study": ["d.jsonl", "--out", "s"],
    "serve": ["m"],
    "export": ["m", "--out", "r"],
    "run": ["demo"],
    "demo": [],
}

REWARD = {"reward": {"verifier": {"kind": "exact"}}, "band": [0.2, 0.8], "kl": {"target": 2.0}}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_common_flags(verb: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("seed: 7\n", "utf-8")
    words = [*REQUIRED[verb], "--config", str(config), "--overwrite", "--dry-run"]
    settings = parse(verb_named(verb).settings, words, prog=f"assay {verb}", summary="")
    assert isinstance(settings, RunSettings)
    assert (settings.seed, settings.overwrite, settings.dry_run) == (7, True, True)
    flagged = parse(verb_named(verb).settings, [*words, "--seed", "9"], prog=f"assay {verb}", summary="")
    assert isinstance(flagged, RunSettings) and flagged.seed == 9


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: assay {verb}")
    assert all(flag in page for flag in ("--config", "--seed", "--overwrite", "--dry-run"))


def test_methods_with_rewards_have_settings_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--method", "ppo"], ["--method=ppo"]):
        with pytest.raises(SystemExit):
            main(["align", *words, "--help"])
        assert "--reward.model" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["align", "--method", "dpo", "--help"])
    page = capsys.readouterr().out
    assert "--reward.model" not in page and "--method ppo --help" in " ".join(page.split())
    settings = build(OnlineSettings, {"data": "d", "out": "r", "method": "grpo", "backbone": "m"} | REWARD)
    (tmp_path / "c.yaml").write_text(dump_yaml(settings), "utf-8")
    words = ["--config", str(tmp_path / "c.yaml")]
    found = verb_named("align").of_words(words)
    assert parse(found.settings, words, prog="assay align", summary="") == settings


def test_page_of_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == help_page() + "\n"
    assert all(f"  {verb}" in help_page() for verb in VERBS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == assay.__version__


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    found = capsys.readouterr()
    assert found.out == "" and "no such verb: trian" in found.err and "assay train" in found.err


def test_module_runs_as_a_program() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(assay.__file__).parents[1])}
    words = [sys.executable, "-m", "assay.cli", "check", "nowhere.jsonl", "--backbone", "none"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: nowhere.jsonl: there is no such file or folder")
