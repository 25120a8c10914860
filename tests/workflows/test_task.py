"""``assay task``: what it writes is what other verbs read, and what cannot be built is refused beforehand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from assay.feedback import read
from assay.feedback.tasks.rationales import Templates
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


def test_the_sets_own_test_tests_unless_another_is_asked_for(cli: Cli, nli: Path) -> None:
    own = cli("task", "esnli", nli, "--out", "own")
    drawn = cli("task", "esnli", nli, "--out", "drawn", "--test-share", 0.2)
    assert own.code == drawn.code == 0 and "the column split calls test" in own.err, own.err
    assert "the column split calls" not in drawn.err
    tested = [{row["prompt"][0]["content"] for row in lines_of(f"{name}/test.jsonl")} for name in ("own", "drawn")]
    numbers = [sorted(int(re.findall(r"Somebody (\d+)", text)[0]) for text in own) for own in tested]
    assert numbers[0] == list(range(90, 120))
    assert len(numbers[1]) == 24 and numbers[1][0] < 90


def test_a_task_becomes_prompts_answers_and_pairs(cli: Cli, nli: Path) -> None:
    said = cli("task", "esnli", nli, "--out", "t", "--test-part", "test")
    assert said.code == 0, said.err
    assert sorted(path.name for path in Path("t").iterdir() if path.name[0] != ".") == [
        "explain.jsonl", "label.parquet", "label_test.parquet", "metrics.json", "prompts.jsonl", "rationale.parquet",
        "rationale_test.parquet", "swapped_label.parquet", "task.json", "teach.jsonl", "teach_label.jsonl",
        "test.jsonl", "wrong_rationale.parquet",
    ]  # fmt: skip
    found = json.loads(Path("t/metrics.json").read_text("utf-8"))
    shares = {"teaching": 36, "pairs": 26, "pairs_test": 10, "asked": 18, "test": 30}
    assert found["shares"] == shares and found["removed"] == 0
    assert found["pairs"]["label"]["pairs"] == 26 and found["pairs"]["rationale_test"]["source"] == "human and borrowed"
    # no premise is in two shares, and what teaches one kind of pairs tests no other
    every = [
        {row["prompt"][0]["content"].splitlines()[0] for row in lines_of(f"t/{name}.jsonl")}
        for name in ("teach", "prompts", "test")
    ]
    pairs = {
        name: read(f"t/{name}.parquet")
        for name in ("label", "rationale", "label_test", "rationale_test", "swapped_label", "wrong_rationale")
    }
    asked = {name: {row[0]["content"].splitlines()[0] for row in own["prompt"]} for name, own in pairs.items()}
    learned = asked.pop("label") | asked.pop("rationale")
    every += [learned, set[str]().union(*asked.values())]
    assert all(not one & other for k, one in enumerate(every) for other in every[k + 1 :])
    # nor is what people wrote for one lent to the other
    reasons = {
        name: {text.splitlines()[0] for texts in own["responses"] for text in texts} for name, own in pairs.items()
    }
    assert not (reasons["label"] | reasons["rationale"]) & (reasons["label_test"] | reasons["rationale_test"])
    taught, plain = lines_of("t/teach.jsonl"), lines_of("t/teach_label.jsonl")
    assert taught[0]["response"].startswith("because of ") and len(taught) == len(plain) == 36
    assert all(read_answer(row["response"], LABELS).label in LABELS for row in (*taught, *plain))
    assert {row["ground_truth"] for row in lines_of("t/test.jsonl")} == set(LABELS)
    why = lines_of("t/explain.jsonl")
    assert why[0]["prompt"][0]["content"].endswith(". Why?") and "Answer:" not in why[0]["response"]
    assert set(found["blind"]) == {"value", "ci95", "n"} and "does not see what is asked" in said.err


def test_pairs_that_give_the_side_away_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that only rationales for the right label have; and pairs too few to tell that there is none."""
    rows = [{"text": f"It is {k}.", "label": ("negative", "positive")[k % 2]} for k in range(600)]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ("task", "sst2", "mood.jsonl", "--rationales", "templates", "--dry-run", "--out", "-")
    few = cli(*words)
    assert few.code == 0 and "too few pairs to tell an artefact" in few.err and "carry an artefact" not in few.err
    plain = Templates.__call__
    for word in ("surely", ""):  # also what marks the wrong side alone

        def forced(self: Any, examples: Any, labels: Any, word: str = word) -> Any:
            right = [one.label == label for one, label in zip(examples, labels, strict=True)]
            said = plain(self, examples, labels)
            return [f"{text} {word if own else 'perhaps'}" for text, own in zip(said, right, strict=True)]

        monkeypatch.setattr(Templates, "__call__", forced)
        planted = cli(*words)
        assert planted.code == 0 and "the pairs carry an artefact" in planted.err, planted.err


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
    reward = ["--reward.verifier.kind", "label", "--cycles", 1, "--test-share", 0, "--rollout.prompts", 4]
    room: list[Any] = ["--rollout.max-new-tokens", 8, "--max-length-tokens", 128, "--rollout.responses", 2]
    said = cli("align", "t/prompts.jsonl", "--out", "rl", "--method", "grpo", "--backbone", tiny_causal, *reward, *room)
    assert said.code == 0, said.err
    # one that was taught nothing tells no label, which is worse than a wrong one
    assert lines_of("rl/history.jsonl")[0]["part: label"] == -3


