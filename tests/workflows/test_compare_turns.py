"""``assay compare --protocol mt_bench``: turns, grades, both orders, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.scorers.judges import Answer, Question
from assay.scorers.loading import load_reward_model
from tests.workflows.conftest import Cli, metrics_of
from tests.workflows.test_compare import aligned

__all__ = ["aligned"]  # the fixture

FEW = ["--write.max-new-tokens", 8, "--resamples", 200, "--max-length-tokens", 128]


def write_questions(path: str, count: int = 4) -> None:
    rows = [
        {
            "question_id": 80 + k,
            "category": ["writing", "math"][k % 2],
            "turns": [f"Name {k}.", f"And {k}?"],
            **({"reference": ["It is one.", "It is blue."]} if k % 2 else {}),
        }
        for k in range(count)
    ]
    Path(path).write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")


class Counting:
    """A judge whose grade is 3, or 7 where a reference is shown; in pairs it takes what is longer as a whole."""

    name = "counting"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def ask(self, questions: list[Question]) -> list[Answer]:
        found = []
        for question in questions:
            self.seen.append(question.text)
            grade = re.search(r"a grade of (\d+) or higher", question.text)
            if grade is not None:
                own = 7 if "It is" in question.text else 3
                found.append(Answer(np.inf if int(grade.group(1)) <= own else -np.inf))
            else:
                first, second = (part.split("[End of response")[0] for part in question.text.split("[Response ")[1:])
                found.append(Answer(float(len(first) - len(second))))
        return found

    def costs(self) -> dict[str, Any]:
        return {"asked": len(self.seen)}


def test_a_judge_grades_turns_and_compares_both_orders(
    cli: Cli, aligned: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_questions("questions.jsonl")
    judge = Counting()
    monkeypatch.setattr("assay.workflows.conversations.judge_of", lambda _: judge)
    words = ["--protocol", "mt_bench", "--judge.local", tiny_causal, "--out", "graded", *FEW]
    said = cli("compare", aligned, "questions.jsonl", *words)
    assert said.code == 0, said.err
    found = metrics_of(Path("graded"))
    assert found["prompts"] == 4 and found["without_room"] == 0
    assert list(found["grades"]) == ["all", "turn 1", "turn 2", "math", "writing"]
    # the judge's grades come through exactly, and the two policies' difference is nothing
    assert found["grades"]["math"]["policy"]["value"] == 7 and found["grades"]["writing"]["against"]["value"] == 3
    assert found["grades"]["all"]["policy"]["value"] == 5 and found["grades"]["all"]["difference"]["value"] == 0
    # 4 questions of 2 turns: 9 questions for a grade of each side, one in each order for a pair
    assert found["asked"]["asked"] == 8 * 2 * 9 + 8 * 2 and found["asked"]["orders"]["pairs"] == 8
    rows = [json.loads(line) for line in Path("graded/samples.jsonl").read_text("utf-8").splitlines()]
    assert [row["turn"] for row in rows] == [1] * 4 + [2] * 4
    for first, second in zip(rows[:4], rows[4:], strict=True):
        own, other = (len(first[side]) + len(second[side]) for side in ("policy", "against"))
        assert second["preferred"] == ("neither" if own == other else "policy" if own > other else "against")
    # the second turn is judged behind the policy's own first answer
    later = [text for text in judge.seen if "a grade of" in text and "And 0?" in text]
    assert any(rows[0]["policy"].strip() in text for text in later)
    assert "<h2>Grades</h2>" in Path("graded/report.html").read_text("utf-8")


def test_a_reward_model_scores_conversations(cli: Cli, aligned: Path, trained: Path) -> None:
    write_questions("questions.jsonl")
    said = cli("compare", aligned, "questions.jsonl", "--protocol", "mt_bench", "--by", trained, "--out", "won", *FEW)
    assert said.code == 0, said.err
    found = metrics_of(Path("won"))
    rows = [json.loads(line) for line in Path("won/samples.jsonl").read_text("utf-8").splitlines()]
    model = load_reward_model(str(trained))
    first, second = rows[0], rows[4]
    chat = [
        {"role": "user", "content": "Name 0."},
        {"role": "assistant", "content": first["policy"]},
        {"role": "user", "content": "And 0?"},
    ]
    assert second["policy_grade"] == pytest.approx(float(model.score([chat], [second["policy"]])[0]), abs=1e-5)
    better = [row["policy_grade"] - row["against_grade"] for row in rows]
    assert found["win_rate"]["all"]["wins"] == sum(gap > 0 for gap in better)
    assert found["grades"]["all"]["difference"]["value"] == pytest.approx(np.mean(better))


def test_questions_that_trained_the_policy_are_left_out(
    cli: Cli, aligned: Path, trained: Path, many_pairs: Path
) -> None:
    prompts = sorted({json.loads(line)["prompt"] for line in many_pairs.read_text("utf-8").splitlines()})
    seen = [{"turns": [text]} for text in [*prompts, "Nobody asked this.", "Nor this."]]
    Path("questions.jsonl").write_text("\n".join(map(json.dumps, seen)), "utf-8")
    words = ["--protocol", "mt_bench", "--by", trained, "--dry-run", "--out", "no"]
    said = cli("compare", aligned, "questions.jsonl", *words)
    assert said.code == 0 and re.search(r"left out \d+ of 132 records", said.err), said.err


def test_turns_without_room_are_left_out_for_both(cli: Cli, aligned: Path, trained: Path) -> None:
    write_questions("questions.jsonl", 2)
    long = {"question_id": "long", "turns": ["Short.", "word " * 5000]}
    with Path("questions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(long) + "\n")
    said = cli("compare", aligned, "questions.jsonl", "--protocol", "mt_bench", "--by", trained, "--out", "won", *FEW)
    assert said.code == 0 and "left out 1 turns" in said.err, said.err
    assert metrics_of(Path("won"))["without_room"] == 1
    assert len(Path("won/samples.jsonl").read_text("utf-8").splitlines()) == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "there are no questions"),
        ("{", "a question is no JSON"),
        ('{"prompt": "x"}', "a question has no turns"),
        ('{"turns": []}', "a question has no turns"),
        ('{"turns": ["a"], "reference": ["b", "c"]}', "references do not fit the turns"),
        ('{"turns": ["a"], "temperature": -1}', "a temperature is out of range"),
        ('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1, "turns": ["b"]}', "two questions have one name"),
        ('{"turns": ["a"]}', "too few questions"),
    ],
)
def test_files_that_hold_no_questions_are_refused(cli: Cli, aligned: Path, content: str, reason: str) -> None:
    Path("questions.jsonl").write_text(content, "utf-8")
    said = cli("compare", aligned, "questions.jsonl", "--protocol", "mt_bench", "--by", "m", "--out", "no")
    assert said.code == 2 and reason in said.err, said.err
    assert not Path("no").exists()


@pytest.mark.parametrize("words", [["--best-of", 2], ["--text", "t"], ["--gold", "g"], ["--write.responses", 2]])
def test_what_does_not_go_with_turns_is_refused(cli: Cli, aligned: Path, words: list[Any]) -> None:
    write_questions("questions.jsonl")
    said = cli("compare", aligned, "questions.jsonl", "--protocol", "mt_bench", "--by", "m", "--out", "no", *words)
    assert said.code == 2 and "mt_bench" in said.err
