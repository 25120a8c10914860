"""Links of a chain of rewards: what reaches which token, and what each part is told to have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from assay.credit import CreditError, Multiplier, spreading
from assay.credit.answers import Answers, Rewards
from assay.credit.combining import Capped, Length, Routed, Safe, Weighted, subset
from assay.credit.functions import by_function, by_model, function_from
from assay.credit.links import AtTheEnd, Standard
from assay.credit.spreading import ByAttention, Redistributed, known_whole
from assay.errors import ConfigError
from assay.scorers import ModelOptions, RewardModel, create_reward_model
from assay.scorers.conversation import Encoded

PROMPTS = ["Name a sea.", "Name a sea.", "What is a bird?"]
TEXTS = ["The Baltic is one.", "None.", "It flies. It sings."]


@pytest.fixture(scope="module")
def model(tiny_causal: Path, learned: Any) -> RewardModel:
    return learned(create_reward_model(ModelOptions(backbone=str(tiny_causal), max_length_tokens=64)))


def answers_of(
    encoder: Any, texts: list[str] = TEXTS, ended: tuple[bool, ...] = (True, True, True), **more: Any
) -> Answers:
    encoded = encoder.encode(PROMPTS, texts)
    tail = len(encoder.tail)
    sequences = [
        np.array(one.ids if end else one.ids[:-tail], np.int64) for one, end in zip(encoded, ended, strict=True)
    ]
    starts = np.array([one.prompt_tokens for one in encoded], np.int64)
    return Answers(
        list(PROMPTS), list(texts), sequences, starts, np.array(ended), np.array([0, 0, 1]), encoder.tokenizer, **more
    )


@pytest.fixture
def answers(model: RewardModel) -> Answers:
    return answers_of(model.encoder, columns={"ground_truth": ["a", "b", None], "task": ["x", "x", "y"]})


def test_credit_is_what_each_token_changed(model: RewardModel, answers: Answers) -> None:
    found = Redistributed("m", model)(answers)
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        scores = model.prefix_scores(prompt, text)
        own = found.tokens[answers.offsets[row] : answers.offsets[row + 1]]
        np.testing.assert_allclose(own, np.diff(scores), atol=1e-4)
    np.testing.assert_allclose(found.parts["m"], model.score(PROMPTS, TEXTS), atol=1e-5)
    sparse = Redistributed("m", model, mix=0.0)(answers)
    np.testing.assert_allclose(sparse.tokens, by_model(model, "m")(answers).tokens, atol=1e-5)
    assert (sparse.tokens != 0).sum() == 3


def test_a_response_that_was_cut_gets_the_end_at_its_last_token(model: RewardModel) -> None:
    cut = answers_of(model.encoder, ended=(False, True, True))
    found = Redistributed("m", model)(cut)
    scores = model.prefix_scores(PROMPTS[0], TEXTS[0])
    own = found.tokens[: cut.lengths[0]]
    assert len(own) == len(scores) - 1 - len(model.encoder.tail)
    assert own.sum() == pytest.approx(scores[-1] - scores[0], abs=1e-4)
    np.testing.assert_allclose(own[:-1], np.diff(scores)[: len(own) - 1], atol=1e-4)


def test_other_tokens_get_what_the_characters_up_to_their_ends_earned(
    model: RewardModel, answers: Answers, tiny_encoder: Path
) -> None:
    """The policy writes in words of another tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    sequences = [np.array([2, *tokenizer(text, add_special_tokens=False)["input_ids"], 3], np.int64) for text in TEXTS]
    other = Answers(
        list(PROMPTS), list(TEXTS), sequences, np.ones(3, np.int64), np.ones(3, bool), np.zeros(3, np.int64), tokenizer
    )
    found = Redistributed("m", model)(other)
    assert not np.array_equal(other.lengths, answers.lengths)
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        scores = model.prefix_scores(prompt, text)
        own = found.tokens[other.offsets[row] : other.offsets[row + 1]]
        assert own.sum() == pytest.approx(scores[-1] - scores[0], abs=1e-4)
    flat = Redistributed("m", model, even=True)(other)
    assert flat.tokens[: other.lengths[0]].std() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(other.sums(flat.tokens), other.sums(found.tokens), atol=1e-4)