def test_where_nobody_explained_words_of_the_text_do(cli: Cli) -> None:
    words = (("dull", "flat", "slow", "poor"), ("great", "fine", "warm", "rich"))
    rows = [
        {"text": f"a {words[k % 2][k // 2 % 4]} film {k}", "label": ("negative", "positive")[k % 2]} for k in range(200)
    ]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("task", "sst2", "mood.jsonl", "--out", "t")
    assert said.code == 0, said.err
    found = json.loads(Path("t/metrics.json").read_text("utf-8"))
    # both sides borrow words, so without the text nothing tells which side is right
    assert found["pairs"]["label"]["source"] == "borrowed words" and found["pairs"]["rationale"]["pairs"] > 0
    assert found["pairs"]["label"]["follows"]["told"] > 0.9
    taught = lines_of("t/teach.jsonl")[0]["response"]
    told = [word in taught for side in words for word in side]
    assert taught.startswith("The words that tell are ") and any(told[4:]) == taught.endswith("positive") != any(
        told[:4]
    )


def test_a_model_writes_for_the_label_that_it_is_told(
    cli: Cli, nli: Path, tiny_causal: Path, trained_causal: Path
) -> None:
    """Whether its rationales depend on the label is measured and said; a reward model ranks two of them."""
    rows = [{"text": f"It is {k}.", "label": ("negative", "positive")[k % 2]} for k in range(150)]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words: list[Any] = ["--rationales", "generated", "--generator.model", tiny_causal]
    words += ["--generator.max-new-tokens", 6, "--generator.max-length-tokens", 128]
    said = cli("task", "sst2", "mood.jsonl", "--out", "t", *words, "--rank.model", trained_causal)
    assert said.code == 0, said.err
    found = json.loads(Path("t/metrics.json").read_text("utf-8"))["pairs"]
    assert (
        found["label"]["source"] == str(tiny_causal)
        and found["rationale"]["rule"] == f"none; ranked by {trained_causal}"
    )
    follows = found["label"]["follows"]
    assert follows["pairs"] == found["label"]["pairs"] > 20 and follows["low"] < 0.5
    assert "which label a rationale is for is told in" in said.err
    said = cli("task", "esnli", nli, "--out", "u", *words, "--generator.shots", 99)
    assert said.code == 2 and "too few explained examples" in said.err


