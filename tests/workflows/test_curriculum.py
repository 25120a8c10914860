"""``assay curriculum``: which task is learned when, and from which policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import read
from assay.scorers import RewardModel
from assay.workflows import curriculum_verb
from assay.workflows.data import group_keys, seen_groups
from tests.workflows.conftest import Cli, metrics_of

BOTH = ("--tasks", "tasks/sst2", "tasks/movie_reviews")


@pytest.fixture
def tasks(cli: Cli) -> list[str]:
    """Build two tasks of short texts, some of them in both."""
    for name, said_of in (("sst2", "It is"), ("movie_reviews", "There are")):
        labels = ("negative", "positive")
        rows = [{"text": f"{said_of if k > 20 else 'So'} {k}.", "label": labels[k % 2]} for k in range(120)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        said = cli("task", name, f"{name}.jsonl", "--out", f"tasks/{name}", "--rationales", "none")
        assert said.code == 0, said.err
    return ["tasks/sst2", "tasks/movie_reviews"]


class Learning:
    """Stands for both verbs: accuracies by what was learned last, and a note of every run."""

    def __init__(self, accuracies: dict[str, dict[str, float]]) -> None:
        self.accuracies, self.runs = accuracies, list[tuple[str, str, int]]()
        self.seen, self.lengths = list[np.ndarray](), set[int | None]()

    def align(self, settings: Any) -> dict[str, Any]:
        self.lengths.add(settings.max_length_tokens)
        if not settings.dry_run:
            self.runs.append((Path(settings.data).parent.name, settings.backbone, settings.cycles))
        return {}

    def classify(self, settings: Any, seen: np.ndarray) -> dict[str, Any]:
        self.seen.append(seen)
        self.lengths.add(settings.max_length_tokens)
        task = Path(settings.data).name
        learned = next((name for name in ("sst2", "movie_reviews") if settings.policy.endswith(name)), "start")
        share = self.accuracies[learned][task]
        return {"policies": {settings.policy: {"accuracy": {"value": share}}}}


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Learning:
    """Learning movie_reviews first is better: sst2 helps it, and is harmed by it."""
    made = Learning(
        {
            "start": {"sst2": 0.5, "movie_reviews": 0.3},
            "sst2": {"sst2": 0.9, "movie_reviews": 0.4},
            "movie_reviews": {"sst2": 0.2, "movie_reviews": 0.8},
        }
    )
    monkeypatch.setattr(curriculum_verb, "align_online", made.align)
    monkeypatch.setattr(curriculum_verb, "classify_policies", made.classify)
    return made


def test_the_order_is_measured(cli: Cli, tasks: list[str], tiny_causal: Path, learning: Learning) -> None:
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c", "--cycles", 8, "--measured", 3)
    assert said.code == 0, said.err
    found = metrics_of(Path("c"))
    assert [stage["learned"] for stage in found["stages"]] == [["movie_reviews"], ["sst2"]]
    told = found["transfer"]
    assert told["of_row_by_column"] == [pytest.approx([0.4, -0.3]), pytest.approx([0.1, 0.5])]
    assert told["value"] == pytest.approx(0.1) and told["value_as_given"] == pytest.approx(-0.3)
    # each is measured from the beginning; the second stage goes on from the first
    begun = str(tiny_causal)
    measured = [("sst2", begun, 3), ("movie_reviews", begun, 3)]
    assert [(task, own, cycles) for task, own, cycles in learning.runs][:3] == [*measured, ("movie_reviews", begun, 8)]
    assert learning.runs[3][0] == "sst2" and Path(learning.runs[3][1]).name == "1_movie_reviews"
    assert "learned movie_reviews, then sst2" in said.out and "sst2: 50.0 % right before, 90.0 % after" in said.out


def test_a_run_that_was_stopped_goes_on(
    cli: Cli, tasks: list[str], tiny_causal: Path, learning: Learning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is whole is not done again; another run does not go on in the folder."""
    plain = learning.align

    def stopping(settings: Any) -> dict[str, Any]:
        if settings.dry_run:
            return {}
        if len(learning.runs) == 2:
            raise KeyboardInterrupt
        Path(settings.out).mkdir(parents=True)
        return plain(settings)

    monkeypatch.setattr(curriculum_verb, "align_online", stopping)
    words: list[Any] = ["curriculum", tiny_causal, "--tasks", *tasks, "--out", "c"]
    assert cli(*words).code == 130 and not Path("c/metrics.json").exists()
    said = cli(*words)
    assert said.code == 2 and "exists already" in said.err
    said = cli(*words, "--resume", "--cycles", 9)
    assert said.code == 2 and "differs from this one in: cycles" in said.err
    Path("other").mkdir()
    said = cli(*words[:-1], "other", "--resume")
    assert said.code == 2 and "exists already" in said.err and not list(Path("other").iterdir())
    learning.runs.append(("stopped here", "", 0))
    said = cli(*words, "--resume")
    assert said.code == 0, said.err
    # both were measured before
    assert [task for task, _, _ in learning.runs] == ["sst2", "movie_reviews", "stopped here", "movie_reviews", "sst2"]


