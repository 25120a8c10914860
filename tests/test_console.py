from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from assay.console import progress, run_verb, say, show, show_table
from assay.errors import ConfigError


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def wrong() -> None:
        raise ConfigError("one [bold] problem", remedy="assay --help")

    assert run_verb(lambda: None) == 0
    assert run_verb(lambda: 1) == 1
    assert run_verb(interrupted) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert run_verb(wrong) == 2
    assert capsys.readouterr() == ("", "error: one [bold] problem\n  try:      assay --help\n")
    with pytest.raises(ZeroDivisionError):
        run_verb(lambda: 1 // 0)


@pytest.mark.parametrize("printer", ["show('x' * 100)", "show_table([['x' * 100]] * 100, ['text'])"])
def test_reader_that_goes_away(printer: str) -> None:
    code = (
        "import sys; from assay.console import run_verb, show, show_table\n"
        f"def verb():\n    for _ in range(10000): {printer}\n"
        "sys.exit(run_verb(verb))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_text_that_the_terminal_cannot_show_does_not_end_the_work() -> None:
    code = "from assay.console import run_verb, show; run_verb(lambda: show('gr\\u00f6\\u00dfer \\ud83d'))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == b"gr\\xf6\\xdfer \\ud83d\n"


def test_results_and_progress_go_apart_and_brackets_stay(capsys: pytest.CaptureFixture[str]) -> None:
    show("[/red] result :smile:")
    say("[/red] work " + "x" * 300)
    assert capsys.readouterr() == ("[/red] result :smile:\n", "[/red] work " + "x" * 300 + "\n")


def test_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # set where tests run in several processes
    show_table([["[/a]", 0.123456, None], ["b" * 120, 12.0, 3]], ["name", "value", "count"], title="metrics")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "metrics"
    assert any("[/a]" in line and "0.1235" in line and line.rstrip().endswith("-") for line in lines)
    assert any("b" * 120 in line and line.rstrip().endswith("3") for line in lines)


def test_progress_without_a_terminal_is_silent_but_for_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    seen = []
    for item in progress([1, 2, 3, 4], "reading", every_seconds=20):
        seen.append(item)
        clock[0] += 10
    assert seen == [1, 2, 3, 4]
    assert capsys.readouterr() == ("", "reading: 2 of 4 (50%), 20 s\nreading: 4 of 4 (100%), 40 s\n")
    assert list(progress(3, "counting")) == [0, 1, 2]
    with progress(None, "waiting", every_seconds=20) as bar:
        clock[0] += 25
        bar.advance(3000)
    assert capsys.readouterr() == ("", "waiting: 3,000, 25 s\n")


def test_progress_on_a_terminal_draws_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress(iter("abc"), "[/x] reading")) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[/x] reading" in captured.err
