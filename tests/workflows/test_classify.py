"""``assay classify``: labels are read from what policies write, and compared on the same examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import pairs, read
from assay.feedback.tasks import Example
from assay.scorers.sampling import Reply
from assay.workflows import classify_verb
from assay.workflows.classify_models import on_pairs, wording
from tests.workflows.conftest import Cli, metrics_of

COUNT, MOODS = 150, ("positive", "negative", "negative")


@pytest.fixture
def mood(cli: Cli) -> Path:
    """Build a task of short texts whose labels can be told from them; 30 examples test."""
    rows = [{"text": f"It is {'+-'[k % 2]}{k}.", "label": ("positive", "negative")[k % 2]} for k in range(COUNT)]
    Path("mood.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("task", "sst2", "mood.jsonl", "--out", "mood", "--rationales", "none")
    assert said.code == 0, said.err
    return Path("mood")


def test_a_policy_that_was_taught_nothing(cli: Cli, mood: Path, tiny_causal: Path, trained_causal: Path) -> None:
    room = ["--max-new-tokens", 6, "--max-length-tokens", 128, "--examples", 10, "--resamples", 100]
    chosen = ["--by", trained_causal, "--best-of", 1, 3]
    said = cli("classify", tiny_causal, mood, "--out", "c", *room, *chosen, "--all-templates")
    assert said.code == 0, said.err
    found = metrics_of(Path("c"))
    own = found["policies"][str(tiny_causal)]
    assert found["examples"] == 10 and own["unread"] == 1 and own["accuracy"]["value"] == 0
    assert own["why_unread"] == {"no last line": 10} and own["templates"]["spread"] == 0
    assert own["templates"]["same_label_in_all"] == 0  # none is no label
    assert own["accuracy"]["ci95"][1] > 0.1  # nothing right of ten is no proof
    assert [point["n"] for point in found["best_of"]] == [1, 3]
    rows = [json.loads(line) for line in Path("c/answers.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 10 and rows[0]["answers"][str(tiny_causal)]["label"] is None
    # the reward model was judged on the pairs of the task, and over ways to ask
    judged = found["pairs"]["label_test"][str(trained_causal)]["accuracy"]
    assert 0 <= judged["value"] <= 1 and "in the right order" in said.out
    spread = found["wording"][str(trained_causal)]
    assert spread["share"] == pytest.approx(spread["ways"] / spread["answers"]) and spread["ways"] > 0
    page = Path("c/report.html").read_text("utf-8")
    assert "Ways to ask" in page and "Reward models on held-out pairs" in page and "no last line" in page


def test_policies_are_compared_on_the_same_examples(
    cli: Cli, mood: Path, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first policy is right but in one of ten, and says nothing there; the other one always says positive."""
    other = tmp_path / "other"
    other.symlink_to(tiny_causal)
    turn: list[str] = []

    def written(policy: Any, prompts: list[str], how: Any, seed: int) -> list[list[Reply]]:
        turn.append("x")
        first = len(turn) == 1
        found = []
        for number, prompt in enumerate(prompts):
            label = "positive" if "+" in prompt or not first else "negative"
            text = "no idea" if first and number % 10 == 0 else f"so\nAnswer: {label}"
            found.append([Reply(text, np.zeros(2, np.int64), 1, True)])
        return found

    monkeypatch.setattr(classify_verb, "replies", written)
    said = cli("classify", tiny_causal, mood, "--out", "c", "--also", other, "--max-new-tokens", 4)
    assert said.code == 0, said.err
    found = metrics_of(Path("c"))
    own, rest = found["policies"].values()
    assert found["examples"] == 30 and own["accuracy"]["value"] == pytest.approx(0.9)
    assert own["unread"] == pytest.approx(0.1) and own["by_class"].keys() == {"negative", "positive"}
    share = rest["accuracy"]["value"]
    assert rest["by_class"]["negative"]["recall"] == 0 and rest["by_class"]["positive"]["recall"] == 1
    assert rest["above_the_first"]["value"] == pytest.approx(share - 0.9)
    assert rest["confusion"]["negative"] == {"positive": round(30 * (1 - share))}
    assert "above the first" in said.out and "90.0 % right" in said.out


