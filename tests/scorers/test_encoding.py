"""A data set as token ids: every response once, in its place, with what truncation cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.feedback import read
from assay.feedback.pairs import pairs
from assay.feedback.records import comparison, edge, from_rows
from assay.scorers import RewardModel
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.provenance import conversation_fingerprint
from tests.scorers.conftest import same

LONG = " ".join(f"word{i}" for i in range(60))


def rows() -> list[dict[str, Any]]:
    return [
        comparison("Name a sea.", ["The Baltic.", "No.", "Aral."], [edge(0, 1), edge(1, 2), edge(0, 1, 0.0)]),
        comparison(LONG, ["Yes.", "No."], [edge(1, 0)]),
        comparison("Nothing was said.", []),
        comparison("Q", [LONG + " one", LONG + " two", "A"], [edge(0, 1), edge(1, 0), edge(0, 2)]),
    ]


def test_every_response_has_its_place(causal: RewardModel) -> None:
    data = from_rows(rows())
    records = encode_records(data, causal.encoder)
    assert records.offsets.tolist() == [0, 3, 5, 5, 8]
    texts = [(row["prompt"], reply) for row in data for reply in row["responses"]]
    expected = [e.ids for e in causal.encoder.encode(*zip(*texts, strict=True))]
    found = [ids.tolist() for record in range(len(data)) for ids in records.ids(record)]
    assert found == expected
    assert records.lengths.tolist() == [len(ids) for ids in expected]


def test_truncation_is_counted_by_what_it_took(causal: RewardModel) -> None:
    records = encode_records(from_rows(rows()), causal.encoder)
    encoded = causal.encoder.encode([LONG, LONG, "Q", "Q"], ["Yes.", "No.", LONG + " one", LONG + " two"])
    assert all(e.cut_prompt for e in encoded)
    assert [bool(e.cut_reply) for e in encoded] == [False, False, True, True]
    assert (records.cut_prompt, records.cut_reply) == (4, 2)


def test_pairs_that_truncation_made_identical_are_dropped_and_counted(causal: RewardModel) -> None:  # defect 6
    data = from_rows(rows())
    records = encode_records(data, causal.encoder)
    a, b = records.ids(3)[0], records.ids(3)[1]
    assert np.array_equal(a, b)  # they differ in the last word only, which the limit took
    assert records.dropped_identical == 2
    assert len(records.pairs) == len(pairs(data)) - 2
    assert list(zip(records.pairs.row, records.pairs.a, records.pairs.b, strict=True))[-1] == (3, 0, 2)


def test_margins_follow_the_pairs(causal: RewardModel) -> None:
    data = from_rows(rows())
    records = encode_records(data, causal.encoder)
    values = np.arange(8, dtype=np.float32) ** 2
    assert records.margins(values).tolist() == [0 - 1, 1 - 4, 0 - 1, 16 - 9, 25 - 49]
    members = np.stack([values, -values], axis=1)
    assert np.array_equal(records.margins(members)[:, 1], -records.margins(values))
    everything = pairs(data)
    assert len(records.margins(values, everything)) == len(everything)
    assert len(records.margins(values, everything.take(np.array([], np.int64)))) == 0


def test_records_score_like_their_conversations(
    causal: RewardModel, tiny_causal: Path, make: Callable[..., Any]
) -> None:
    data = from_rows(rows()[:1] * 3 + rows()[2:3])
    for model in (causal, make(tiny_causal, members=2)):
        records = encode_records(data, model.encoder)
        direct = model.score_encoded([e.ids for e in model.encoder.encode(["Name a sea."] * 3, rows()[0]["responses"])])
        for texts_at_once in (2, 4096):
            same(score_records(model, records, texts_at_once=texts_at_once), np.concatenate([direct] * 3))


def test_reply_of_several_messages_is_written_by_the_template(chat: RewardModel) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    said = {"role": "assistant", "content": "7."}
    data = from_rows([
        comparison("Q", ["7.", "7."], [edge(0, 1)], response_messages=[None, json.dumps([call, said])])
    ])  # fmt: skip
    plain, tools = encode_records(data, chat.encoder).ids(0)
    assert chat.encoder.tokenizer.decode(tools).count("<|assistant|>") == 2
    assert '{"name": "f"}' in chat.encoder.tokenizer.decode(tools)
    assert '"name"' not in chat.encoder.tokenizer.decode(plain)


def test_another_encoder_never_gets_cached_tokens(
    pairs_file: Path, tiny_causal: Path, make: Callable[..., Any]
) -> None:
    data = read(str(pairs_file))  # on disk, so tokenising is cached
    first = make(tiny_causal).encoder
    other = make(tiny_causal).encoder
    # differs from the first outside of what the stored fingerprint looks at
    state = json.loads(other.tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary["W"], vocabulary["+"] = vocabulary["+"], vocabulary["W"]
    other.tokenizer._tokenizer = type(other.tokenizer.backend_tokenizer).from_str(json.dumps(state))
    assert conversation_fingerprint(first) == conversation_fingerprint(other)
    ids = [encode_records(data, encoder).ids(1)[0].tolist() for encoder in (first, other)]
    assert ids[1] == other.encode([data[1]["prompt"]], [data[1]["responses"][0]])[0].ids
    assert ids[0] != ids[1]


@pytest.mark.parametrize("count", [0, 1])
def test_small_data_sets(causal: RewardModel, count: int) -> None:
    records = encode_records(from_rows(rows()).select(range(count)), causal.encoder)
    assert len(records.offsets) == count + 1
    assert len(score_records(causal, records)) == len(records.lengths) == 3 * count
