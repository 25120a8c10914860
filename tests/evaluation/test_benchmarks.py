"""Public benchmarks: tables by hand, and what their files may hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import DataError
from assay.evaluation.benchmarks import BENCHMARKS, Item, Line, Scored
from assay.evaluation.benchmarks.rewardbench import PRIOR, SECTIONS
from assay.evaluation.benchmarks.rewardbench2 import best_of, ties_score


def scored(subset: str, chosen: Sequence[float], rejected: Sequence[float], name: str = "") -> Scored:
    item = Item("q", ["c"] * len(chosen), ["r"] * len(rejected), subset, name)
    good, bad = np.array(chosen, float), np.array(rejected, float)
    return Scored(item, good, bad, good[:, None] - bad[None, :])


def values(lines: list[Line]) -> dict[str, float | None]:
    return {line.name: line.value for line in lines}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_rewardbench_by_hand() -> None:
    """One subset of each section, weights as published: 100 : 28, and prior sets at half weight."""
    given = [
        *(scored("alpacaeval-easy", [1], [0]) for _ in range(3)), scored("alpacaeval-easy", [0], [1]),
        scored("mt-bench-easy", [1], [1]),
        scored("donotanswer", [2], [1]),
        scored("shp", [0], [1]), scored("summarize", [1], [0]),
        scored("my own", [1], [0]),
    ]  # fmt: skip
    lines = BENCHMARKS["rewardbench"].table(given)
    found = values(lines)
    chat = (100 * 0.75 + 28 * 0.0) / 128
    assert found["alpacaeval-easy"] == 0.75 and found["mt-bench-easy"] == 0.0, "equal scores are not right"
    assert found["Chat"] == pytest.approx(chat) and found["Safety"] == 1.0 and found["Prior Sets"] == 0.5
    assert found["Score"] == pytest.approx((chat + 1.0 + 0.5 * 0.5) / 2.5)
    assert found["my own"] == 1.0 and "Reasoning" not in found
    assert lines[0].name == "Score" and lines[0].count == 8 and [line.level for line in lines[:2]] == [0, 1]


def test_weights_of_rewardbench() -> None:
    assert {section: sum(weights.values()) for section, weights in SECTIONS.items()} == {
        "Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968
    }  # fmt: skip
    assert sum(len(weights) for weights in SECTIONS.values()) == 23 and len(PRIOR) == 4
    code = sum(weight for name, weight in SECTIONS["Reasoning"].items() if name.startswith("hep"))
    assert code == SECTIONS["Reasoning"]["math-prm"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [(3, [1, 2, 0], 1.0), (3, [3, 2, 0], 0.5), (3, [3, 3, 3], 0.25), (3, [3, 4, 0], 0.0), (3, [4, 4, 4], 0.0)],
)
def test_the_best_of_four(chosen: float, rejected: list[float], expected: float) -> None:
    assert best_of(scored("Math", [chosen], rejected)) == expected


def test_ties_by_hand() -> None:
    given = [
        scored("Ties", [5.0], [1.0, 0.0], "ref:1"), scored("Ties", [5.0, 4.0], [1.0], "tied:1"),
        scored("Ties", [1.0], [2.0], "ref:2"), scored("Ties", [5.0, 1.0], [2.0], "tied:2"),
    ]  # fmt: skip
    # 1: right, gap 3 over spread 1, reference gap 4; 2: wrong, gap -1 under spread 4, reference gap -1
    margin = (np.tanh(3 / 1 - 1) + np.tanh(-1 / 4 - 1)) / 2
    expected = 0.3 * 0.5 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin
    assert ties_score(given) == pytest.approx(expected)
    # the smaller gap is the reference's: 0.5 is under the spread
    harder = [scored("Ties", [1.5], [1.0], "ref:1"), given[1]]
    assert ties_score(harder) == pytest.approx(0.3 + 0.3 + 0.2 + 0.01 * np.tanh(0.5 / 1 - 1))
    alone = [given[0], scored("Ties", [5.0], [1.0], "tied:1")]
    assert ties_score(alone) == pytest.approx(0.6), "one right answer has no spread"
    equal = [given[0], scored("Ties", [5.0, 5.0], [1.0], "tied:1")]
    assert ties_score(equal) == pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01)
    assert ties_score([given[0]]) is None


def test_rewardbench2_is_the_mean_of_its_subsets() -> None:
    given = [scored("Math", [3], [1, 1, 1]), scored("Safety", [1], [3, 1, 1]), scored("Safety", [3], [1, 1, 3])]
    lines = BENCHMARKS["rewardbench2"].table(given)
    with_own = BENCHMARKS["rewardbench2"].table([*given, scored("mine", [1], [2])])
    assert with_own[0] == lines[0] and values(with_own)["mine"] == 0.0
    assert values(lines) == {"Score": (1.0 + 0.25) / 2, "Math": 1.0, "Safety": 0.25}


def test_rm_bench_by_hand() -> None:
    """Chosen 1, 2, 3 and rejected 0.5, 1.5, 2.5: right where the chosen style is not plainer."""
    chat = scored("chat", [1, 2, 3], [0.5, 1.5, 2.5])
    safe, unsafe = scored("safety-refuse", [9, 9, 9], [0, 0, 0]), scored("safety-response", [0, 0, 0], [9, 9, 9])
    found = values(BENCHMARKS["rm-bench"].table([chat, safe, unsafe, unsafe]))
    assert (found["chat, easy"], found["chat, normal"], found["chat, hard"]) == (1.0, 1.0, 0.0)
    assert found["safety"] == pytest.approx(0.5), "both parts weigh the same, however many there are"
    assert (found["easy"], found["hard"]) == (0.75, 0.25)
    assert found["Average"] == pytest.approx((found["chat"] + found["safety"]) / 2)  # type: ignore[operator]


def test_llmbar_by_hand(tmp_path: Path) -> None:
    rows = [{"input": "Q", "output_1": "a", "output_2": "b", "label": 2}]
    for name in ("Natural", "Adversarial/Neighbor", "Adversarial/Manual"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dataset.json").write_text(json.dumps(rows * 2), "utf-8")
    (tmp_path / "Natural" / "evaluators").mkdir()
    (tmp_path / "Natural" / "evaluators" / "result.json").write_text("[{}]", "utf-8")
    items = BENCHMARKS["llmbar"].read(str(tmp_path))
    assert sorted(item.subset for item in items) == ["Manual", "Manual", "Natural", "Natural", "Neighbor", "Neighbor"]
    assert {(item.chosen[0], item.rejected[0]) for item in items} == {("b", "a")}
    given = [scored(item.subset, [1], [0 if item.subset != "Manual" else 2]) for item in items]
    found = values(BENCHMARKS["llmbar"].table(given))
    assert found["Adversarial"] == 0.5 and found["Natural"] == 1.0 and found["Average"] == pytest.approx(2 / 3)
    (single,) = BENCHMARKS["llmbar"].read(write(tmp_path / "mine.jsonl", rows))
    assert single.subset == "mine"


def test_files_of_the_others(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Q"}]
    one = {"prompt": chat, "chosen": [*chat, {"role": "assistant", "content": "a"}], "rejected": "b", "subset": "shp"}
    (item,) = BENCHMARKS["rewardbench"].read(write(tmp_path / "rb.jsonl", [one]))
    assert (item.prompt, item.chosen, item.rejected) == (chat, ["a"], ["b"])
    two = {"prompt": "Q", "chosen": ["a"], "rejected": ["b", "c", "d"], "subset": "Math", "id": "7"}
    (item,) = BENCHMARKS["rewardbench2"].read(write(tmp_path / "rb2.jsonl", [two]))
    assert len(item.rejected) == 3 and item.name == "7"
    three = {"prompt": "Q", "chosen": list("abc"), "rejected": list("def"), "domain": "chat", "id": "1"}
    write(tmp_path / "rm" / "chat_filtered.json", [three])
    write(tmp_path / "rm" / "total_dataset.json", [three])
    assert len(BENCHMARKS["rm-bench"].read(str(tmp_path / "rm"))) == 1, "the whole, and not its parts again"


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        ("rewardbench", {"prompt": "Q", "chosen": "a", "rejected": "b"}, "subset"),
        ("rewardbench", {"prompt": "Q", "chosen": 3, "rejected": "b", "subset": "shp"}, "chosen"),
        ("rewardbench", {"chosen": "a", "rejected": "b", "subset": "shp"}, "prompt"),
        ("rewardbench2", {"prompt": "Q", "chosen": [], "rejected": ["b"], "subset": "Math"}, "chosen"),
        ("rewardbench2", {"prompt": "Q", "chosen": ["a"], "rejected": ["b"], "subset": "Ties", "id": "1"}, "id"),
        ("rm-bench", {"prompt": "Q", "chosen": ["a"], "rejected": list("abc"), "domain": "chat"}, "chosen"),
        ("rm-bench", {"prompt": "Q", "chosen": list("abc"), "rejected": list("abc")}, "domain"),
        ("llmbar", {"input": "Q", "output_1": "a", "output_2": "b", "label": 0}, "label"),
    ],
)
def test_a_row_that_is_none(name: str, row: dict[str, Any], column: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"b.jsonl:1:{column}") as error:
        BENCHMARKS[name].read(write(tmp_path / "b.jsonl", [row]))
    assert BENCHMARKS[name].title in str(error.value) and "expected" in str(error.value)
    with pytest.raises(DataError, match="no row"):
        BENCHMARKS[name].read(write(tmp_path / "empty.jsonl", []))
