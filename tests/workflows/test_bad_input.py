"""Bad input to `assay train`: one clear message with place and remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.conftest import Cli, Said, environment, tree

GOOD = [json.dumps({"prompt": f"Name sea {i}.", "chosen": "fine", "rejected": "no"}) for i in range(12)]
PAIR = {"prompt": "Name a sea.", "chosen": "fine", "rejected": "no"}


def with_line(line: str) -> str:
    return "\n".join([*GOOD[:6], line, *GOOD[6:]]) + "\n"


def with_pair(**cells: Any) -> str:
    """Return good rows that all have the cell's column, one of them with a bad value in row 7."""
    rows = [json.loads(line) | {name: 0.75 for name in cells if name not in PAIR} for line in GOOD]
    rows.insert(6, PAIR | cells)
    return "\n".join(map(json.dumps, rows)) + "\n"


def assert_refused(said: Said, *parts: str) -> None:
    """Check for exactly one message, on standard error, that names all ``parts``."""
    assert said.code == 2, said.err
    assert said.out == ""
    assert said.err.count("error: ") == 1 and "Traceback" not in said.err
    for part in (*parts, "try:"):
        assert part in said.err, said.err


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("malformed line", with_line('{"prompt": "x", '), ("d.jsonl:7", "try:")),
        ("missing column", with_line('{"prompt": "x", "chosen": "y"}'), ("d.jsonl:7:rejected", "expected:")),
        ("column missing everywhere", '{"prompt": "x", "chosen": "y"}\n', ("d.jsonl", "--mapping")),
        ("wrong type", with_pair(chosen=3), ("d.jsonl:7:chosen", "expected:", "got:      3")),
        ("NaN target", with_pair(target=float("nan")), ("d.jsonl:7:target", "got:      nan")),
        ("target outside", with_pair(target=1.5), ("d.jsonl:7:target", "[0, 1]", "1.5")),
        ("negative weight", with_pair(weight=-1.0), ("d.jsonl:7:weight", "-1")),
        ("empty file", "", ("d.jsonl", "at least one row")),
        ("blank lines only", "\n\n", ("d.jsonl", "at least one row")),
        ("one response", '{"instruction": "Q", "generations": ["A"], "ratings": [5]}\n', ("one response only",)),
        ("ratings", '{"prompt": "Q", "completion": "A", "label": 1}\n', ("one response only", "--mapping.prompt")),
        ("no verdict", '{"prompt": "Q", "response": "A"}\n', ("no pair of responses is judged", "--mapping.choice")),
        ("one group", GOOD[0] + "\n", ("too few split groups", "try:")),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)  # fmt: skip
def test_bad_rows(name: str, content: str, parts: tuple[str, ...], cli: Cli, tiny_encoder: Path) -> None:
    Path("d.jsonl").write_text(content, "utf-8")
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "runs/new")
    assert_refused(said, *parts)
    assert tree(Path()) == ["d.jsonl"]


def test_unlabelled_responses(cli: Cli, tiny_encoder: Path) -> None:
    Path("d.jsonl").write_text('{"q": "Q", "answers": ["A", "B"]}\n', "utf-8")
    flags = ("--mapping.prompt", "q", "--mapping.responses", "answers[]")
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "runs/new", *flags)
    assert_refused(said, "no pair of responses is judged", "2 responses to 1 prompts", "--mapping.choice")
    assert tree(Path()) == ["d.jsonl"]


def test_prompts_without_a_judgement_are_left_out_and_counted(cli: Cli, tiny_encoder: Path) -> None:
    rows = [{"q": f"Q{i}", "answers": ["A", "B"], "best": i % 2 if i < 9 else None} for i in range(10)]
    rows[8]["best"] = "unsure"
    Path("d.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    flags = ["--mapping.prompt", "q", "--mapping.responses", "answers[]", "--mapping.choice", "best"]
    flags += ["--mapping.choice-names.unsure", "skip"]
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "new", "--dry-run", *flags)
    assert said.code == 0, said.err
    assert "8 judgements" in said.err and "dropped: " in said.err


