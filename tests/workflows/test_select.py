"""What to judge next, by the command line: chosen, written, filled in, and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import pairs, read
from assay.workflows.select_verb import best_of_prompts
from assay.workflows.unjudged import Candidates, candidates
from tests.workflows.conftest import Cli, run

FROZEN = ["--freeze-backbone", "--epochs", 4, "--calibration-folds", 2, "--resamples", 100]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, many_pairs: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds: dict[str, list[Any]] = {
        "plain": [],
        "ensemble": ["--ensemble.members", 3],
        "laplace": ["--laplace"],
        "prototypes": ["--head", "prototypes"],
        "preference": ["--head", "preference"],
    }
    for name, words in kinds.items():
        said = run("train", many_pairs, "--out", folder / name, "--backbone", tiny_encoder, *FROZEN, *words)
        assert said.code == 0, said.err
    return {name: folder / name for name in kinds}


def unlabelled(count: int = 30, **more: Any) -> Path:
    """Write prompts with three answers that nobody compared."""
    words = ["fine", "clear", "answer", "no", "idea", "boring", "whatever", "helps"]
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": f"Ask {n}", "responses": [" ".join(rng.choice(words, 4)) + f" {k}" for k in range(3)], **more}
        for n in range(count)
    ]
    Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("pool.jsonl")


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("model", "method", "expected"),
    [
        ("plain", "auto", "margin"),
        ("ensemble", "auto", "bald"),
        ("ensemble", "disagreement", "disagreement"),
        ("laplace", "auto", "bald"),
        ("prototypes", "novelty", "novelty"),
        ("preference", "margin", "margin"),
        ("plain", "random", "random"),
    ],
)
def test_pairs_are_chosen(cli: Cli, models: dict[str, Path], model: str, method: str, expected: str) -> None:
    said = cli("select", models[model], unlabelled(), "--out", "next", "--count", 8, "--method", method)
    assert said.code == 0, said.err
    assert f"8 of 30 pairs, by {expected}" in said.out
    rows, ranking = lines("next/pairs.jsonl"), lines("next/ranking.jsonl")
    assert len(rows) == len(ranking) == 8 and len({row["prompt"] for row in rows}) == 8
    assert [row["id"] for row in rows] == [row["id"] for row in ranking]
    assert all(row["winner"] is None and row["response_a"] != row["response_b"] for row in rows)
    assert not any({"value", "probability_a", "std"} & row.keys() for row in rows), "nothing that would sway a judge"
    metrics = json.loads(Path("next/metrics.json").read_text())
    assert metrics["method"] == expected and metrics["candidates"] == 30
    if expected != "random":
        assert metrics["value"]["selected"] >= metrics["value"]["all"]


def test_what_annotators_fill_in_is_read(cli: Cli, models: dict[str, Path]) -> None:
    assert cli("select", models["plain"], unlabelled(), "--out", "next", "--count", 6, "--no-diverse").code == 0
    rows = lines("next/pairs.jsonl")
    for row, winner in zip(rows, ["a", "b", "tie", "a", None, "b"], strict=True):
        row["winner"] = winner
    Path("judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = pairs(read("judged.jsonl"))
    assert len(view) == 5 and sorted(view.p.tolist()) == [0.5, 1, 1, 1, 1]
    prompt, better, _ = view.texts(0)
    assert better == rows[0]["response_a"] and rows[0]["prompt"] in str(prompt)
    said = cli("select", models["plain"], "pool.jsonl", "--out", "then", "--exclude", "judged.jsonl")
    assert said.code == 0 and "left out" in said.err
    assert {row["prompt"] for row in lines("then/pairs.jsonl")}.isdisjoint({row["prompt"] for row in rows[:4]})


def test_dialogues_are_shown_whole(cli: Cli, models: dict[str, Path]) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Ask"},
    ]
    rows = [
        {"prompt": [*turns[:2], {"role": "user", "content": f"Ask {n}"}], "responses": ["fine", "no"]} for n in range(5)
    ]
    Path("chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("select", models["plain"], "chat.jsonl", "--out", "next", "--count", 2).code == 0
    found = lines("next/pairs.jsonl")
    assert [turn["role"] for turn in found[0]["conversation_a"]] == ["user", "assistant", "user", "assistant"]
    found[0]["winner"] = "b"
    Path("judged.jsonl").write_text(json.dumps(found[0]) + "\n")
    assert len(pairs(read("judged.jsonl"))) == 1


def test_judged_pairs_and_seen_prompts_are_left_out(cli: Cli, models: dict[str, Path], many_pairs: Path) -> None:
    said = cli("select", models["plain"], many_pairs, "--out", "next")
    assert said.code == 0 and "left out 104 of 130 records: their prompts trained the model" in said.err
    assert all(row["prompt"].startswith("Name tool") for row in lines("next/pairs.jsonl"))
    data = read(str(unlabelled(2)))
    assert len(candidates(data).row) == 6
    one = [
        {"prompt": "Ask", "chosen": "fine", "rejected": "no"},
        {"prompt": "Ask", "chosen": "clear", "rejected": "no"},
    ]
    Path("partly.jsonl").write_text("".join(json.dumps(row) + "\n" for row in one))
    partly = read("partly.jsonl")
    left = candidates(partly)
    assert {partly[0]["responses"][left.a[0]], partly[0]["responses"][left.b[0]]} == {"fine", "clear"}


def test_best_of_prompts() -> None:
    given = Candidates(np.array([0, 0, 1, 1, 1]), np.zeros(5, np.int64), np.ones(5, np.int64))
    value = np.array([1.0, 2.0, 5.0, 3.0, 4.0])
    assert best_of_prompts(given, value, 1).tolist() == [1, 2]
    assert best_of_prompts(given, value, 2).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "bald"], "tells how sure it is"),
        (["--method", "novelty"], "needs prototypes"),
        (["--method", "bold"], "did you mean bald"),
        (["--count", 0], "greater than or equal to 1"),
    ],
)
def test_what_a_model_cannot_do(cli: Cli, models: dict[str, Path], words: list[Any], message: str) -> None:
    said = cli("select", models["plain"], unlabelled(), "--out", "next", *words)
    assert said.code == 2 and message in said.err, said.err
    assert not Path("next").exists()


def test_nothing_to_choose_from(cli: Cli, models: dict[str, Path]) -> None:
    Path("lone.jsonl").write_text('{"prompt": "Ask", "responses": ["fine", "fine"]}\n')
    said = cli("select", models["plain"], "lone.jsonl", "--out", "next")
    assert said.code == 2, said.err
    Path("only.jsonl").write_text('{"prompt": "Ask"}\n')
    said = cli("select", models["plain"], "only.jsonl", "--out", "next")
    assert said.code == 2 and "two responses" in said.err
    assert cli("select", models["plain"], unlabelled(), "--out", "next", "--dry-run").code == 0
    assert not Path("next").exists()
