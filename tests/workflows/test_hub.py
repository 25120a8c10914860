"""Without network: one question to the Hub, and then caches only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.workflows.hub import asks_the_hub, use_cache_without_network
from assay.workflows.judge_settings import JudgeSettings
from assay.workflows.settings import TrainSettings


def settings(**given: Any) -> TrainSettings:
    return TrainSettings(**{"data": "d.jsonl", "out": "run"} | given)


def test_only_names_that_are_nothing_here_ask() -> None:
    Path("d.jsonl").touch()
    Path("org").mkdir()
    Path("org/model").mkdir()
    assert not asks_the_hub(settings())
    assert not asks_the_hub(settings(backbone="org/model"))
    assert not asks_the_hub(settings(data="/no/such/file"))
    assert asks_the_hub(settings(backbone="org/other"))
    assert asks_the_hub(settings(data="org/data:train"))
    assert asks_the_hub(JudgeSettings(model="org/other", data="d.jsonl"))


class Session:
    """Counts questions and answers none."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.asked = error, 0

    def head(self, *_: object, **__: object) -> None:
        self.asked += 1
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, ConnectionRefusedError(111, "refused")])
def test_asked_once(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets
    from huggingface_hub import constants

    session = Session(error)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: session)
    for _ in range(2):
        use_cache_without_network(settings(backbone="org/other"))
    assert constants.HF_HUB_OFFLINE == datasets.config.HF_HUB_OFFLINE == (error is not None)
    assert session.asked == (1 if error else 2)
    assert capsys.readouterr().err.count("cannot be reached") == (1 if error else 0)
