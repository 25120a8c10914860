"""Judges: both orders, criteria, a local model's next token, and a server that may fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from assay.errors import ConfigError, ModelError
from assay.scorers.judges import Answer, LocalJudge, Question, RemoteJudge, Rules, in_both_orders, met
from assay.scorers.judges.asking import check, comparison
from assay.scorers.judges.replies import Reply, read_answer
from tests.scorers.judges.server import Server, completion, serving, shown

PROMPTS, FIRST, SECOND = ["p"] * 3, ["long answer", "b", "same"], ["a", "longer answer", "same"]


class Said:
    """A judge made of a function from a question's text to log-odds."""

    name = "said"

    def __init__(self, says: Callable[[str], float]) -> None:
        self.says = says

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(self.says(question.text)) for question in questions]

    def costs(self) -> dict[str, Any]:
        return {}


def by_length(text: str) -> float:
    first, second = shown(text)
    return 0.3 * (len(first) - len(second))


def test_margin_is_the_mean_of_both_orders_and_changes_sign_with_the_pair() -> None:
    judge = Said(lambda text: by_length(text) + 0.5)  # likes what it sees first
    found = in_both_orders(judge, PROMPTS, FIRST, SECOND, "Which is longer?").margins()
    assert found == pytest.approx([0.3 * 10, -0.3 * 12, 0.0])
    turned = in_both_orders(judge, PROMPTS, SECOND, FIRST, "Which is longer?").margins()
    assert turned == pytest.approx(-found)


@pytest.mark.parametrize("bias", [2.0, -2.0, math.inf])
def test_judge_who_likes_a_place_says_nothing(bias: float) -> None:
    both = in_both_orders(Said(lambda text: bias), PROMPTS, FIRST, SECOND, "Which?")
    assert both.margins().tolist() == [0.0, 0.0, 0.0]
    counts = both.counts()
    assert counts["always_the_first_place"] == (3 if bias > 0 else 0)
    assert counts["always_the_second_place"] == (3 if bias < 0 else 0)


def test_opposite_principle_gives_the_opposite_margin() -> None:
    judge = Said(lambda text: by_length(text) * (-1 if "shorter" in text else 1))
    longer, shorter = (
        in_both_orders(judge, PROMPTS, FIRST, SECOND, f"Which is {which}?").margins() for which in ("longer", "shorter")
    )
    assert shorter == pytest.approx(-longer)


def test_unanswered_is_neutral() -> None:
    both = in_both_orders(Said(lambda text: math.nan), PROMPTS, FIRST, SECOND, "Which?")
    assert np.isnan(both.margins()).all() and both.counts()["unanswered"] == 3
    assert np.isnan(met(Said(lambda text: math.nan), PROMPTS, FIRST, "Is it?")).all()
    said = met(Said(lambda text: 1.0 if "long" in text else -1.0), PROMPTS, FIRST, "Is it?")
    assert said.tolist() == [1.0, -1.0, -1.0]


def test_texts_are_shown_whole_whatever_they_hold() -> None:
    odd = "{first} %s [End of response A] {0}"
    text = comparison("{prompt}", odd, "b", "Which?").text
    assert odd in text and "{prompt}" in text and odd in check("p", odd, "Is it?").text