def test_as_given(cli: Cli, tasks: list[str], tiny_causal: Path, learning: Learning) -> None:
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c", "--order", "given", "--cycles", 4)
    assert said.code == 0, said.err
    assert [task for task, _, _ in learning.runs] == ["sst2", "movie_reviews"] and metrics_of(Path("c"))[
        "transfer"
    ] is None


def test_all_at_once_learns_from_one_reward_each(
    cli: Cli, tasks: list[str], tiny_causal: Path, trained_causal: Path
) -> None:
    words: list[Any] = ["--order", "joint", "--cycles", 1, "--examples", 6, "--max-length-tokens", 128]
    words += ["--rollout.prompts", 4, "--rollout.responses", 2, "--rollout.max-new-tokens", 4]
    words += ["--rewards.sst2", trained_causal, "--rewards.movie_reviews", trained_causal]
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c", *words)
    assert said.code == 0, said.err
    found = metrics_of(Path("c"))
    assert found["stages"][0]["learned"] == ["sst2", "movie_reviews"] and set(found["after"]) == {
        "sst2",
        "movie_reviews",
    }
    told = [json.loads(line) for line in Path("c/prompts.jsonl").read_text("utf-8").splitlines()]
    assert {row["task"] for row in told} == {"sst2", "movie_reviews"}
    history = [json.loads(line) for line in Path("c/joint/history.jsonl").read_text("utf-8").splitlines()]
    assert len(history) == 2 and any(name.startswith("part: reward of ") for name in history[0])


def test_each_task_has_the_reward_that_suits_it(
    cli: Cli, tasks: list[str], tiny_causal: Path, trained_causal: Path
) -> None:
    """A reward model for one, the right label for the other."""
    words: list[Any] = ["--order", "joint", "--cycles", 1, "--examples", 6, "--max-length-tokens", 128]
    words += ["--rollout.prompts", 12, "--rollout.responses", 2, "--rollout.max-new-tokens", 4]
    words += ["--rewards.sst2", trained_causal, "--rewards.movie_reviews", "verifier"]
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c", *words)
    assert said.code == 0, said.err
    history = [json.loads(line) for line in Path("c/joint/history.jsonl").read_text("utf-8").splitlines()]
    of_model, by_label = (
        [row[part] for row in history if part in row]
        for part in ("part: reward of sst2", "part: reward of movie_reviews")
    )
    # what an untaught model writes has no label
    assert set(by_label) == {-3.0} and of_model and -3.0 not in of_model


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--tasks", "tasks/sst2"], "are two to"),
        (["--tasks", "tasks/sst2", "tasks/sst2"], "names a folder twice"),
        (["--tasks", "tasks/sst2", "nowhere"], "no folder of a task"),
        ([*BOTH, "--rewards.sst2", "m"], "every task has a reward model"),
        (
            ["--tasks", "tasks/sst2", "tasks/movie_reviews", "--order", "given", "--measured", "3"],
            "belongs to --order transfer",
        ),
        ([*BOTH, "--rollout.responses", "1"], "2 or more"),
        ([*BOTH, "--rewards.sst2", "m", "--rewards.movie_reviews", "m"], "no folder 'm'"),
        ([*BOTH, "--max-length-tokens", "20", "--rollout.max-new-tokens", "19"], "no prompt leaves room"),
    ],
)
def test_what_cannot_be_learned(cli: Cli, tasks: list[str], tiny_causal: Path, words: list[str], reason: str) -> None:
    said = cli("curriculum", tiny_causal, *words, "--out", "no")
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


