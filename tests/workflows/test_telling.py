"""What transforms found is said, on the terminal and in the report; and what grades cannot be is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from assay.feedback import comparison, edge, from_rows
from assay.feedback.targets import TargetWarning
from assay.workflows.telling import notes
from tests.workflows.conftest import Cli
from tests.workflows.test_targets import FROZEN, graded_file, prepared


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_gaps_targets_and_votes_are_told() -> None:
    told = prepared(kind="mmpo", gamma=0.5).lines()
    # gaps 3 and 1; the third judgement has a grade of one response only
    assert "1 judgements without a gap keep their own target" in told
    assert any(line.startswith("|gamma * gap|: p5 0.55") and "0% of the targets beyond 0.99" in line for line in told)
    rows = [comparison("Q", ["x", "y"], [edge(0, 1, annotator=name) for name in "aab"] + [edge(1, 0, annotator="b")])]
    found = prepared(from_rows(rows), kind="votes", method="dawid_skene").lines()
    assert any(line.startswith("Krippendorff's alpha") for line in found)
    assert any("of single votes" in line for line in found)
    assert any(line.startswith("least accurate annotators: ") for line in found)
    assert notes({"units": 0, "alpha": None}) == ["no pair has two votes, so nothing is known of agreement"]
    assert notes({"fitted": {"value": 0.42, "ci95": [0.26, 0.64], "items": 182}}) == [
        "gamma 0.42 (0.26 to 0.64) is the likeliest on 182 pairs"
    ]
    assert notes({}) == [] and notes({"without_gap": 0}) == []


@pytest.mark.parametrize("method", ["share", "dawid_skene"])
def test_annotators_of_one_vote_are_named_whatever_the_method(method: str) -> None:
    rows = [comparison("Q", ["x", "y"], [edge(0, 1, annotator=name) for name in "abc"])]
    with pytest.warns(TargetWarning, match=r"3 of 3 annotators have one decided vote or none \(a, b, c\)"):
        prepared(from_rows(rows), kind="votes", method=method)


def test_votes_without_names_are_no_single_votes() -> None:
    nobody = [comparison(str(i), ["x", "y"], [edge(0, 1)]) for i in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared(from_rows(nobody), kind="votes")


def test_missing_grades_are_counted_where_they_are_learned_from(cli: Cli, tiny_encoder: Path) -> None:
    path = graded_file(Path("graded.jsonl"))
    rows = rows_of(path)
    for row in rows[:20]:
        row["score_rejected"] = None
    write(path, rows)
    words = ("--backbone", tiny_encoder, *FROZEN[:-2], "--test-share", 0)
    said = cli("train", path, *words, "--target.kind", "mmpo")
    assert said.code == 0 and "20 judgements without a gap keep their own target" in said.err, said.err
    assert "20 judgements without a gap keep their own target" in Path("run/report.html").read_text(encoding="utf-8")
    lists = cli("train", path, *words, "--objective.kind", "listnet", "--overwrite")
    assert lists.code == 0 and "20 responses without a grade are no part of the loss" in lists.err, lists.err


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"score_chosen": "good"}, "score_chosen"),
        ({"score_chosen": float("inf")}, "score_chosen"),
    ],
)
def test_grades_that_are_no_numbers_are_named(cli: Cli, tiny_encoder: Path, cell: dict[str, Any], message: str) -> None:
    path = graded_file(Path("graded.jsonl"))
    rows = rows_of(path)
    rows[3] |= cell
    write(path, rows)
    said = cli("train", path, "--backbone", tiny_encoder, *FROZEN, "--target.kind", "mmpo")
    assert said.code == 2 and message in said.err and "4" in said.err, said.err
    assert not Path("run").exists()


def test_a_negative_confidence_is_refused_with_the_way_to_say_it(cli: Cli, tiny_encoder: Path) -> None:
    rows = [{"prompt": f"Name sea {i}.", "a": "fine", "b": "no", "best": "a", "sure": -3} for i in range(9)]
    path = write(Path("sure.jsonl"), rows)
    mapping = ("--mapping.prompt", "prompt", "--mapping.responses", "a", "b", "--mapping.choice", "best")
    words = ("--backbone", tiny_encoder, *FROZEN[:-2], "--test-share", 0, *mapping, "--mapping.confidence", "sure")
    said = cli("train", path, *words, "--target.kind", "mmpo")
    assert said.code == 2 and "confidence_middle" in said.err, said.err
    signed = cli("train", path, *words, "--mapping.confidence-middle", 0, "--target.kind", "mmpo")
    assert signed.code == 0, signed.err
