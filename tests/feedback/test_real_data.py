"""Real data sets give the counts that their description states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from assay.feedback import check, overlap, read, read_with_report

pytestmark = pytest.mark.shared
FOLDER = Path(os.environ.get("ASSAY_SHARED_DATA", "/nonexistent"))

TLDR = {
    "prompt": "prompt",
    "responses": "responses",
    "choice": "choice",
    "confidence": "confidence",
    "confidence_middle": 5,
    "annotator": "worker",
    "group": "post_id",
}
GRADES = {"prompt": "prompt", "responses": "response", "grades": "grades"}
MT_BENCH = {
    "prompt": "first_question",
    "responses": "first_answer_0,first_answer_1",
    "choice": "label",
    "votes": "votes",
}
FINE = {"prompt": "question", "responses": ",".join(f"prediction {i}" for i in range(1, 5)), "preference": "preference"}
GSM = {"prompt": "question", "responses": "solutions[].solution", "grades": {"correct": "solutions[].is_correct"}}


@pytest.fixture(autouse=True)
def _needs_data() -> None:
    if not FOLDER.is_dir():
        pytest.skip("ASSAY_SHARED_DATA names no folder")


@pytest.mark.parametrize(
    ("path", "mapping", "records", "edges", "dropped"),
    [
        ("hh_rlhf/harmless-base", None, 2305, 2307, {"prompts differ": 5}),
        ("hh_rlhf/helpful-base", None, 2343, 2343, {"identical pair": 2, "prompts differ": 9}),
        ("hh_rlhf/helpful-online", None, 1135, 1135, {"identical pair": 2}),
        ("hh_rlhf/train-1pct.jsonl.gz", None, 1441, 1441, {"identical pair": 7}),
        ("mt_bench_human", MT_BENCH, 79, 1172, {"null in first_answer_1": 86, "identical pair": 1}),
        ("ultrafeedback_2pct/ub.jsonl.gz", None, 962, 962, {"identical pair": 6}),
        ("ultrafeedback_2pct/ubp.jsonl.gz", None, 1145, 1145, {"identical pair": 1}),
        ("tldr_feedback/batch13.jsonl.gz", TLDR, 905, 1097, {}),
        ("tldr_feedback/batch18.jsonl.gz", TLDR, 110, 674, {}),
        ("tldr_feedback/batch0_cnndm.jsonl.gz", TLDR, 45, 437, {}),
        ("wmt_da_pairs/gu-en.jsonl.gz", None, 1015, 20110, {}),
        ("fine_grained_rlhf", FINE, 500, 3000, {}),
        ("summeval", {**GRADES, "group": "doc_id"}, 100, 11211, {}),
        ("d2t_ratings/bagel.jsonl.gz", GRADES, 187, 187, {"one response only": 15}),
        ("gsm8k/test.jsonl.gz", {**GSM, "ties": "drop"}, 1319, 2426, {}),
    ],
)
def test_counts(path: str, mapping: Any, records: int, edges: int, dropped: dict[str, int], cache: Path) -> None:
    _, report = read_with_report(FOLDER / path, mapping=mapping, cache_dir=cache)
    assert (report.records, report.edges, report.dropped) == (records, edges, dropped)


def test_first_turns_of_the_training_file_leak_into_the_test_files(cache: Path) -> None:
    train = read(FOLDER / "hh_rlhf/train-1pct.jsonl.gz", cache_dir=cache)
    found = [
        overlap(train, read(FOLDER / "hh_rlhf" / name, cache_dir=cache))
        for name in ("harmless-base", "helpful-base", "helpful-online")
    ]
    assert (sum(f.groups for f in found), sum(f.train_rows for f in found)) == (102, 103)


@pytest.mark.parametrize(
    ("name", "disagreeing", "percent"), [("batch13", 26, 71), ("batch18", 5, 57), ("batch0_cnndm", 36, 67)]
)
def test_disagreement_and_length(name: str, disagreeing: int, percent: int) -> None:
    counts = check(FOLDER / f"tldr_feedback/{name}.jsonl.gz", mapping=TLDR).counts
    assert counts["contradictions"] == disagreeing
    assert round(100 * counts["longer_wins"]["share"]) == percent