def test_all_problems_of_the_settings_at_once(cli: Cli) -> None:
    said = cli("train", "--epoch", 3, "--test-share", "all", "--lora.rnk", 4)
    assert_refused(said, "did you mean --epochs?", "--lora.rank", "--test-share: expected", "DATA: required", "--out")
    Path("c.yaml").write_text("epochz: 3\n", "utf-8")
    said = cli("train", "d.jsonl", "--out", "new", "--config", "c.yaml")
    assert_refused(said, "c.yaml: epochz: no such setting; did you mean epochs?", "assay train --help")


def test_no_such_data(cli: Cli, tiny_encoder: Path) -> None:
    Path("judgements.jsonl").write_text(GOOD[0], "utf-8")
    said = cli("train", "judgement.jsonl", "--backbone", tiny_encoder, "--out", "new")
    assert_refused(said, "did you mean judgements.jsonl?")


def test_every_prompt_in_the_test_data(cli: Cli, tiny_encoder: Path) -> None:
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    said = cli("train", "d.jsonl", "--test", "d.jsonl", "--backbone", tiny_encoder, "--out", "new")
    assert_refused(said, "every training prompt is also in the test data", "12 of 12")
    assert tree(Path()) == ["d.jsonl"]


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "./no/such/folder"])
def test_unknown_backbone(name: str, cli: Cli) -> None:
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    assert_refused(cli("train", "d.jsonl", "--backbone", name, "--out", "new"), name, "--backbone minilm")
    assert tree(Path()) == ["d.jsonl"]


@pytest.mark.slow
def test_unknown_backbone_without_network_is_quick() -> None:
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    words = [sys.executable, "-m", "assay.cli", "train", "d.jsonl", "--backbone", "nobody/no-such-model", "--out", "n"]
    # a proxy that refuses at once stands for a machine without network
    env = environment() | {"HF_HUB_OFFLINE": "0", "HTTPS_PROXY": "http://127.0.0.1:9", "HF_HOME": str(Path.cwd() / "h")}
    started = time.monotonic()
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert (
        done.returncode == 2
        and "cannot be reached: only what is cached" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert time.monotonic() - started < 30  # imports included


@pytest.mark.parametrize(
    ("out", "parts"),
    [
        ("there", ("there: this exists already", "--overwrite")),
        ("file/run", ("/file: a file is in the way of a folder",)),
        ("/proc/run", ("/proc", "try:")),
    ],
)
def test_places_that_cannot_be_written(out: str, parts: tuple[str, ...], cli: Cli, tiny_encoder: Path) -> None:
    Path("there").mkdir()
    Path("there/mine").touch()
    Path("file").touch()
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    before = tree(Path())
    assert_refused(cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", out, "--epochs", 1), *parts)
    assert tree(Path()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(cli: Cli, tiny_encoder: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "locked/run", "--epochs", 1)
    assert_refused(said, "no permission to write", "try:")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_full_disk_leaves_nothing(
    error: OSError, cli: Cli, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.scorers import RewardModel

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(RewardModel, "save_pretrained", refuse)
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    flags = ("--freeze-backbone", "--epochs", 1)
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "run", *flags)
    assert_refused(said, "run", "try:")
    assert "disk" in said.err
    assert tree(Path()) == ["d.jsonl"]


def test_loss_that_is_no_number(cli: Cli, tiny_encoder: Path) -> None:
    Path("d.jsonl").write_text("\n".join(GOOD), "utf-8")
    flags = ("--epochs", 1, "--logging-steps", 1, "--pairs-per-step", 2, "--learning-rate", 1e30)
    said = cli("train", "d.jsonl", "--backbone", tiny_encoder, "--out", "run", *flags)
    assert said.code == 2 and "loss" in said.err and "learning rate" in said.err
    assert not Path("run").exists()
