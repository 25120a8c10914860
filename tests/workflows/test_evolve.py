"""Rounds of self-labels, by the command line: what is kept, why it ends, and how to go back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import pairs, read
from assay.scorers import RewardModel
from tests.workflows.conftest import SMALL, Cli, tree

FROZEN = ["--freeze-backbone", "--epochs", 6, "--calibration-folds", 2, "--resamples", 100]


def unjudged(count: int = 120) -> Path:
    """Write prompts with a good and a bad answer that nobody compared, in the words of ``many_pairs``."""
    rng = np.random.default_rng(5)
    good, bad = ["fine", "clear", "answer", "example", "helps"], ["no", "idea", "boring", "nonsense", "whatever"]
    rows = []
    for n in range(count):
        answers = [" ".join(rng.choice(pool, rng.integers(2, 8))) for pool in (good, bad)]
        rows.append({"prompt": f"Free {n}", "responses": answers[:: 1 if n % 2 else -1]})
    Path("free.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path("free.jsonl")


def history(folder: str = "run") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "history.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("words", [[], ["--soft", "--rule", "two", "--gap", 0.1]], ids=["verdicts", "soft"])
def test_rounds(cli: Cli, tiny_encoder: Path, many_pairs: Path, words: list[Any]) -> None:
    common = ["--backbone", tiny_encoder, *FROZEN, "--rounds", 2, *words]
    said = cli("evolve", many_pairs, "--unlabelled", unjudged(), "--out", "run", *common)
    assert said.code == 0, said.err
    told = history()
    assert told["rounds"][0]["labels"] == 0 and f"the result is round {told['best']}" in said.out
    labels = [one["labels"] for one in told["rounds"]]
    assert labels == sorted(labels) and len(told["rounds"]) > 1 and labels[1] > 0
    best = min(told["rounds"], key=lambda one: one["nll"])
    assert told["best"] == best["round"]
    # every pair is labelled in one round at most, and what a round adds says so
    seen: set[tuple[str, int, int]] = set()
    for number in range(1, len(labels)):
        added = read(f"run/round-{number}/labels.parquet")
        view = pairs(added)
        assert len(view) == labels[number] - labels[number - 1]
        assert {edge["round"] for edges in added["edges"] for edge in edges} == {number}
        assert set(view.source) == {"weak"}
        names = {(added[int(r)]["prompt_id"], int(a), int(b)) for r, a, b in zip(view.row, view.a, view.b, strict=True)}
        assert not names & seen
        seen |= names
        assert set(view.p.tolist()) <= {0.0, 1.0} or "--soft" in words
    model, kept = (RewardModel.from_pretrained(folder) for folder in ("run", f"run/round-{told['best']}"))
    assert np.array_equal(model.score(["Free 1"], ["fine clear"]), kept.score(["Free 1"], ["fine clear"]))
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["evaluation"] == told["rounds"][told["best"]]["evaluation"]


def test_the_labels_are_the_model_s_own(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    common = ["--backbone", tiny_encoder, *FROZEN, "--rounds", 1]
    assert cli("evolve", many_pairs, "--unlabelled", unjudged(), "--out", "run", *common).code == 0
    model, added = RewardModel.from_pretrained("run/round-0"), read("run/round-1/labels.parquet")
    for row in added:
        for edge in row["edges"]:
            a, b = model.score([row["prompt"]] * 2, [row["responses"][edge["a"]], row["responses"][edge["b"]]])
            assert (a > b) == (edge["p"] == 1.0)


def test_going_back(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = ["evolve", many_pairs, "--unlabelled", unjudged(), "--out", "run", "--backbone", tiny_encoder, *FROZEN]
    assert cli(*words, "--rounds", 2).code == 0
    last = len(history()["rounds"]) - 1
    said = cli(*words, "--back-to", 7)
    assert said.code == 2 and f"0 to {last}" in said.err
    said = cli(*words, "--back-to", 0)
    assert said.code == 0 and "the result is round 0" in said.out, said.err
    assert history()["best"] == 0 and not Path("run/round-1").exists()
    one, other = (RewardModel.from_pretrained(folder) for folder in ("run", "run/round-0"))
    assert np.array_equal(one.score(["a"], ["fine"]), other.score(["a"], ["fine"]))
    assert not any("partial" in name for name in tree(Path("run")))
    said = cli(*words[:4], "--out", "elsewhere", "--back-to", 0)
    assert said.code == 2 and "no finished run" in said.err


def test_an_interrupted_run_goes_on(
    cli: Cli, tiny_encoder: Path, many_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.workflows import evolve_verb

    words = ["evolve", many_pairs, "--unlabelled", unjudged(), "--backbone", tiny_encoder, *FROZEN, "--rounds", 2]
    assert cli(*words, "--out", "whole").code == 0
    once, calls = evolve_verb.fit, iter(range(10))

    def stop(*given: Any, **named: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return once(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(evolve_verb, "fit", stop)
        assert cli(*words, "--out", "torn").code != 0
    said = cli(*words, "--out", "torn", "--resume", "--seed", 3)
    assert said.code == 2 and "seed" in said.err
    assert cli(*words, "--out", "torn", "--resume").code == 0
    one, other = history("whole"), history("torn")
    assert [each["nll"] for each in one["rounds"]] == [each["nll"] for each in other["rounds"]]
    assert [each["labels"] for each in one["rounds"]] == [each["labels"] for each in other["rounds"]]


def test_whole_models_evolve_too(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = ["--backbone", tiny_encoder, *SMALL, "--max-length-tokens", 48, "--rounds", 1]
    said = cli("evolve", many_pairs, "--unlabelled", unjudged(40), "--out", "run", *words)
    assert said.code == 0, said.err
    assert not any("checkpoint" in name for name in tree(Path("run")))


def test_judgements_may_be_hidden(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = ["--backbone", tiny_encoder, *FROZEN, "--rounds", 1, "--judged-share", 0.3]
    said = cli("evolve", many_pairs, "--out", "run", *words)
    assert said.code == 0 and "known: 62 judgements; hidden: 146" in said.err, said.err
    assert history()["rounds"][1]["labels"] > 0
    said = cli("evolve", many_pairs, "--out", "again", "--backbone", tiny_encoder, *FROZEN)
    assert said.code == 2 and "--judged-share 0.1" in said.err


def test_a_model_that_is_sure_of_nothing_ends_the_rounds(cli: Cli, tiny_encoder: Path, many_pairs: Path) -> None:
    words = ["--backbone", tiny_encoder, *FROZEN, "--rule", "two", "--gap", 0.999]
    said = cli("evolve", many_pairs, "--unlabelled", unjudged(20), "--out", "run", *words)
    assert said.code == 0 and "sure of no further pair" in said.out
    assert len(history()["rounds"]) == 1 and history()["best"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head", "preference"], "the rules look at scores"),
        (["--objective", "listnet"], "rounds label pairs"),
        (["--high", 0.3], "greater than or equal to 0.5"),
    ],
)
def test_what_rounds_cannot_do(cli: Cli, pairs_file: Path, words: list[Any], message: str) -> None:
    said = cli("evolve", pairs_file, "--unlabelled", unjudged(4), "--out", "run", *words)
    assert said.code == 2 and message in said.err, said.err


def test_nothing_to_label(cli: Cli, many_pairs: Path, tiny_encoder: Path) -> None:
    Path("only.jsonl").write_text('{"prompt": "Ask"}\n')
    said = cli("evolve", many_pairs, "--unlabelled", "only.jsonl", "--out", "run", "--backbone", tiny_encoder, *FROZEN)
    assert said.code == 2 and "nothing to label" in said.err and not Path("run").exists()
    said = cli(
        "evolve",
        many_pairs,
        "--unlabelled",
        unjudged(4),
        "--out",
        "run",
        "--backbone",
        tiny_encoder,
        *FROZEN,
        "--dry-run",
    )
    assert said.code == 0 and "label among 4 pairs" in said.out and not Path("run").exists()