def test_controls_keep_the_sum(model: RewardModel, answers: Answers) -> None:
    plain = Redistributed("m", model)(answers).tokens
    shuffled = Redistributed("m", model, shuffle=1)(answers).tokens
    assert not np.allclose(plain, shuffled)
    np.testing.assert_allclose(answers.sums(plain), answers.sums(shuffled), atol=1e-6)
    first = slice(0, int(answers.lengths[0]))
    assert sorted(plain[first]) == pytest.approx(sorted(shuffled[first]))
    looked = ByAttention("m", model)(answers)
    np.testing.assert_allclose(answers.sums(looked.tokens), model.score(PROMPTS, TEXTS), atol=1e-4)
    last = looked.tokens[answers.last] / model.score(PROMPTS, TEXTS)
    assert (last >= 0.5).all()  # half of it comes at the end
    # attention is as it was
    np.testing.assert_allclose(Redistributed("m", model)(answers).tokens, plain, atol=1e-5)


def test_words_and_sentences_get_it_where_their_end_shows() -> None:
    added = ["It", " fl", "ies", ".", " It", " sings", ".", ""]
    assert known_whole(added, "token").tolist() == list(range(9))
    # a word is known to be whole with the token that opens the next one, the last with the end
    assert known_whole(added, "word").tolist() == [0, 0, 1, 1, 1, 4, 5, 5, 8]
    assert known_whole(added, "sentence").tolist() == [0, 0, 0, 0, 0, 4, 4, 4, 8]
    scores = np.arange(9.0)
    assert np.diff(scores[known_whole(added, "sentence")]).tolist() == [0, 0, 0, 0, 4, 0, 0, 4]
    # what ends with a blank, a line or a mark of its own shows it at once; a point within a number ends nothing
    assert known_whole(["a ", "b\n", "3.", "5", " c"], "word").tolist() == [0, 1, 2, 2, 2, 5]
    assert known_whole(["a ", "b\n", "3.", "5", " c", "d"], "sentence").tolist() == [0, 0, 2, 2, 2, 2, 6]
    assert known_whole(["\u597d", "\u3002", "\u597d", "\u3002"], "sentence").tolist() == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("by", ["word", "sentence"])
def test_what_is_paid_does_not_depend_on_what_comes_later(by: Any) -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        both = [[str(piece) for piece in random.choice([" a", "b", ".", "\n", " ", "c "], 8)] for _ in range(2)]
        both[1][:5] = both[0][:5]
        one, other = (known_whole(added, by) for added in both)
        assert one[:6].tolist() == other[:6].tolist() and one[-1] == other[-1] == 8
        assert (np.diff(one) >= 0).all() and (one <= np.arange(9)).all()


def test_a_running_standard_brings_scores_to_scale_and_not_tokens(model: RewardModel, answers: Answers) -> None:
    scores = np.random.default_rng(0).normal(3, 2, 500)
    standard = Standard()
    for part in np.array_split(scores, 7):
        standard.see(part)
    assert standard.mean == pytest.approx(scores.mean()) and standard.deviation == pytest.approx(scores.std())
    link = Redistributed("m", model, standard=Standard())
    found = link(answers).tokens
    deviation = model.score(PROMPTS, TEXTS).std()
    np.testing.assert_allclose(found, Redistributed("m", model)(answers).tokens / deviation, rtol=1e-3, atol=1e-4)
    other = Redistributed("m", model, standard=Standard())
    other.restore(link.state())
    assert other.standard == link.standard
    assert Standard().deviation == 1.0 and Standard()(np.array([2.0])) == 2.0


def fixed(name: str, values: list[float]) -> AtTheEnd:
    return AtTheEnd(name, lambda _: values)


def test_weights_may_change_with_the_cycle(answers: Answers) -> None:
    schedule = Weighted([(fixed("a", [1, 2, 3]), 2.0), (fixed("b", [10, 10, 10]), lambda cycle: float(cycle))])
    found = schedule(answers)
    assert answers.sums(found.tokens).tolist() == [2, 4, 6]
    later = schedule(Answers(**{**vars_of(answers), "cycle": 3}))
    assert answers.sums(later.tokens).tolist() == [32, 34, 36] and set(later.parts) == {"a", "b"}
    # what has no number and no weight is in nobody's way
    unknown = Weighted([(fixed("a", [1, 1, 1]), 1.0), (fixed("b", [np.nan] * 3), 0.0)])(answers)
    assert unknown.known(answers).all()


def vars_of(answers: Answers) -> dict[str, Any]:
    names = ("prompts", "texts", "sequences", "starts", "ended", "groups", "tokenizer", "columns")
    return {name: getattr(answers, name) for name in names}


def test_the_cap_and_the_rationale(answers: Answers) -> None:
    found = Capped(fixed("label", [2, 5, 7]), fixed("rationale", [0.5, 0.5, -1]), 3.9)(answers)
    assert answers.sums(found.tokens) == pytest.approx([2.5, 4.4, 2.9])
    assert found.parts["beyond the cap"] == pytest.approx([0, 1.1, 3.1])