def test_choosing_by_a_reward_model(
    cli: Cli, mood: Path, tiny_causal: Path, trained_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four answers one is right; a model that knows finds it as often as it is among n."""

    class Knowing:
        def to(self, _: Any) -> Knowing:
            return self

        def score(self, prompts: list[str], texts: list[str]) -> list[float]:
            return [float(("positive" if "+" in p else "negative") in t) for p, t in zip(prompts, texts, strict=True)]

    def written(policy: Any, prompts: list[str], how: Any, seed: int) -> list[list[Reply]]:
        def reply(prompt: str, good: bool) -> Reply:
            label = "positive" if ("+" in prompt) == good else "negative"
            return Reply(f"Answer: {label}", np.zeros(2, np.int64), 1, True)

        return [[reply(prompt, k == 2) for k in range(how.responses)] for prompt in prompts]

    monkeypatch.setattr(classify_verb, "replies", written)
    monkeypatch.setattr(classify_verb, "load_reward_model", lambda _: Knowing())
    words = ["--by", trained_causal, "--best-of", 1, 2, 4, "--max-new-tokens", 4]
    said = cli("classify", tiny_causal, mood, "--out", "c", *words)
    assert said.code == 0, said.err
    shares = [point["gold"]["value"] for point in metrics_of(Path("c"))["best_of"]]
    assert shares == pytest.approx([0.25, 0.5, 1.0])


def test_what_trained_a_policy_does_not_test_it(cli: Cli, mood: Path, tiny_causal: Path) -> None:
    """Test examples that a policy was taught all the same are left out, unless they are to stay."""
    lines = [json.loads(line) for line in (mood / "test.jsonl").read_text("utf-8").splitlines()][:20]
    taught = [{"prompt": row["prompt"], "completion": "Answer: x", "label": True} for row in lines]
    Path("taught.jsonl").write_text("".join(json.dumps(row) + "\n" for row in taught), "utf-8")
    words: list[Any] = ["--backbone", tiny_causal, "--max-length-tokens", 128, "--epochs", 1, "--validation-share", 0]
    said = cli("align", "taught.jsonl", "--out", "sft", "--method", "sft", *words, "--test-share", 0)
    assert said.code == 0, said.err
    said = cli("classify", "sft", mood, "--out", "c", "--max-new-tokens", 2)
    assert said.code == 0 and metrics_of(Path("c"))["examples"] == 10, said.err
    said = cli("classify", "sft", mood, "--out", "d", "--max-new-tokens", 2, "--include-seen")
    assert said.code == 0 and metrics_of(Path("d"))["examples"] == 30, said.err


def test_pairs_that_trained_a_reward_model_are_refused_before_policies_answer(
    cli: Cli, mood: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[Any] = ["--backbone", tiny_causal, "--max-length-tokens", 128, "--epochs", 1, "--validation-share", 0]
    said = cli("train", mood / "label_test.parquet", "--out", "rm", *words, "--test-share", 0)
    assert said.code == 0, said.err
    said = cli("classify", tiny_causal, mood, "--out", "c", "--by", "rm", "--max-new-tokens", 4)
    assert said.code == 2 and "answers" not in said.err and not Path("c").exists(), said.err


def test_reward_models_are_compared_on_the_same_pairs(cli: Cli) -> None:
    """Labels are not alike in number, so pairs have weights."""
    rows = [{"text": f"It is {'+--'[k % 3]}{k}.", "label": MOODS[k % 3]} for k in range(300)]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = cli("task", "sst2", "odd.jsonl", "--out", "mood", "--rationales", "none")
    assert said.code == 0 and len(set(pairs(read("mood/label_test.parquet")).w)) > 1, said.err

    class Scorer:
        def __init__(self, good: bool) -> None:
            self.good = good

        def score(self, prompts: list[Any], texts: list[str]) -> list[float]:
            asked = [prompt[0]["content"] for prompt in prompts]
            own = [("positive" if "+" in p else "negative") in t for p, t in zip(asked, texts, strict=True)]
            return [float(one == self.good) for one in own]

    found = on_pairs({"right": Scorer(True), "wrong": Scorer(False)}, "mood", 200)
    assert list(found) == ["label_test"]  # nobody explained labels, so there are no other pairs
    own = found["label_test"]
    assert own["right"]["accuracy"]["value"] == 1 and own["wrong"]["accuracy"]["value"] == 0
    assert own["wrong"]["above_the_first"]["value"] == -1 and "above_the_first" not in own["right"]


def test_wording_is_told_from_labels() -> None:
    class Scorer:
        """Looks at the label by ``label``, at the way of asking by ``way``."""

        def __init__(self, label: float, way: float) -> None:
            self.label, self.way = label, way

        def score(self, prompts: list[str], texts: list[str]) -> list[float]:
            pairs = zip(prompts, texts, strict=True)
            return [self.label * ("red" in t) + self.way * (p == "second") for p, t in pairs]

    one = Example({"text": "t"}, "red", ("red", "green"), "g")
    prompts = {0: ["first"] * 3, 1: ["second"] * 3}
    minds = {"labels": Scorer(2.0, 0.0), "ways": Scorer(2.0, 1.0), "nothing": Scorer(0.0, 0.0)}
    found = wording(minds, [one] * 3, prompts)
    assert found["labels"] == {"ways": 0.0, "answers": 1.0, "share": 0.0, "same_best": 1.0}
    assert found["ways"]["ways"] == 0.5 and found["ways"]["share"] == 0.5
    # a scorer that always says the same has no spread, and tells nothing apart
    assert np.isnan(found["nothing"]["share"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere"], "no folder of a task"),
        (["mood", "--best-of", 4], "needs a reward model"),
        (["mood", "--max-new-tokens", 500], "no prompt leaves room"),
        (["mood", "--also", "a", "a"], "names a policy twice"),
    ],
)
def test_what_cannot_be_judged(cli: Cli, mood: Path, tiny_causal: Path, words: list[Any], reason: str) -> None:
    said = cli("classify", tiny_causal, *words, "--out", "no")
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


def test_the_plan_alone(cli: Cli, mood: Path, tiny_causal: Path) -> None:
    said = cli("classify", tiny_causal, mood, "--out", "c", "--dry-run")
    assert said.code == 0 and "30 times" in said.out and not Path("c").exists()
    # whether there is such a policy is part of the plan
    said = cli("classify", "none", mood, "--out", "c", "--dry-run")
    assert said.code == 2 and "cannot load the language model 'none'" in said.err and "minilm" not in said.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test.jsonl", ""),
        ("test.jsonl", '{"texts": {"text": "a"}, "ground_truth": "none", "choices": ["a", "b"], "split_group": "a"}'),
        ("task.json", '{"name": "m", "kind": "classes", "labels": ["a", "b"], "templates": ["{text}"], "template": 7}'),
        ("task.json", '{"name": "m", "kind": "classes", "labels": ["a"], "templates": ["{text}"], "template": 0}'),
        ("task.json", "[]"),
    ],
)
def test_damaged_folders(cli: Cli, mood: Path, tiny_causal: Path, name: str, text: str) -> None:
    (mood / name).write_text(text, "utf-8")
    said = cli("classify", tiny_causal, mood, "--out", "c")
    assert said.code == 2 and "no folder of a task" in said.err, said.err
