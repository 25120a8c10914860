"""``assay task``: what it writes is what other verbs read, and what cannot be built is refused beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.feedback import read
from assay.feedback.tasks.task import read_answer
from tests.workflows.conftest import Cli

LABELS = ("entailment", "neutral", "contradiction")


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


@pytest.fixture
def nli() -> Path:
    """Write 120 examples of e-SNLI's layout; a premise has two hypotheses."""
    rows = [
        {
            "premise": f"Person {k // 2} runs.",
            "hypothesis": f"Somebody {k} moves.",
            "label": LABELS[k % 3],
            "explanations": [f"because of {k}", f"as {k} says"],
            "split": "test" if k >= 90 else "dev",
        }
        for k in range(120)
    ]
    Path("nli.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Path("nli.jsonl")


def test_a_task_becomes_prompts_answers_and_pairs(cli: Cli, nli: Path) -> None:
    said = cli("task", "esnli", nli, "--out", "t", "--test-part", "test")
    assert said.code == 0, said.err
    assert sorted(path.name for path in Path("t").iterdir() if path.name[0] != ".") == [
        "label.parquet", "label_test.parquet", "metrics.json", "prompts.jsonl", "rationale.parquet",
        "rationale_test.parquet", "swapped_label.parquet", "task.json", "teach.jsonl", "teach_label.jsonl",
        "test.jsonl", "wrong_rationale.parquet",
    ]  # fmt: skip
    found = json.loads(Path("t/metrics.json").read_text("utf-8"))
    assert found["shares"] == {"teaching": 36, "pairs": 36, "asked": 18, "test": 30} and found["removed"] == 0
    assert found["pairs"]["label"]["pairs"] == 36 and found["pairs"]["rationale"]["source"] == "human and borrowed"
    # no premise is in two shares, nor in both sides of the pairs
    asked = {
        name: {row["prompt"][0]["content"].splitlines()[0] for row in lines_of(f"t/{name}.jsonl")}
        for name in ("teach", "prompts", "test")
    }
    paired = [
        {row[0]["content"].splitlines()[0] for row in read(f"t/{name}.parquet")["prompt"]}
        for name in ("label", "label_test")
    ]
    every = [*asked.values(), *paired]
    assert all(not one & other for k, one in enumerate(every) for other in every[k + 1 :])
    controls = {row[0]["content"].splitlines()[0] for row in read("t/swapped_label.parquet")["prompt"]}
    assert controls <= paired[1] | {
        row[0]["content"].splitlines()[0] for row in read("t/rationale_test.parquet")["prompt"]
    }
    taught, plain = lines_of("t/teach.jsonl"), lines_of("t/teach_label.jsonl")
    assert taught[0]["completion"][0]["content"].startswith("because of ") and len(taught) == len(plain) == 36
    assert all(read_answer(row["completion"][0]["content"], LABELS).label in LABELS for row in (*taught, *plain))
    assert {row["ground_truth"] for row in lines_of("t/test.jsonl")} == set(LABELS)


def test_what_it_writes_is_what_others_read(cli: Cli, tiny_causal: Path) -> None:
    rows = [{"text": f"It is {k}.", "label": ("negative", "positive")[k % 2]} for k in range(120)]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert cli("task", "sst2", "mood.jsonl", "--out", "t", "--rationales", "none").code == 0
    words: list[Any] = ["--backbone", tiny_causal, "--max-length-tokens", 128, "--epochs", 1, "--validation-share", 0]
    said = cli("align", "t/teach.jsonl", "--out", "sft", "--method", "sft", *words, "--test-share", 0)
    assert said.code == 0, said.err
    said = cli("train", "t/label.parquet", "--test", "t/label_test.parquet", "--out", "rm", *words)
    assert said.code == 0, said.err
    said = cli("evaluate", "rm", "t/label_test.parquet", "--out", "swapped")
    assert said.code == 0, said.err
    reward = ["--reward.verifier.kind", "exact", "--reward.verifier.pattern", "Answer: (.*)$", "--dry-run"]
    room: list[Any] = ["--rollout.max-new-tokens", 8, "--max-length-tokens", 128]
    said = cli("align", "t/prompts.jsonl", "--out", "rl", "--method", "grpo", "--backbone", tiny_causal, *reward, *room)
    assert said.code == 0, said.err


def test_ordinal_tasks_and_choices(cli: Cli) -> None:
    rows = [{"prompt": f"x{k}", "response": f"y{k}", "grades": {"quality": 1 + k % 6}} for k in range(180)]
    Path("graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("task", "d2t_quality", "graded.jsonl", "--out", "g", "--wrong", "nearest")
    assert said.code == 0, said.err
    for row in read("g/label.parquet")["meta"]:
        meta = json.loads(row)
        assert abs(int(meta["better"]) - int(meta["worse"])) == 1
    asked = [
        {"question": f"Where is {k}?", "choices": [f"a{k}", "b", "c"], "answer": "b", "rationale": f"It is b, {k}."}
        for k in range(60)
    ]
    Path("choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    said = cli("task", "ecqa", "choices.jsonl", "--out", "c")
    assert said.code == 0, said.err
    assert json.loads(Path("c/metrics.json").read_text("utf-8"))["pairs"]["label"]["source"] == "templates"
    assert lines_of("c/test.jsonl")[0]["choices"][1:] == ["b", "c"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["eslni", "nli.jsonl"], "did you mean 'esnli'"),
        (["trec", "nli.jsonl"], "no layout of trec"),
        (["esnli", "nli.jsonl", "--wrong", "nearest"], "belong to ordinal tasks"),
        (["esnli", "nli.jsonl", "--template", "9"], "counted from 0"),
        (["esnli", "nli.jsonl", "--test-part", "train"], "no example is of that part"),
        (["esnli", "nli.jsonl", "--test", "nli.jsonl"], "too few groups"),
        (["esnli", "nli.jsonl", "--test-part", "test", "--test-share", "0.3"], "nothing is drawn beside"),
        (["mnli", "nli.jsonl", "--rationales", "borrowed"], "nobody explained a label"),
        (["esnli", "one.jsonl"], "one class alone"),
    ],
)
def test_what_cannot_be_built_is_refused(cli: Cli, nli: Path, words: list[str], reason: str) -> None:
    one = [json.dumps(json.loads(line) | {"label": "neutral"}) for line in nli.read_text("utf-8").splitlines()]
    Path("one.jsonl").write_text("\n".join(one), "utf-8")
    said = cli("task", *words, "--out", "no")
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


def test_the_plan_alone(cli: Cli, nli: Path) -> None:
    said = cli("task", "esnli", nli, "--out", "t", "--dry-run")
    assert said.code == 0 and "nothing was written" in said.out and not Path("t").exists()