def test_a_redistributed_label_loses_what_is_beyond_the_cap_at_its_end(model: RewardModel, answers: Answers) -> None:
    whole = model.score(PROMPTS, TEXTS).astype(np.float64)
    cap = float(np.median(whole))
    plain = Redistributed("m", model)(answers)
    found = Capped(Redistributed("m", model), fixed("r", [0, 0, 0]), cap)(answers)
    # the cap is of the score in its own units, and not of what is left of it without the prompt's
    expected = answers.sums(plain.tokens) - np.maximum(whole - cap, 0)
    np.testing.assert_allclose(answers.sums(found.tokens), expected, atol=1e-5)
    offset = Capped(Redistributed("m", model, as_offset=True), fixed("r", [0, 0, 0]), cap)(answers)
    assert offset.critic_offset is not None


def test_the_multiplier_moves_with_the_costs(answers: Answers) -> None:
    link = Safe(fixed("reward", [1, 1, 1]), fixed("cost", [2, 2, 2]), Multiplier(budget=1.0, rate=0.5))
    first, second = link(answers), link(answers)
    assert answers.sums(first.tokens).tolist() == [1, 1, 1]
    assert answers.sums(second.tokens) == pytest.approx([(1 - 0.5 * 2) / 1.5] * 3)
    other = Safe(fixed("reward", [1, 1, 1]), fixed("cost", [2, 2, 2]), Multiplier(budget=1.0, rate=0.5))
    other.restore(link.state())
    assert other.multiplier.value == 1.0


def test_each_response_is_scored_by_exactly_one_link(answers: Answers) -> None:
    asked: list[list[str]] = []

    def noting(prompts: list[str], **_: Any) -> list[float]:
        asked.append(prompts)
        return [1.0] * len(prompts)

    link = Routed("task", {"x": by_function(noting, "x"), "y": fixed("y", [7.0])})
    found = link(answers)
    assert answers.sums(found.tokens).tolist() == [1, 1, 7] and asked == [PROMPTS[:2]]
    assert np.isnan(found.parts["y"][:2]).all()
    with pytest.raises(CreditError, match="no reward is there for a task"):
        Routed("task", {"x": fixed("x", [1, 1])})(answers)
    with pytest.raises(CreditError, match="no such column"):
        Routed("kind", {})(answers)


def test_length_and_a_missing_end(model: RewardModel) -> None:
    cut = answers_of(model.encoder, ended=(False, True, True))
    found = Length(per_token=0.5, free=2, no_end=3.0)(cut)
    expected = -0.5 * np.maximum(cut.lengths - 2, 0) - np.array([3.0, 0, 0])
    assert cut.sums(found.tokens) == pytest.approx(expected)