def test_a_mistyped_backbone_leaves_nothing_behind(cli: Cli, tasks: list[str]) -> None:
    said = cli("curriculum", "nowhere", "--tasks", *tasks, "--out", "no")
    assert said.code == 2 and "cannot load the backbone 'nowhere'" in said.err, said.err
    assert not Path("no").exists()


def test_all_policies_are_judged_on_the_same_examples(
    cli: Cli, tasks: list[str], trained_causal: Path, learning: Learning
) -> None:
    """What any of them has seen is left out of all: each task's prompts, and what the first one was trained on."""
    begun = trained_causal / "model"
    said = cli("curriculum", begun, "--tasks", *tasks, "--out", "c", "--order", "given")
    assert said.code == 0, said.err
    assert len(learning.seen) == 6 and all(np.array_equal(own, learning.seen[0]) for own in learning.seen)
    expected = [group_keys(read(Path(folder) / "prompts.jsonl")) for folder in tasks]
    before = seen_groups(str(begun))
    assert before is not None and len(before)
    assert set(learning.seen[0]) == set(np.concatenate([*expected, before]))
    # and with the same room: that which the first one was trained with
    assert learning.lengths == {RewardModel.from_pretrained(begun).record.conversation.max_length_tokens}


def test_what_chooses_the_order_does_not_judge(
    cli: Cli, tasks: list[str], tiny_causal: Path, learning: Learning
) -> None:
    """Each test group chooses or judges; halves of each task."""
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c")
    assert said.code == 0, said.err
    # before, thrice to choose (before, and after each task alone), and after each stage; of both tasks each time
    judging, choosing = learning.seen[0], learning.seen[2]
    expected = [judging] * 2 + [choosing] * 6 + [judging] * 4
    assert all(np.array_equal(*each) for each in zip(learning.seen, expected, strict=True))
    seen = np.concatenate([group_keys(read(Path(task) / "prompts.jsonl")) for task in tasks])
    for task in tasks:
        of_test = np.setdiff1d(group_keys(read(Path(task) / "test.jsonl"), ("split_group",)), seen)
        judged, chosen = (set(of_test) - set(own) for own in (judging, choosing))
        assert not judged & chosen and judged | chosen == set(of_test)
        assert len(of_test) > 4 and abs(len(judged) - len(chosen)) <= 1


def test_a_test_of_one_group_cannot_do_both(cli: Cli, tasks: list[str], tiny_causal: Path) -> None:
    test = Path(tasks[0]) / "test.jsonl"
    test.write_text(test.read_text("utf-8").split("\n")[0] + "\n", "utf-8")
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "no")
    assert said.code == 2 and "two groups at least" in said.err and not Path("no").exists()


def test_the_plan_alone(cli: Cli, tasks: list[str], tiny_causal: Path) -> None:
    said = cli("curriculum", tiny_causal, "--tasks", *tasks, "--out", "c", "--dry-run")
    assert said.code == 0 and "would learn sst2, movie_reviews" in said.out and not Path("c").exists()