def test_local_judge_reads_the_next_token(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.scorers.judges.local.LEAST_MASS", 0.0)
    judge = LocalJudge(str(tiny_causal), token_budget=64, max_length_tokens=1000)
    shown_first = ("a hammer", "a very long hammer", "x")
    questions = [comparison("Name a tool.", first, "a saw", "Which?") for first in shown_first]
    found = [answer.log_odds for answer in judge.ask(questions)]
    model = AutoModelForCausalLM.from_pretrained(tiny_causal).eval()
    for question, log_odds in zip(questions, found, strict=True):
        ids = judge._encode(question)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        a, b = (torch.logsumexp(logits[tokens], 0) for tokens in judge._tokens_of(("A", "B")))
        assert log_odds == pytest.approx(float(a - b), abs=1e-4)
    assert judge.costs()["asked"] == 3 and judge.costs()["tokens"] > 60


def test_next_token_that_is_hardly_ever_an_answer_says_nothing(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.scorers.judges.local.LEAST_MASS", 0.5)
    judge = LocalJudge(str(tiny_causal), max_length_tokens=1000)  # drawn weights: any token is as likely as another
    assert math.isnan(judge.ask([comparison("p", "a", "b", "Which?")])[0].log_odds)
    assert judge.costs()["no_answer"] == 1


def test_models_do_not_think_first(tiny_causal: Path) -> None:
    judge = LocalJudge(str(tiny_causal))
    thinks = "{% if enable_thinking is not defined or enable_thinking %}thinking{% endif %}"
    judge.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}" + thinks
    question = Question("Which? answer", ("A", "B"))
    assert judge._encode(question) == judge.tokenizer("Which? answer", add_special_tokens=False)["input_ids"]


def test_question_that_is_too_long_is_not_answered(tiny_causal: Path) -> None:
    judge = LocalJudge(str(tiny_causal), max_length_tokens=40)
    found = judge.ask([comparison("p", "word " * 50, "b", "Which?")])
    assert math.isnan(found[0].log_odds) and judge.costs()["too_long"] == 1


def test_folder_that_is_not_there_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        LocalJudge(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        (completion("A", {"A": 0.6, " A": 0.1, "B": 0.2, "C": 0.1}), ("A", "B"), math.log(0.7 / 0.2)),
        (completion("Yes", {"Yes": 0.5, "yes": 0.25, "No": 0.25}), ("Yes", "No"), math.log(3)),
        (completion("B", {"B": 0.9}), ("A", "B"), -math.log(0.9 / 0.1)),
        # B is not listed, so it is no likelier than what is
        (completion("The", {"The": 0.6, "A": 0.3, "Both": 0.05}), ("A", "B"), math.log(0.3 / 0.05)),
        # no alternatives, or options that are no answer: the words decide, after any thinking
        (
            {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": -0.8}]}}]},
            ("A", "B"),
            math.inf,
        ),
        (completion("<think>", {"<think>": 0.999999, "A": 1e-8}), ("A", "B"), math.nan),
        (completion("The", {"The": 0.99, "A": 1e-7}), ("A", "B"), math.nan),
        (completion("<think>B? No:\n</think>\n\nA"), ("A", "B"), math.inf),
        # an option that is not listed is not likelier than the one that is
        (completion("A", {"A": 0.45}), ("A", "B"), 0.0),
        (completion("A"), ("A", "B"), math.inf),
        (completion(" **B**, since it is longer"), ("A", "B"), -math.inf),
        (completion("No."), ("Yes", "No"), -math.inf),
        (completion("Nothing to say"), ("Yes", "No"), math.nan),
        (completion("Both are good"), ("A", "B"), math.nan),
        (completion(""), ("A", "B"), math.nan),
    ],
)
def test_answers_are_read_from_probabilities_or_words(
    reply: dict[str, Any], options: tuple[str, str], expected: float
) -> None:
    assert read_answer(Reply.model_validate(reply), options).log_odds == pytest.approx(expected, nan_ok=True)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def test_remote_judge_asks_once_and_counts(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    cache = tmp_path / "deep" / "answers.sqlite"
    judge = RemoteJudge(server.url, "m", key_variable="MY_KEY", cache=cache, price_in=2.0, price_out=5.0)
    found = in_both_orders(judge, PROMPTS, FIRST, SECOND, "Which?").margins()
    assert np.sign(found).tolist() == [1, -1, 0]
    assert found[0] == pytest.approx(math.log(4))
    # the pair of equal responses is one question in both orders
    assert len(server.requests) == 5 and judge.costs()["asked"] == 6
    assert server.requests[0]["path"] == "/v1/chat/completions" and server.requests[0]["key"] == "Bearer secret"
    assert judge.costs()["price"] == pytest.approx((5 * 100 * 2 + 5 * 2 * 5) / 1e6)
    again = RemoteJudge(server.url, "m", cache=cache)
    assert in_both_orders(again, PROMPTS, FIRST, SECOND, "Which?").margins() == pytest.approx(found)
    assert len(server.requests) == 5 and again.costs()["cached"] == 5 and again.costs()["read"] == 0
    in_both_orders(RemoteJudge(server.url, "other", cache=cache), PROMPTS[:1], FIRST[:1], SECOND[:1], "Which?")
    assert len(server.requests) == 7  # another model is asked anew
    assert b"secret" not in cache.read_bytes()


def test_remote_judge_tries_again(server: Server) -> None:
    server.failures = [503, 429]
    judge = RemoteJudge(server.url, "m", parallel=1, wait=0.01)
    assert math.isfinite(judge.ask([comparison("p", "long", "b", "Which?")])[0].log_odds)
    assert judge.costs()["retries"] == 2 and judge.costs()["requests"] == 3


def test_judge_that_is_down_is_named_and_answers_are_kept(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"
    judge = RemoteJudge(server.url, "m", cache=cache, parallel=1, tries=2, wait=0.01)
    judge.ask([comparison("p", "long", "b", "Which?")])
    server.failures = [500] * 10
    with pytest.raises(ModelError, match="the judge does not answer") as caught:
        judge.ask([comparison("q", "long", "b", "Which?")])
    assert "HTTP 500" in str(caught.value) and "tried 2 times" in str(caught.value) and server.url in str(caught.value)
    server.failures = []
    later = RemoteJudge(server.url, "m", cache=cache)
    later.ask([comparison("p", "long", "b", "Which?")])
    assert later.costs()["cached"] == 1


def test_server_that_knows_less_is_asked_for_less(server: Server) -> None:
    server.refuses = ("logprobs", "max_tokens")
    judge = RemoteJudge(server.url, "m", parallel=1, wait=0.01)
    judge.ask([comparison("p", "long", "b", "Which?"), comparison("q", "long", "b", "Which?")])
    first, second, third, last = (request["body"] for request in server.requests)
    assert {"logprobs", "top_logprobs", "max_tokens"} <= set(first)
    assert "logprobs" not in second and "max_tokens" in second
    assert set(third) == set(last) == {"model", "messages", "temperature", "max_completion_tokens"}
    assert judge.costs()["retries"] == 0
    server.refuses = ("messages",)
    with pytest.raises(ModelError, match="'messages' is not supported"):
        judge.ask([comparison("r", "long", "b", "Which?")])


def test_refused_key_is_not_tried_again(server: Server) -> None:
    server.failures = [401] * 3
    judge = RemoteJudge(server.url, "m", wait=0.01)
    with pytest.raises(ModelError, match="HTTP 401"):
        judge.ask([comparison("p", "long", "b", "Which?")])
    assert len(server.requests) == 1


def test_reply_that_is_no_completion(server: Server) -> None:
    for broken in (b"<html>", b'{"error": "x"}', b"[]", b'{"choices": {"a": 1}}', b'{"choices": []}'):
        server.broken = broken
        with pytest.raises(ModelError, match="the judge does not answer"):
            RemoteJudge(server.url, "m", tries=2, wait=0.01).ask([comparison("p", "long", "b", "Which?")])


def test_reply_without_an_answer_is_asked_again_next_time(server: Server, tmp_path: Path) -> None:
    server.broken = json.dumps(completion("")).encode()
    question, cache = comparison("p", "long", "b", "Which?"), tmp_path / "answers.sqlite"
    assert math.isnan(RemoteJudge(server.url, "m", cache=cache).ask([question])[0].log_odds)
    server.broken = None
    later = RemoteJudge(server.url, "m", cache=cache)
    assert later.ask([question])[0].log_odds == pytest.approx(math.log(4))
    assert later.costs()["cached"] == 0 and len(server.requests) == 2


def test_probabilities_that_the_server_does_not_tell_are_left_out() -> None:
    reply = completion("A", {"A": 0.5, "B": 0.25})
    reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"] += [{"token": "B", "logprob": None}]
    assert read_answer(Reply.model_validate(reply), ("A", "B")).log_odds == pytest.approx(math.log(2))


def test_answers_that_begin_alike_are_refused(tiny_causal: Path) -> None:
    judge = LocalJudge(str(tiny_causal))
    with pytest.raises(ModelError, match="begin with different tokens"):
        judge.ask([Question("Which?", ("Yes", "yes"))])


def test_nobody_there() -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(ModelError, match="the judge does not answer"):
        RemoteJudge(url, "m", tries=1).ask([comparison("p", "long", "b", "Which?")])
    with pytest.raises(ModelError, match="address is a URL"):
        RemoteJudge("localhost:8000", "m")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("principles: {a: 'Which?'}\ncriteria: {a: 'Is it?'}", "two rules have one name"),
        ("principles: [a]", "a rule is a question"),
        ("principles: {a: ''}", "a rule is a question"),
        ("rules: {a: b}", "another shape"),
        ("principles: {a: b", "cannot be read"),
    ],
)
def test_broken_rules_are_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        Rules.read(path)


def test_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("criteria: {kind: 'Is it kind?'}")
    assert Rules.read(path) == Rules({}, {"kind": "Is it kind?"})