def test_functions_are_asked_as_by_trl(answers: Answers, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def reward(
        prompts: Any, completions: Any, completion_ids: Any, ground_truth: Any, **more: Any
    ) -> list[float | None]:
        seen.update(prompts=prompts, completions=completions, ids=completion_ids, truth=ground_truth, more=more)
        return [1.0, None, 2.0]

    found = by_function(reward)(answers)
    assert seen["completions"] == TEXTS and seen["truth"] == ["a", "b", None]
    assert seen["ids"][1] == answers.ids(1).tolist() and seen["more"]["groups"] == [0, 0, 1]
    assert found.known(answers).tolist() == [True, False, True]

    async def awaited(completions: Any, **_: Any) -> list[float]:
        return [0.5] * len(completions)

    later: Any = awaited
    assert answers.sums(by_function(later)(answers).tokens).tolist() == [0.5] * 3
    chat = Answers(**{**vars_of(answers), "prompts": [[{"role": "user", "content": text}] for text in PROMPTS]})
    by_function(reward)(chat)
    assert seen["completions"][0] == [{"role": "assistant", "content": TEXTS[0]}]


def test_functions_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def reward(completions, **_):\n    return [1.0] * len(completions)\n", "utf-8")
    assert function_from(f"{tmp_path / 'mine.py'}:reward")(completions=["a"]) == [1.0]
    assert function_from(str(tmp_path / "mine.py"))(completions=["a"]) == [1.0]
    (tmp_path / "broken.py").write_text("1 / 0\n", "utf-8")
    for place, reason in (("mine.py:other", "no such function"), ("none.py", "is not there"), ("broken.py", "ZeroDiv")):
        with pytest.raises(ConfigError, match=reason):
            function_from(str(tmp_path / place))


def test_what_are_no_rewards(answers: Answers) -> None:
    for values, reason in (([1.0], "another number of responses"), (["x", 1, 2], "is no number")):
        with pytest.raises(CreditError, match=reason):
            fixed("mine", values)(answers)  # type: ignore[arg-type]
    with pytest.raises(CreditError, match="has no token"):
        Answers(["p"], [""], [np.array([1, 2])], np.array([2]), np.array([True]), np.array([0]), None)


def test_a_part_of_the_responses(answers: Answers) -> None:
    found = subset(answers, np.array([2]))
    assert found.texts == [TEXTS[2]] and found.groups.tolist() == [0] and found.columns["task"] == ["y"]
    assert isinstance(fixed("a", [1.0])(found), Rewards)


def test_a_planted_keyword_gets_nearly_all_credit(model: RewardModel, answers: Answers) -> None:
    """A scorer that knows one word: credit finds its token, and a uniform share does not."""

    class Keyword:
        def __init__(self, encoder: Any) -> None:
            self.encoder = encoder

        def prefix_scores_encoded(self, encoded: Any, **_: Any) -> list[np.ndarray]:
            found = []
            for one in encoded:
                texts = [
                    self.encoder.tokenizer.decode(one.ids[one.prompt_tokens : end], skip_special_tokens=True)
                    for end in range(one.prompt_tokens, len(one.ids) + 1)
                ]
                found.append(np.array([5.0 * ("Baltic" in text) for text in texts], np.float32))
            return found

    knows = Keyword(model.encoder)
    plain, flat = Redistributed("k", knows)(answers).tokens, Redistributed("k", knows, even=True)(answers).tokens
    own = plain[: answers.lengths[0]]
    assert own.max() == 5 and (own != 0).sum() == 1
    piece = "".join(answers.pieces(0)[: int(own.argmax()) + 1])
    assert piece.endswith("Baltic") and flat[: answers.lengths[0]].max() < 1.0


@pytest.mark.parametrize("given", [{0: 1.0, 1: 2.0, 2: 3.0}, {1.0, 2.0, 3.0}, "123", [1, 2, 10**400]])
def test_what_is_no_list_of_numbers_is_no_reward(answers: Answers, given: Any) -> None:
    with pytest.raises(CreditError, match="is no number"):
        AtTheEnd("f", lambda _: given)(answers)


def test_a_function_may_not_end_the_run_by_itself(answers: Answers) -> None:
    def leaving(**_: Any) -> list[float]:
        raise SystemExit(0)

    with pytest.raises(CreditError, match="a reward function failed") as caught:
        by_function(leaving)(answers)
    assert "SystemExit" in str(caught.value)


def test_what_a_function_logs_goes_nowhere_and_stops_nothing(answers: Answers) -> None:
    def logging(prompts: Any, completions: Any, log_extra: Any, log_metric: Any, **_: Any) -> list[float]:
        log_extra("column", ["a"] * len(prompts))
        log_metric("length", 3.0)
        return [1.0] * len(prompts)

    assert by_function(logging)(answers).parts["logging"].tolist() == [1.0] * 3


def test_a_response_that_nothing_looked_at_has_its_reward_at_the_end(
    model: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = answers_of(model.encoder, ["", "None.", "It flies."])
    monkeypatch.setattr(spreading, "at_policy_tokens", lambda encoder, given, row, *_: np.zeros(given.lengths[row] + 1))
    found = ByAttention("m", model)(empty)
    assert np.count_nonzero(found.tokens) == 3
    np.testing.assert_allclose(empty.sums(found.tokens), model.score(PROMPTS, ["", "None.", "It flies."]), atol=1e-4)


def test_a_prompt_without_a_token_leaves_its_own_response_out_alone(model: RewardModel) -> None:
    one, other = (model.encoder.encode(PROMPTS[:1], TEXTS[:1])[0] for _ in range(2))
    bare = Encoded(list(one.ids[one.prompt_tokens :]), 0)
    found, whole = model.prefix_scores_encoded([bare, other])
    assert np.isnan(found[0]) and np.isfinite(found[1:]).all() and len(found) == len(bare.ids) + 1
    np.testing.assert_allclose(found[-1:], model.score_encoded([bare.ids]), atol=1e-5)
    np.testing.assert_allclose(whole, model.prefix_scores(PROMPTS[0], TEXTS[0]), atol=1e-5)
    single = Encoded(bare.ids[:1], 0)
    assert len(model.prefix_scores_encoded([single])[0]) == 2
