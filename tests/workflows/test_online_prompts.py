"""What an online run asks: prompts of any layout, the cells beside them, and truths that are looked at first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.config import build
from assay.errors import ConfigError, DataError
from assay.training.rollouts import Prompts
from assay.workflows.online_prompts import asks_in_chats, check_routes, check_truths, prompts_of, read_prompts
from assay.workflows.online_settings import OnlineSettings


def settings_of(rows: list[dict[str, Any]], **more: Any) -> OnlineSettings:
    Path("asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    given: dict[str, Any] = {"data": "asked.jsonl", "out": "-", "method": "rloo", "backbone": "-", "test_share": 0.0}
    given |= {"reward": {"verifier": {"kind": "numeric"}}}
    return build(OnlineSettings, given | more)


def asked(settings: OnlineSettings) -> Prompts:
    return prompts_of(read_prompts(settings)[0], asks_in_chats(settings))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [("prompt", "solution"), ("question", "answer"), ("problem", "solution"), ("prompt", "response"), ("query", "x")],
)
def test_a_prompt_and_what_stands_beside_it_need_no_mapping(columns: tuple[str, str]) -> None:
    found = asked(settings_of([dict(zip(columns, (f"What is {k}?", str(k)), strict=True)) for k in range(4)]))
    assert found.asked == [f"What is {k}?" for k in range(4)]
    assert found.columns[columns[1]] == ["0", "1", "2", "3"]


def test_a_mapping_is_one_of_prompts_unless_it_says_otherwise() -> None:
    rows = [{"task": f"What is {k}?", "gold": str(k), "level": k} for k in range(4)]
    found = asked(settings_of(rows, mapping={"prompt": "task", "ground_truth": "gold"}))
    assert found.columns["ground_truth"] == ["0", "1", "2", "3"] and found.columns["level"] == [0, 1, 2, 3]


def test_a_layout_that_nobody_knows_names_the_mapping() -> None:
    with pytest.raises(DataError) as caught:
        asked(settings_of([{"task": "What?", "gold": "4"}]))
    assert "try:      --mapping.prompt COLUMN" in str(caught.value)


def test_functions_get_the_kind_of_prompts_that_the_file_has() -> None:
    chats = [[{"role": "user", "content": f"What is {k}?"}] for k in range(3)]
    assert asked(settings_of([{"prompt": own, "ground_truth": "1"} for own in chats])).asked == chats
    assert asked(settings_of([{"prompt": own, "solution": "1"} for own in chats])).asked == chats
    plain = [own[0]["content"] for own in chats]
    assert asked(settings_of([{"prompt": own, "ground_truth": "1"} for own in plain])).asked == plain


def test_prompts_with_several_truths_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "What?", "ground_truth": "1"}, {"prompt": "What?", "ground_truth": "2"}]
    found = asked(
        settings_of([*rows, {"prompt": "Who?", "ground_truth": "1"}, {"prompt": "Who?", "ground_truth": "1"}])
    )
    assert found.columns["ground_truth"] == ["1", "1"]
    assert "1 prompts come more than once with different truths" in capsys.readouterr().err
    verifier = {"verifier": {"kind": "exact", "column": "solution"}}
    asked(settings_of([{"question": "What?", "solution": truth} for truth in "45"], reward=verifier))
    assert "1 prompts come more than once with different truths" in capsys.readouterr().err


def test_an_input_is_part_of_what_is_asked() -> None:
    found = asked(settings_of([{"prompt": "Summarise this:", "input": f"text {k}", "output": "s"} for k in range(3)]))
    assert [str(text).splitlines()[-1] for text in found.asked] == ["text 0", "text 1", "text 2"]


def test_truths_that_are_none_stop_before_anything_is_trained() -> None:
    settings = settings_of([{"prompt": f"What is {k}?", "ground_truth": "so" if k == 2 else str(k)} for k in range(4)])
    with pytest.raises(ConfigError, match="of 1 of 4 prompts"):
        check_truths(settings, asked(settings), None)
    other = settings_of([{"prompt": "What?", "solution": "4"}])
    with pytest.raises(ConfigError, match="the truth is not in the data") as caught:
        check_truths(other, asked(other))
    assert "one of solution" in str(caught.value) and "--reward.verifier.column" in str(caught.value)


def test_tasks_without_a_reward_stop_before_anything_is_trained() -> None:
    rows = [{"prompt": f"What is {k}?", "ground_truth": "1", "task": "a" if k else "b"} for k in range(4)]
    routed = {"reward": {"routes": {"a": "runs/rm"}}}
    settings = settings_of(rows, **routed)
    with pytest.raises(ConfigError, match="task of 1 of 4 prompts") as caught:
        check_routes(settings, asked(settings), None)
    assert "--reward.routes.TASK" in str(caught.value)
    settings = settings_of(rows[1:], **routed)
    check_routes(settings, asked(settings), None)
    settings = settings_of([{"prompt": "What?", "ground_truth": "1"}], **routed)
    with pytest.raises(ConfigError, match="a column task"):
        check_routes(settings, asked(settings))


def test_a_task_whose_right_label_is_rewarded_has_labels() -> None:
    """Each task by its own: a reward model, or the right label, of which only prompts of that task need to know."""
    rows = [{"prompt": f"What is {k}?", "task": "a" if k else "b", "ground_truth": "1"} for k in range(4)]
    labelled = [row | {"choices": ["1", "2"]} if row["task"] == "b" else row for row in rows]
    routed = {"reward": {"routes": {"a": "runs/rm", "b": "verifier"}}}
    settings = settings_of(labelled, **routed)
    check_routes(settings, asked(settings), None)
    for bad, reason in (
        (rows, "labels that there are"),
        ([*labelled[1:], labelled[0] | {"ground_truth": "3"}], "of 1 of 1"),
    ):
        settings = settings_of(bad, **routed)
        with pytest.raises(ConfigError, match=reason):
            check_routes(settings, asked(settings), None)


def test_a_share_in_which_all_truths_are_missing_is_no_error() -> None:
    settings = settings_of([{"prompt": f"What is {k}?", "ground_truth": str(k)} for k in range(4)])
    known = asked(settings)
    missing = Prompts(known.asked[:2], {"ground_truth": [None, None]})
    check_truths(settings, known, missing)
    check_truths(settings, known, None)
    with pytest.raises(ConfigError, match="the truth is not in the data"):
        check_truths(settings, missing, missing)
