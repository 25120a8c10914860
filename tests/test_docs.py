"""What the documentation tells people to type exists: verbs, flags, make targets, mappings, Python."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.cli import VERBS, main, verb_named
from assay.config import build, parse
from assay.config.fields import locate
from assay.workflows.judge_settings import CheckSettings
from assay.workflows.recipe_stages import RunRecipeSettings, find_recipe

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md")
WRITTEN = [path for path in PAGES if path.is_file()]
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EVERY_VERB = {"config", "help", "version"}


def blocks(text: str, language: str) -> Iterator[str]:
    """Yield the contents of the fenced blocks of one language."""
    yield from (found[2] for found in _BLOCK.finditer(text) if found[1] == language)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command in the shell blocks of a page, and of those that stand indented."""
    indented = "\n".join(re.findall(r"^    (assay .*)$", text, re.MULTILINE))
    for block in (*blocks(text, "bash"), indented):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def make_targets() -> set[str]:
    found = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return set(found)


def command_problem(words: list[str]) -> str | None:
    """Say why a command cannot be meant as it stands, or None."""
    if words[0] == "make":
        missing = [word for word in words[1:] if word not in make_targets()]
        return f"no such target: {missing}" if missing else None
    if words[0] != "assay":
        return None
    if words[1:] in (["--help"], ["--version"]):
        return None
    try:
        settings = parse(verb_named(words[1]).of_words(words[2:]).settings, words[2:], prog="assay", summary="")
        if isinstance(settings, RunRecipeSettings) and not settings.recipe.endswith((".yaml", ".yml")):
            find_recipe(settings.recipe)
    except Exception as error:
        return str(error)
    return None


def flags(text: str) -> Iterator[str]:
    """Yield the flags in inline code, without those that a table gives as another program's."""
    foreign = False
    for line in _BLOCK.sub("", text).splitlines():
        if line.startswith("|"):
            foreign = foreign or line.startswith("| TRL")
            line = line.split("|", 2)[2] if foreign else line
        else:
            foreign = False
        for code in re.findall(r"`([^`]+)`", line):
            yield from re.findall(r"--([A-Za-z][\w.-]*)", code)


def flag_exists(name: str) -> bool:
    name = name.rstrip(".")
    verbs = [verb_named(verb) for verb in VERBS]
    models = [each.settings for verb in verbs for each in (verb, *verb.by_method.values())]
    # a switch that is on is turned off by its negation
    return name in _EVERY_VERB or any(locate(model, name.removeprefix("no-")) for model in models)


def test_there_is_a_readme() -> None:
    if not WRITTEN:
        pytest.skip("no documentation yet")
    assert any(words[0] == "make" for words in commands((ROOT / "README.md").read_text("utf-8")))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_commands_parse(path: Path) -> None:
    problems = {shlex.join(words): command_problem(words) for words in commands(path.read_text("utf-8"))}
    assert {command: problem for command, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_flags_in_the_text_exist(path: Path) -> None:
    assert [name for name in flags(path.read_text("utf-8")) if not flag_exists(name)] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_yaml_blocks_are_settings(path: Path) -> None:
    for block in blocks(path.read_text("utf-8"), "yaml"):
        content = yaml.safe_load(block)
        if set(content) == {"mapping"}:
            build(CheckSettings, content | {"data": "d.jsonl"})


@pytest.mark.parametrize(
    "words", ["assay trian d", "assay train d --out r --epoch 3", "make everything", "assay run x"]
)
def test_wrong_commands_are_noticed(words: str) -> None:
    assert command_problem(words.split())


def test_wrong_flags_are_noticed() -> None:
    page = "Use `--lr`.\n\n| TRL | assay |\n|---|---|\n| `--learning_rate` | `--learning-rat` |\n\n`--bf16` no more"
    assert list(flags(page)) == ["lr", "learning-rat", "bf16"]
    assert [flag_exists(name) for name in ("lr", "learning-rat", "learning-rate", "lora.rank", "mapping.prompt")] == [
        False, False, True, True, True,
    ]  # fmt: skip


def test_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs_file: Path, tiny_encoder: Path
) -> None:
    path = ROOT / "README.md"
    code = list(blocks(path.read_text("utf-8"), "python")) if path.is_file() else []
    if not code:
        pytest.skip("no Python in the README yet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_bytes(pairs_file.read_bytes())
    words = ["train", "pairs.jsonl", "--out", "runs/first", "--backbone", str(tiny_encoder), "--freeze-backbone"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main([*words, "--epochs", "2", "--resamples", "200"]) == 0
        names: dict[str, Any] = {}
        for block in code:
            # the packaged backbone would do the same, slower
            exec(compile(block.replace('"minilm"', repr(str(tiny_encoder))), "README.md", "exec"), names)
