"""Functions of ``assay label``: users' own, their windows, several processes, scorers and encoders."""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from assay.feedback import pairs, read
from tests.workflows.conftest import OWN, Cli, metrics_of


def test_windows_keep_what_they_do_not_name(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    from assay.workflows.label_functions import gather
    from assay.workflows.label_settings import FunctionSettings

    path = tmp_path / "windows.yaml"
    path.write_text("length: {most: 200}\nreading ease: {least: 10}\n")
    found = {each.name: each for each in gather(FunctionSettings(windows=str(path)))}
    length, ease = found["length"], found["reading ease"]
    assert (length.window.least, length.window.most, length.prefers) == (20, 200, "more")  # type: ignore[attr-defined]
    assert (ease.window.least, ease.window.most, ease.prefers) == (10, 50, "less")  # type: ignore[attr-defined]


def test_processes_label_alike(cli: Cli, many_pairs: Path, own: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        said = cli("label", many_pairs, "--functions", own, "--out", tmp_path / str(workers), "--workers", workers)
        assert said.code == 0, said.err
    one, two = (pairs(read(str(tmp_path / name / "records" / "weak.parquet"))) for name in "12")
    assert (one.p == two.p).all()


def test_processes_that_begin_anew_find_the_functions(
    cli: Cli, many_pairs: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
    monkeypatch.setattr("assay.feedback.labeling.applying.ProcessPoolExecutor", pool)
    options = ("--functions", own, "--presets", "", "--workers", 2)
    said = cli("label", many_pairs, *options, "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert [row["votes"] > 0 for row in metrics_of(tmp_path / "labels")["functions"]] == [True, True, True]


def test_function_that_cannot_be_sent_is_named(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "inner.py"
    path.write_text(
        "from assay.feedback.labeling import labeling_function\n"
        "def made():\n    @labeling_function\n    def inner(pair):\n        return 0\n    return inner\nmine = made()\n"
    )
    said = cli("label", many_pairs, "--functions", path, "--workers", 2, "--out", tmp_path / "labels")
    assert said.code == 2 and "labeling function inner: it cannot be sent to another process" in said.err, said.err
    assert cli("label", many_pairs, "--functions", path, "--out", tmp_path / "labels").code == 0


def test_copies_and_silent_functions_are_left_out_and_told(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    path = tmp_path / "copies.py"
    path.write_text(
        OWN
        + "\n\n@feature_function(least=1)\ndef again(text):\n    return good_words.feature.compute(text)\n"
        + "\n\n@feature_function(least=1)\ndef never(text):\n    return 0\n"
        + "\n\n@feature_function(least=2, prefers='less')\ndef opposed(text):\n    return again.feature.compute(text)\n"
    )
    said = cli("label", many_pairs, "--functions", path, "--presets", "", "--out", tmp_path / "labels")
    assert said.code == 0, said.err
    assert "left out 'again': it votes as 'good_words' on every pair" in said.err
    assert "left out 'never': it never votes here" in said.err
    assert "'good_words' and 'opposed' say the opposite on all" in said.err
    names = [row["name"] for row in metrics_of(tmp_path / "labels")["functions"]]
    assert names == ["good_words", "nonsense", "clear", "opposed"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("@labeling_function\ndef mine(pair):\n    return 7\n", "labeling function mine"),
        ("@labeling_function\ndef mine(pair):\n    raise KeyError('x')\n", "it raised KeyError"),
        ("@labeling_function\ndef mine(pair):\n    return pair.label\n", "there is no pair.label"),
        ("@labeling_function\ndef mine(pair):\n    return FIRST\n", "does not say the opposite"),
        ("def mine(pair):\n    return 1\n", "no labeling function in this file"),
        ("import nothing_of_that_name\n", "cannot be run"),
        ("import sys\nsys.exit(0)\n", "cannot be run: SystemExit"),
        ("@labeling_function\ndef mine(pair):\n    raise SystemExit(3)\n", "it raised SystemExit"),
        ("@labeling_function\ndef mine(pair):\n    return [1] if 'a' in pair.first else 1\n", "this is no vote"),
        ("@feature_function()\ndef length(text):\n    return 1\n", "is there already"),
    ],
)
def test_own_functions_that_break_are_named(cli: Cli, many_pairs: Path, tmp_path: Path, body: str, says: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from assay.feedback.labeling import *\n" + body)
    said = cli("label", many_pairs, "--functions", path, "--out", tmp_path / "labels")
    assert said.code == 2 and says in said.err, said.err
    assert not (tmp_path / "labels").exists()


def test_windows_that_are_none(cli: Cli, many_pairs: Path, tmp_path: Path) -> None:
    for text, says in (
        ("length: {least: 5, most: 2}", "no room"),
        ("length: {lest: 5}", "this is no window"),
        ("size: {least: 5}", "'size' is not one of"),
        ("[1]", "windows belong to functions"),
    ):
        path = tmp_path / "windows.yaml"
        path.write_text(text)
        said = cli("label", many_pairs, "--windows", path)
        assert said.code == 2 and says in said.err, said.err


def test_a_reward_model_and_an_encoder_vote(
    cli: Cli, many_pairs: Path, trained: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    said = cli(
        "label", many_pairs, "--presets", "", "--scorers", trained / "model", "--similarity", tiny_encoder,
        "--out", tmp_path / "labels",
    )  # fmt: skip
    assert said.code == 0, said.err
    names = [row["name"] for row in metrics_of(tmp_path / "labels")["functions"]]
    assert names == ["scorer model", "similarity"]


def test_two_scorers_of_one_name_both_vote(cli: Cli, many_pairs: Path, trained: Path, tmp_path: Path) -> None:
    said = cli(
        "label", many_pairs, "--presets", "", "--scorers", trained / "model", trained / "model", "--workers", 2,
        "--out", tmp_path / "labels",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "left out 'scorer model 2': it votes as 'scorer model' on every pair" in said.err
