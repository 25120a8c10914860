"""The check counts what is wrong and goes on; its numbers are those of a direct count."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from assay.feedback import check, pairs, read
from assay.feedback.collecting import Collector, grouped_share, length_quantiles, repeats
from assay.feedback.encoding_damage import damage
from assay.feedback.records import Message
from tests.feedback.conftest import WriteRows
from tests.feedback.test_mapping import GRADED, rated
from tests.feedback.test_reading import pair


def names(findings: Any) -> dict[str, int]:
    return {finding.name: finding.count for finding in findings}


def test_bad_rows_are_counted_and_passed_over(write: WriteRows) -> None:
    rows: list[Any] = [pair("Q", "A", "B")] + [pair("Q", "A", None)] * 30 + [pair("R", "A", "B")]  # type: ignore[arg-type]
    report = check(write(rows))
    assert names(report.errors) == {"row cannot be read": 30}
    assert len(report.errors[0].examples) == 20
    assert "data.jsonl:2:rejected" in report.errors[0].examples[0]
    assert report.counts["rows"] == 32
    assert report.counts["judgements"] == 2
    assert not report.ok


def test_duplicates_and_contradictions() -> None:
    rows = [
        pair("Q", "A", "B"),
        pair("Q", "A", "B"),
        pair("Q", "B", "A"),
        pair("Q", "A", "C"),
        pair("R", "B", "A"),
        pair("S", "A", "B", target=0.5),
        pair("S", "B", "A", target=0.5),
    ]
    report = check(rows)
    assert report.ok
    assert report.counts["duplicates"] == 2
    assert report.counts["contradictions"] == 1
    assert report.counts["prompts"] == 3
    assert report.counts["ties"] == {"count": 2, "share": 2 / 7}
    assert names(report.warnings) == {"duplicate judgement": 2, "contradicted pair": 1}


def test_repeats_against_a_direct_count() -> None:
    rng = np.random.default_rng(0)
    keys, verdicts = rng.integers(0, 50, 300).astype(np.uint64), rng.integers(-1, 2, 300).astype(np.int8)
    seen = list(zip(keys.tolist(), verdicts.tolist(), strict=True))
    both = sum((k, 1) in seen and (k, -1) in seen for k in set(keys.tolist()))
    assert repeats(keys, verdicts) == (len(seen) - len(set(seen)), both)


def test_dropped_rows_and_empty_texts_are_warnings() -> None:
    report = check([pair("Q", "A", "A"), pair("Q", "", "B"), pair(" ", "A", "B")])
    assert names(report.warnings) == {"identical pair": 1, "empty response": 1, "empty prompt": 1}
    assert report.counts["empty"] == {"response": 1, "prompt": 1}


def test_overlap_with_test_data_is_an_error(write: WriteRows) -> None:
    train = write([pair("P", "A", "B"), pair("Q", "A", "B"), pair("Q", "A", "C")], "train.jsonl")
    test = write([pair("Q", "C", "D"), pair("R", "C", "D")], "test.jsonl")
    report = check(train, test=test)
    assert names(report.errors) == {"split group or prompt": 1}
    assert report.counts["test_overlap"] == {"split_groups": 1, "rows": 2, "test_rows": 1}
    assert "test.jsonl:1: Q" in report.errors[0].examples[0]
    assert check(train, test=write([pair("R", "C", "D")], "other.jsonl")).ok


def test_longer_wins_without_ties_and_equal_lengths() -> None:
    rows = [
        pair("P", "long", "x"),
        pair("Q", "x", "long"),
        pair("R", "longer", "y"),
        pair("S", "x", "y"),
        pair("T", "long", "x", target=0.5),
        pair("U", "long", "x", target=0.1),
    ]
    found = check(rows).counts["longer_wins"]
    assert (found["share"], found["judgements"]) == (0.5, 4)


def test_the_interval_is_wilsons_without_groups_and_wider_with_them() -> None:
    from scipy.stats import binomtest

    outcomes = np.array([1] * 60 + [-1] * 40)
    alone = grouped_share(outcomes, np.arange(100))
    wilson = binomtest(60, 100).proportion_ci(method="wilson")
    assert alone["ci95"] == pytest.approx([wilson.low, wilson.high], abs=1e-9)
    # Ten copies of each judgement: no more information than ten times fewer judgements.
    copies = grouped_share(np.repeat(outcomes, 10), np.repeat(np.arange(100), 10))
    assert copies["ci95"] == pytest.approx(alone["ci95"], abs=1e-9)


def test_shares_at_the_border_have_an_interval() -> None:
    low, high = grouped_share(np.ones(20), np.arange(20))["ci95"]
    assert 0.8 < low < 1.0
    assert high == 1.0
    assert grouped_share(np.zeros(3), np.arange(3))["share"] is None


def test_truncation_by_side() -> None:
    def encoder(prompt: list[Message], response: str) -> tuple[int, int, int]:
        return len(prompt[0]["content"]), len(response), 10

    rows = [pair("p" * 3, "a" * 4, "b" * 5), pair("p" * 8, "a", "b" * 9), pair("p", "a" * 11, "b" * 8)]
    report = check(rows, encoder=encoder)
    # prompt + response: 7, 8; 9, 17; 12 (response alone 11), 9.
    found = report.counts["truncation"]
    assert (found["sampled_texts"], found["prompt_cut_share"], found["response_cut_share"]) == (6, 1 / 6, 1 / 6)
    assert names(report.warnings) == {"prompt too long": 1, "response too long": 1}


def test_the_sample_is_bounded_uniform_and_seeded() -> None:
    def drawn(seed: int) -> list[str]:
        collector = Collector("comparisons", sample=50, seed=seed)
        for i in range(1000):
            collector._take_sample([], str(i))
        return [text for _, text in collector.sample]

    assert drawn(1) == drawn(1) != drawn(2)
    late = sum(int(text) >= 500 for seed in range(20) for text in drawn(seed))
    assert 400 < late < 600  # 1,000 draws, binomial: 500 +- 16; a chance below 1e-9


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("plain text, naïve café “quoted” — Ünïcödé 中文 🙂", []),
        ("Fran\u00c3\u00a7ois", ["mojibake"]),
        ("it\u00e2\u20ac\u2122s", ["mojibake"]),
        ("bad \ufffd char", ["replacement character"]),
        ("half \ud83d emoji", ["lone surrogate"]),
        ("bell \x07", ["control character"]),
        ("tab\tand\nline", []),
        ("a &amp; b &#39;c&#39;", ["HTML entity"]),
        ("R&D; AT&T", []),
    ],
)
def test_encoding_damage(text: str, kinds: list[str]) -> None:
    assert damage(text) == kinds


def test_encoding_damage_is_counted_by_text() -> None:
    report = check([pair("Q\x07", "A &lt;b&gt;", "B")])
    assert report.counts["encoding_damage"] == {"control character": 1, "HTML entity": 1}


def test_quantiles_are_observed_lengths() -> None:
    assert length_quantiles(np.arange(101, dtype=np.uint32)) == {
        "min": 0,
        "p5": 5,
        "p25": 25,
        "median": 50,
        "p75": 75,
        "p95": 95,
        "max": 100,
    }


def test_grades_annotators_and_labels() -> None:
    rows = [rated("A", 1, 4), rated("B", 3, 2), rated("A", 1, 4), rated("alone", 1, 1, doc="e")]
    report = check(rows, mapping=GRADED)
    assert report.counts["grades"]["x"] == {"rated": 4, "unrated": 0, "min": 1.0, "max": 3.0, "mean": 1.5}
    assert names(report.warnings) == {"repeated response": 1, "prompt with one response only": 1}
    kto = check([{"prompt": "Q", "completion": "A", "label": label} for label in (True, False, True)])
    assert kto.counts["labels"] == {"good": 2, "bad": 1}
    assert (kto.counts["duplicates"], kto.counts["contradictions"]) == (1, 1)


@pytest.mark.parametrize("ties", ["keep", "drop"])
def test_rows_of_one_graded_response_are_checked_as_they_will_be_read(ties: Any) -> None:
    rng = np.random.default_rng(0)
    rows = [
        rated(
            "ab"[int(rng.integers(2))] * int(rng.integers(1, 6)),
            int(rng.integers(1, 4)),
            int(rng.integers(1, 4)),
            doc=f"d{i % 17}",
        )
        for i in range(80)
    ]
    counts = check(rows, mapping=GRADED, ties=ties).counts
    view = pairs(read(rows, mapping=GRADED, ties=ties))
    tied = pairs(read(rows, mapping=GRADED)).p == 0.5
    longer = np.sign(view.length_a - view.length_b) * np.sign(view.p - 0.5)
    assert counts["judgements"] == len(view)
    assert counts["ties"]["count"] == tied.sum() > 0
    assert counts["longer_wins"]["judgements"] == (longer != 0).sum()
    assert counts["longer_wins"]["share"] == pytest.approx((longer > 0).sum() / (longer != 0).sum())
    assert counts["duplicates"] == len(rows) - len({(row["doc"], row["response"]) for row in rows})


def test_prompts_are_checked_too() -> None:
    rows = [{"prompt": "Q", "ground_truth": truth} for truth in ("4", None)]
    assert check(rows).counts["without_ground_truth"] == 1


def test_the_report_is_json_and_can_be_rendered(tmp_path: Path, write: WriteRows) -> None:
    report = check(write([pair("Q [red]", "A", "B"), pair("Q", "A", 3)]))  # type: ignore[arg-type]
    packed = json.loads(json.dumps(report.to_dict()))
    assert packed["ok"] is False
    assert packed["counts"]["rows"] == 2
    stream = io.StringIO()
    report.render(Console(file=stream, width=120))
    text = stream.getvalue()
    assert "row cannot be read" in text
    assert "data.jsonl:2:rejected" in text
    assert "1 errors" in text
