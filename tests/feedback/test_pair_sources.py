"""Pairs that nobody judged: worse versions, orders of writers, bridges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import DataError
from assay.feedback import comparison, from_rows, pairs
from assay.feedback.assumed import ASSUMED, with_assumed_order
from assay.feedback.bridging import bridged
from assay.feedback.corruption import DEGRADED, degraded, key_phrases, with_degraded
from assay.feedback.records import edge

TEXT = "The old lighthouse keeper fixed the broken lamp, and the ships came home safely."


def test_key_phrases_are_those_of_rake() -> None:
    found = [TEXT[start:end] for start, end in key_phrases(TEXT)]
    # degree over frequency: each word of a run of four is worth 4
    assert found[0] == "old lighthouse keeper fixed" and set(found[1:]) == {"broken lamp", "ships came home safely"} - {
        found[0]
    }
    assert found[1] == "ships came home safely"
    assert key_phrases("and the of, to!") == [] == key_phrases("")


def test_versions_lose_more_and_more() -> None:
    found = degraded(TEXT, 4)
    assert found[0] == (0.0, TEXT) and found[-1][0] == 1.0
    counts = [len(key_phrases(version)) for _, version in found]
    assert [share for share, _ in found] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == len(counts) and counts[-1] == 0
    # fewer phrases than levels: no version twice
    assert len(degraded("A red ball.", 6)) == 2
    assert degraded("of the", 3) == [(0.0, "of the")]
    with pytest.raises(DataError, match="2 or more"):
        degraded(TEXT, 1)


@given(st.lists(st.sampled_from(["sea", "the", "boat", "of", ",", "blue", "is", "."]), max_size=30), st.integers(2, 5))
def test_shares_rise_and_texts_differ(words: list[str], levels: int) -> None:
    found = degraded(" ".join(words), levels)
    shares, texts = [share for share, _ in found], [text for _, text in found]
    assert shares == sorted(set(shares)) and len(set(texts)) == len(texts) and texts[0] == " ".join(words)


def test_versions_become_judgements_of_their_own_weight() -> None:
    rows = [comparison("Tell a story.", [TEXT, "A boat sank."], [edge(0, 1, w=2.0)]), comparison("Hm?", ["a", "b"])]
    data = from_rows(rows)
    made, told = with_degraded(data, 3, 0.5)
    view = pairs(made)
    own, new = view.source != DEGRADED, view.source == DEGRADED
    assert own.sum() == 1 and view.w[new].sum() == pytest.approx(0.5 * 2.0) and (view.p[new] == 1).all()
    assert told == {"versions": 3, "judgements": int(new.sum())}
    texts = made[0]["responses"]
    assert texts[:2] == [TEXT, "A boat sank."] and made[1] == data[1]
    for a, b in zip(view.a[new], view.b[new], strict=True):
        assert len(key_phrases(texts[a])) > len(key_phrases(texts[b]))
    assert with_degraded(data, 3, 0.0)[0] is data
    with pytest.raises(DataError, match="out of range"):
        with_degraded(data, 3, -1)


def test_an_assumed_order_is_more_judgements() -> None:
    meta = {"responses": [{"model": "small"}, {"model": "person"}, {"model": "large"}, {"model": "stranger"}]}
    data = from_rows([comparison("p", ["s", "h", "l", "x"], [edge(0, 2)], meta=meta)])
    made, told = with_assumed_order(data, ["person", "large", "small"], 0.5)
    view = pairs(made)
    new = view.source == ASSUMED
    assert sorted(zip(view.a[new], view.b[new], strict=True)) == [(1, 0), (1, 2), (2, 0)]
    assert (view.w[new] == 0.5).all() and told == {"judgements": 3, "responses": 1}
    for order, reason in ((["a"], "two writers or more"), (["a", "a"], "each once"), (["a", "b"], "of two writers")):
        with pytest.raises(DataError, match=reason):
            with_assumed_order(data, order)


def test_bridges_stand_in_the_place_of_better_responses() -> None:
    rows = [
        comparison("p", ["good", "bad"], [edge(0, 1)]),
        comparison("q", ["worse", "better"], [edge(0, 1, p=0.2), edge(0, 1, p=0.5)]),
        comparison("r", ["one", "two"], [edge(1, 0)]),
    ]

    def edit(prompts: Any, better: Any, worse: Any) -> list[str]:
        assert [list(each) for each in (better, worse)] == [["good", "better", "two"], ["bad", "worse", "one"]]
        return ["bad but good", "worse, better", "one"]  # the last was not edited

    made, told = bridged(from_rows(rows), edit)
    assert told == {"edited": 2, "kept": 1}
    first, second, third = made
    assert first["responses"] == ["good", "bad", "bad but good"]
    assert (first["edges"][0]["a"], first["edges"][0]["b"]) == (2, 1)
    assert (second["edges"][0]["a"], second["edges"][0]["b"], second["edges"][0]["p"]) == (0, 2, 0.2)
    assert (second["edges"][1]["a"], second["edges"][1]["b"]) == (0, 1)  # a tie has nothing to bridge
    assert third["edges"][0]["a"] == 1 and np.all(np.diff([len(r["responses"]) for r in made]) == [0, -1])