def test_without_rationales_there_are_no_pairs_of_them(cli: Cli, nli: Path) -> None:
    rows = [json.loads(line) for line in nli.read_text("utf-8").split("\n") if line]
    rows = [{name: value for name, value in row.items() if name != "explanations"} for row in rows]
    Path("bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ["task", "esnli", "bare.jsonl", "--rationales", "templates"]
    said = cli(*words, "--out", "t")
    assert said.code == 0 and "no rationale-sensitive pairs could be built" in said.err, said.err
    assert not Path("t/rationale.parquet").exists() and ", 0 of them with rationales" in said.err
    said = cli(*words, "--out", "no", "--require", "rationale")
    assert said.code == 2 and "no rationale-sensitive pair could be built" in said.err and not Path("no").exists()


def test_wrong_labels_as_a_policy_confuses_them(cli: Cli, nli: Path) -> None:
    confusion = {a: {b: 10**6 if (a, b) in (LABELS[:2], LABELS[1::-1]) else 0 for b in LABELS} for a in LABELS}
    told = {"policies": {"p": {"confusion": confusion}}}
    Path("judged").mkdir()
    Path("judged/metrics.json").write_text(json.dumps(told), "utf-8")
    said = cli("task", "esnli", nli, "--out", "t", "--wrong", "confusion", "--confused", "judged")
    assert said.code == 0, said.err
    for row in read("t/label.parquet")["meta"]:
        meta = json.loads(row)
        if meta["better"] != LABELS[2]:
            assert meta["worse"] == LABELS[1 - LABELS.index(meta["better"])]
    for wrong in ("nowhere", "nli.jsonl"):
        said = cli("task", "esnli", nli, "--out", "u", "--wrong", "confusion", "--confused", wrong)
        assert said.code == 2 and "tells no confusion" in said.err


def test_a_reward_model_learns_over_paraphrases(cli: Cli, nli: Path, tiny_encoder: Path, pairs_file: Path) -> None:
    assert cli("task", "esnli", nli, "--out", "t").code == 0
    common: list[Any] = ["--backbone", tiny_encoder, "--epochs", 1, "--max-length-tokens", 64, "--dropout", "none"]
    common += ["--test-share", 0.2, "--resamples", 200]
    said = cli("train", "t/label.parquet", "--out", "rm", *common, "--auxiliary.triplet", 0.25)
    assert said.code == 0 and "records are asked otherwise too" in said.err, said.err
    for words, reason in (
        ([pairs_file, "--auxiliary.triplet", 0.25], "no prompt is there in other words"),
        (["t/label.parquet", "--auxiliary.triplet", 0.25, "--freeze-backbone"], "frozen backbone"),
    ):
        said = cli("train", *words, "--out", "no", *common)
        assert said.code == 2 and reason in said.err, said.err


def test_ordinal_tasks_and_choices(cli: Cli) -> None:
    rows = [{"prompt": f"x{k}", "response": f"y{k}", "grades": {"quality": 1 + k % 6}} for k in range(180)]
    Path("graded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("task", "d2t_quality", "graded.jsonl", "--out", "g", "--wrong", "nearest", "--rationales", "templates")
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
    # about another question on the worse side, in words of the same people
    for own in read("c/rationale.parquet").to_list():
        better, worse = own["responses"]
        number = own["prompt"][0]["content"].split("?")[0].removeprefix("Question: Where is ")
        assert better == f"It is b, {number}.\nAnswer: b"
        assert worse != better and re.fullmatch(r"It is b, \d+\.\nAnswer: b", worse)


def test_how_both_parts_are_numbered_shows_in_either(cli: Cli) -> None:
    def write(name: str, numbers: list[int], count: int) -> None:
        rows = [{"text": f"{name} {k}.", "label": numbers[k % len(numbers)]} for k in range(count)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    write("rest", [1, 2, 3], 120)
    write("test", [2, 3], 20)
    words = ["--test", "test.jsonl", "--rationales", "none"]
    assert cli("task", "ag_news", "rest.jsonl", *words, "--out", "a").code == 0
    assert {row["ground_truth"] for row in lines_of("a/test.jsonl")} == {"business", "science and technology"}
    write("test", [2, 3, 4], 20)
    write("more", [1, 2, 3, 4], 120)
    said = cli("task", "ag_news", "rest.jsonl", *words, "--out", "b")
    assert said.code == 2 and "nothing teaches" in said.err and "numbered from 1" in said.err, said.err
    assert cli("task", "ag_news", "more.jsonl", *words, "--out", "c").code == 0
    assert {row["ground_truth"] for row in lines_of("c/test.jsonl")} == {"sports", "business", "science and technology"}
    found = json.loads(Path("c/metrics.json").read_text("utf-8"))["read"]
    assert found["data"]["rows"] == 120 and found["test"]["left_out"] == {} and found["test"]["notes"]
    write("test", [0, 1], 20)
    said = cli("task", "ag_news", "more.jsonl", *words, "--out", "d")
    assert said.code == 2 and "as in the other part of the set" in said.err, said.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["eslni", "nli.jsonl"], "did you mean 'esnli'"),
        (["trec", "nli.jsonl"], "no layout of trec"),
        (["esnli", "nli.jsonl", "--wrong", "nearest"], "belong to ordinal tasks"),
        (["esnli", "nli.jsonl", "--template", "9"], "counted from 0"),
        (["esnli", "nli.jsonl", "--test-part", "train"], "no example is of that part"),
        (["esnli", "nli.jsonl", "--test", "nli.jsonl"], "120 examples left with the test"),
        (["mnli", "flat.jsonl", "--test-part", "test"], "a column split"),
        (["esnli", "nli.jsonl", "--test-part", "test", "--test-share", "0.3"], "nothing is drawn beside"),
        (["mnli", "nli.jsonl", "--rationales", "borrowed"], "nobody explained a label"),
        (["esnli", "nli.jsonl", "--rationales", "generated"], "needs --generator.model"),
        (["esnli", "nli.jsonl", "--generator.model", "m"], "writes for --rationales generated"),
        (["esnli", "nli.jsonl", "--wrong", "confusion"], "needs it"),
        (["ecqa", "nli.jsonl", "--rationales", "words"], "words speak for classes"),
        (["esnli", "nli.jsonl", "--rationales", "none", "--rank.model", "m"], "no two rationales to rank"),
        (["esnli", "one.jsonl"], "one class alone"),
    ],
)
def test_what_cannot_be_built_is_refused(cli: Cli, nli: Path, words: list[str], reason: str) -> None:
    one = [json.dumps(json.loads(line) | {"label": "neutral"}) for line in nli.read_text("utf-8").splitlines()]
    Path("one.jsonl").write_text("\n".join(one), "utf-8")
    flat = [line.replace('"split"', '"part"') for line in nli.read_text("utf-8").splitlines()]
    Path("flat.jsonl").write_text("\n".join(flat), "utf-8")
    said = cli("task", *words, "--out", "no")
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


def test_the_plan_alone(cli: Cli, nli: Path) -> None:
    said = cli("task", "esnli", nli, "--out", "t", "--dry-run")
    assert said.code == 0 and "nothing was written" in said.out and not Path("t").exists()


def test_so_many_examples_test(cli: Cli, nli: Path) -> None:
    for name, words in (("a", ["--test-part", "test"]), ("b", ["--test-share", 0.3])):
        said = cli("task", "esnli", nli, "--out", name, *words, "--most-test", 7)
        assert said.code == 0 and len(lines_of(f"{name}/test.jsonl")) == 7, said.err
