from __future__ import annotations

import doctest

import pytest

import assay.config
from assay.config import parse
from tests.config.models import Train


def page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as caught:
        parse(Train, ["--epochs", "x", "--help"], prog="assay train", summary="Train a reward model. 100 % yours.")
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_shows_every_setting_once_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(capsys, monkeypatch, 100)
    lines = text.splitlines()
    assert lines[0] == "usage: assay train DATA [OTHER] [--flag value ...]"
    for title in ("arguments:", "Where and how it runs:", "settings:", "target:", "lora:", "files and help:"):
        assert lines.count(title) == 1
    assert "  --test-share NUMBER       share of the groups held out (default: 0.2)" in lines
    assert "  --center, --no-center     (default: True)" in lines
    assert "  --target.kind plain|mmpo|smooth" in lines
    assert "  Low-rank adapters (off unless one is given)" in lines
    assert "  --mapping.KEY TEXT" in lines
    assert "  DATA                      judgements: a file, a folder or a Hub id (required)" in lines
    flags = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    assert len(flags) == len(set(flags))
    assert {"--seed", "--lora.rank", "--freeze-backbone", "--config"} <= set(flags)


def test_group_default_is_shown_not_the_default_of_its_class(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(capsys, monkeypatch, 100)
    assert "--target.gamma NUMBER     sharpness (default: 2.0)" in text
    assert "how it is made (default: mmpo)" in text


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_wraps_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    assert max(map(len, page(capsys, monkeypatch, columns).splitlines())) <= min(columns, 110)


def test_worked_example_of_the_docstring() -> None:
    result = doctest.testmod(assay.config, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.attempted > 0
    assert result.failed == 0
