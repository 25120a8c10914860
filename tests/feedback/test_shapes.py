"""Every layout of the table of peers becomes the record that its words describe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.errors import ConfigError, DataError
from assay.feedback import overlap, read, read_with_report
from tests.feedback.conftest import A, B, Q, detected, one, prompt, sides


def test_explicit_pair_with_margin_target_and_weight() -> None:
    row = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green.", "margin": 0.5, "target": 0.8, "weight": 2}
    record = one({**row, "id": 7})
    assert detected(row) == "explicit_pair"
    assert prompt(record) == [("user", "The sky is")]
    assert sides(record) == [(" blue.", " green.", 0.8)]
    assert (record["edges"][0]["m"], record["edges"][0]["w"]) == (0.5, 2.0)
    assert json.loads(record["meta"]) == {"row": {"id": 7}}
    assert record["split_group"] == record["prompt_id"]


def test_an_explicit_pair_with_a_dialogue_as_prompt_is_parsed_and_grouped_like_hh() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: More\n\nAssistant:"
    record = one({"prompt": start, "chosen": "Yes.", "rejected": "No."})
    whole = one({"chosen": start + " Yes.", "rejected": start + " No."})
    assert record == whole


def test_a_dialogue_is_grouped_by_its_first_turn_however_it_is_written() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello!"), ("user", "More")]
    dialogue = [{"role": role, "content": text} for role, text in turns]
    chat = one({"prompt": dialogue, "chosen": [A], "rejected": [B]})
    start = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: More\n\nAssistant:"
    assert chat["split_group"] == one({"chosen": start + " A", "rejected": start + " B"})["split_group"]
    first = one({"prompt": "Hi", "chosen": "x", "rejected": "y"})
    assert chat["split_group"] == first["split_group"] == first["prompt_id"] != chat["prompt_id"]


@pytest.mark.parametrize("empty", ["", [{"role": "user", "content": ""}]])
def test_rows_without_a_prompt_have_nothing_in_common(empty: Any) -> None:
    rows = [{"prompt": empty, "chosen": f"A{i}", "rejected": f"B{i}"} for i in range(4)]
    data, other = read(rows[:2]), read(rows[2:])
    assert len(set(data["prompt_id"])) == len(set(data["split_group"])) == 2
    assert not overlap(data, other)
    assert overlap(data, read(rows[1:])).groups == 1


def test_hh_is_cut_at_the_last_assistant_and_grouped_by_the_first_turn() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: More"
    record = one({"chosen": start + "\n\nAssistant: Yes.", "rejected": start + "\n\nAssistant: Go away."})
    assert prompt(record) == [("user", "Hi"), ("assistant", "Hello!"), ("user", "More")]
    assert sides(record) == [("Yes.", "Go away.", 1.0)]
    short = one({"chosen": "\n\nHuman: Hi\n\nAssistant: A", "rejected": "\n\nHuman: Hi\n\nAssistant: B"})
    assert record["split_group"] == short["split_group"] == short["prompt_id"] != record["prompt_id"]


def test_conversational_pair_with_prompt() -> None:
    row = {"prompt": [Q], "chosen": [A], "rejected": [B]}
    assert detected(row) == "conversational_pair"
    record = one(row)
    assert (prompt(record), sides(record)) == ([("user", "Q")], [("A", "B", 1.0)])
    assert record["response_messages"] == [None, None]


def test_conversational_pair_whose_prompt_is_the_shared_beginning() -> None:
    record = one({"chosen": [Q, A, Q, A], "rejected": [Q, A, Q, B]})
    assert prompt(record) == [("user", "Q"), ("assistant", "A"), ("user", "Q")]
    assert sides(record) == [("A", "B", 1.0)]


def test_conversations_that_part_early_keep_their_messages() -> None:
    record = one({"chosen": [Q, A, {"role": "user", "content": "more"}, B], "rejected": [Q, B]})
    assert prompt(record) == [("user", "Q")]
    kept = json.loads(record["response_messages"][0])
    assert [turn["content"] for turn in kept] == ["A", "more", "B"]
    assert record["response_messages"][1] is None
    assert "more" in record["responses"][0]


def test_conversations_that_part_at_a_question_have_different_prompts() -> None:
    other = {"role": "user", "content": "another question"}
    rows = [{"chosen": [Q, A], "rejected": [other, B]}, {"chosen": [Q, A], "rejected": [Q, B]}]
    _, report = read_with_report(rows)
    assert report.dropped == {"prompts differ": 1}
    assert report.places == {"prompts differ": "rows:1"}


def test_tool_calls_are_kept() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "look"}]}
    record = one({"prompt": [Q], "chosen": [call, A], "rejected": [B]})
    kept = json.loads(record["response_messages"][0])
    assert json.loads(kept[0]["extra"]) == {"tool_calls": [{"name": "look"}]}


class Letters:
    """A tokenizer of letters: 1 is a, 2 is b …"""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(chr(96 + i) for i in ids)


def test_tokenised_pair_takes_the_shared_ids_as_prompt() -> None:
    row = {"chosen_ids": [1, 2, 3], "rejected_ids": [1, 4], "margin": 0.5}
    record = one(row, tokenizer=Letters())
    assert (prompt(record), sides(record)) == ([("user", "a")], [("bc", "d", 1.0)])
    assert record["edges"][0]["m"] == 0.5


def test_tokenised_pair_without_a_tokenizer_says_so() -> None:
    with pytest.raises(DataError, match="tokenizer"):
        read([{"chosen_ids": [1], "rejected_ids": [2]}])


def test_a_tokenizer_for_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="token ids only"):
        read([{"prompt": "Q", "chosen": "A", "rejected": "B"}], tokenizer=Letters())


def test_graded_pair_keeps_both_scores_and_a_plain_judgement() -> None:
    row = {"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B], "score_chosen": 8.5, "score_rejected": 6.0}
    record = one(row)
    assert (prompt(record), sides(record)) == ([("user", "Q")], [("A", "B", 1.0)])
    assert record["grades"] == [[{"dimension": "score", "value": 8.5}], [{"dimension": "score", "value": 6.0}]]


def test_contradicting_scores_are_kept_and_counted() -> None:
    row = {"prompt": "Q", "chosen": "A", "rejected": "B", "score_chosen": 1.0, "score_rejected": 6.0}
    data, report = read_with_report([row, {**row, "prompt": "Q2", "score_chosen": 6.0}])
    assert report.notes == {"scores contradict the choice": 1}
    assert sides(data[0]) == [("A", "B", 1.0)]


def test_a_prompt_column_that_contradicts_the_conversation_is_dropped() -> None:
    rows = [{"prompt": p, "chosen": [Q, A], "rejected": [Q, B]} for p in ("Q", "something else")]
    assert read_with_report(rows)[1].dropped == {"prompts differ": 1}


def test_ranked_completions_with_equal_ranks_tie() -> None:
    completions = [
        {"rank": r, "completion": [{"role": "assistant", "content": t}]} for r, t in ((1, "B"), (0, "A"), (1, "C"))
    ]
    record = one({"context": [Q], "completions": completions})
    assert sorted(sides(record)) == [("A", "B", 1.0), ("A", "C", 1.0), ("B", "C", 0.5)]
    assert [entry["rank"] for entry in json.loads(record["meta"])["responses"]] == [1, 0, 1]


RATED = {
    "instruction": "Q",
    "generations": ["A", "B", "C", "D"],
    "ratings": [5, "3", None, 5],
    "rationales": list("wxyz"),
}


def test_rated_list_keeps_null_and_makes_plain_judgements() -> None:
    record = one(RATED)
    assert [own[0]["value"] for own in record["grades"]] == [5.0, 3.0, None, 5.0]
    assert sorted(sides(record)) == [("A", "B", 1.0), ("A", "D", 0.5), ("D", "B", 1.0)]
    assert {e["source"] for e in record["edges"]} == {"grades"}
    assert [entry["rationales"] for entry in json.loads(record["meta"])["responses"]] == list("wxyz")


def test_tied_grades_can_be_left_out_and_are_counted() -> None:
    data, report = read_with_report([RATED], ties="drop")
    assert sorted(sides(data[0])) == [("A", "B", 1.0), ("D", "B", 1.0)]
    assert report.notes == {"tied grades left out": 1}


def test_graded_list_compares_common_dimensions_only() -> None:
    grades = [{"help": 5, "truth": None}, {"help": 4, "truth": 5}, {"help": None, "truth": 1}]
    record = one({"prompt": "Q", "responses": ["A", "B", "C"], "grades": grades})
    # A against B by help, B against C by truth; A and C share no dimension.
    assert sorted(sides(record)) == [("A", "B", 1.0), ("B", "C", 1.0)]


def test_alpaca_ranking_with_system_and_history() -> None:
    row = {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B", "system": "S", "history": [["h", "a"]]}
    record = one(row)
    assert prompt(record) == [("system", "S"), ("user", "h"), ("assistant", "a"), ("user", "Q")]
    assert sides(record) == [("A", "B", 1.0)]


def test_labelled_pair() -> None:
    record = one({"instruction": "Q", "answer_0": "A", "answer_1": "B", "label": 1})
    assert sides(record) == [("B", "A", 1.0)]


@pytest.mark.parametrize(
    ("verdict", "names"),
    [({"label": 1}, ("answer_0", "answer_1")), ({}, ("response_a", "response_b")), ({}, ("chosen", "rejected"))],
)
@pytest.mark.parametrize("asked", ["question", "instruction"])
def test_input_belongs_to_the_prompt(verdict: dict[str, Any], names: tuple[str, str], asked: str) -> None:
    rows = [
        {asked: "What colour is it?", "input": thing, names[0]: f"A {thing}", names[1]: f"B {thing}", **verdict}
        for thing in ("sky", "grass")
    ]
    data, report = read_with_report(rows)
    assert [prompt(record) for record in data] == [[("user", f"What colour is it?\n{t}")] for t in ("sky", "grass")]
    assert report.notes == ({"input joined to the prompt": 2} if asked == "question" else {})
    quoted = {**rows[0], asked: "What colour is the sky?"}
    if asked == "question":
        record = one(quoted)
        assert prompt(record) == [("user", "What colour is the sky?")]
        assert json.loads(record["meta"]) == {"row": {"input": "sky"}}


@pytest.mark.parametrize(
    "row", [{"prompt": "Q", "responses": ["A", "B"]}, {"prompt": "Q", "response_a": "A", "response_b": "B"}]
)
def test_unlabelled_pairs_are_records_without_judgements(row: dict[str, Any]) -> None:
    record = one(row)
    assert (record["responses"], record["edges"]) == (["A", "B"], [])


def test_verl_prompts() -> None:
    row = {
        "data_source": "d",
        "prompt": [{"role": "user", "content": "2+2?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"split": "train", "index": 0},
    }
    record = one(row)
    assert (prompt(record), record["ground_truth"], record["source"]) == ([("user", "2+2?")], "4", "d")
    assert json.loads(record["meta"])["row"]["reward_model"] == {"style": "rule"}


def test_own_records_come_back_unchanged() -> None:
    completions = [{"rank": 0, "completion": [A]}, {"rank": 1, "completion": [B]}]
    for row in (
        {"context": [Q], "completions": completions, "id": "x"},
        {"prompt": "Q", "completion": "A", "label": True},
        {"data_source": "d", "prompt": [Q], "reward_model": {"ground_truth": "4"}},
    ):
        data = read([row])
        again = read(data.to_list())
        assert again.to_list() == data.to_list()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"edges": [{"a": 0, "b": 2}]}, r"edges\[0\].b"),
        ({"edges": [{"a": 1, "b": 1}]}, r"edges\[0\]"),
        ({"edges": [{"a": 0, "b": 1, "p": 1.5}]}, r"edges\[0\].p"),
        ({"edges": [{"a": 0, "b": 1, "w": -1}]}, r"edges\[0\].w"),
        ({"responses": ["A", None]}, r"responses\[1\]"),
    ],
)
def test_own_records_are_checked(change: dict[str, Any], place: str) -> None:
    row = {"prompt": "Q", "responses": ["A", "B"], "edges": [{"a": 0, "b": 1}], **change}
    with pytest.raises(DataError, match=f"rows:1:{place}"):
        read([row])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": None}, "rejected"),
        ({"prompt": "Q", "chosen": "A"}, "rejected"),
        ({"prompt": 3, "chosen": "A", "rejected": "B"}, "prompt"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "target": 1.2}, "target"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "target": float("nan")}, "target"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": float("inf")}, "margin"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "weight": -1}, "weight"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": "much"}, "margin"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B", "margin": 10**400}, "margin"),
    ],
)
def test_bad_cells_name_their_column(row: dict[str, Any], column: str) -> None:
    with pytest.raises(DataError, match=rf"rows:1:{column}"):
        read([row], format="explicit_pair")


@pytest.mark.parametrize("extra", ["foo", "[1]", 3])
def test_a_key_extra_that_is_not_ours_is_kept(extra: Any) -> None:
    record = one({"prompt": [{"role": "user", "content": "Q", "extra": extra}], "chosen": "A", "rejected": "B"})
    assert json.loads(record["prompt"][0]["extra"]) == {"extra": extra}


def test_a_list_of_one_response_is_an_error() -> None:
    with pytest.raises(DataError, match="one response only"):
        read([{"prompt": "Q", "responses": ["A"], "ratings": [3]}])


def test_identical_pairs_are_dropped_and_equal_responses_of_a_list_folded() -> None:
    rows = [{"prompt": "Q", "responses": r, "ratings": list(range(len(r)))} for r in (["A", "A"], ["A", "B", "A"])]
    data, report = read_with_report(rows)
    assert report.dropped == {"identical pair": 1}
    assert report.notes == {"equal responses of one row folded": 1}
    assert data[0]["responses"] == ["A", "B"]
    # A was graded 0 and 2, mean 1, like B.
    assert sides(data[0]) == [("A", "B", 0.5)]


def test_cells_of_a_prompt_reach_rewards() -> None:
    """What a row says beside prompt and truth goes to ``meta``, where reward functions are given it from."""
    row = {"prompt": "Q", "ground_truth": "b", "choices": ["a", "b"], "task": "t", "split_group": "g", "empty": None}
    (record,) = read([row])
    assert record["split_group"] == "g" and json.loads(record["meta"]) == {"row": {"choices": ["a", "b"], "task": "t"}}
    (plain,) = read([{"prompt": "Q", "ground_truth": "b"}])
    assert plain["meta"] is None
    # records that were written before keep what they say
    (again,) = read([dict(record)])
    assert again["meta"] == record["meta"] and again["prompt_id"] == record["prompt_id"]


def test_a_last_turn_of_the_user_in_hh_is_told() -> None:
    start = "\n\nHuman: Hi\n\nAssistant:"
    _, report = read_with_report([{"chosen": start + " A\n\nHuman: thanks", "rejected": start + " B"}])
    assert report.notes["the user's last turn is kept in the response"] == 1


def test_labels_may_name_the_better_column() -> None:
    row = {"prompt": "Q", "response_a": "A", "response_b": "B"}
    assert sides(one(row | {"label": "response_b"})) == [("B", "A", 1.0)]
    _, report = read_with_report([row | {"label": ""}, row | {"label": "1"}])
    assert report.dropped == {"no judgement": 1}


def test_a_list_of_one_response_is_counted_and_left_out() -> None:
    rows = [{"prompt": f"Q{k}", "responses": ["A", "B"][:k], "scores": [2, 1][:k]} for k in (1, 2)]
    data, report = read_with_report(rows)
    assert len(data) == 1 and report.dropped == {"one response only": 1}


def test_a_verdict_that_the_first_rows_have_not_is_refused() -> None:
    rows = [{"prompt": f"Q{k}", "response_a": "A", "response_b": "B"} for k in range(25)]
    with pytest.raises(DataError, match=r"25:label: a verdict that the first rows have not"):
        read([*rows[:24], rows[24] | {"label": 1}])
    assert len(read([*rows[:24], rows[24] | {"label": None}])) == 25
    assert len(read([*rows[:24], rows[24] | {"label": 1}], format="unlabelled")) == 25


def test_a_late_column_that_the_layout_would_have_taken_is_read() -> None:
    rows = [{"prompt": f"Q{k}", "chosen": "A", "rejected": "B"} for k in range(25)]
    assert len(read([*rows[:24], rows[24] | {"annotator": "Ann"}, rows[0] | {"prompt": "R"}])) == 26
    with pytest.raises(DataError, match="25:chosen_score: a verdict"):
        read([*rows[:24], *[row | {"chosen_score": 3, "rejected_score": 1} for row in rows[:2]]])
