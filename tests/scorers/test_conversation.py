"""From a conversation to token ids: marks once, reply whole, everything counted."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import ModelError
from assay.scorers import ConversationEncoder, ConversationSettings, RewardModel
from assay.scorers.conversation import warn_of_lost_instructions
from assay.scorers.templates import Template, resolve_template
from tests.conftest import CHAT_TEMPLATE, causal_tokenizer, encoder_tokenizer

CONVERSATIONS: list[tuple[Any, Any]] = [
    ("Name a sea.", "The Baltic."),
    ("Name a sea.", ""),
    ("", "The Baltic."),
    ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a sea."}], " Aral\n"),
    (
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Ein „Satz“ 😀 数字\n\nAnd a line."},
        ],
        "Ümläut 👍🏽",
    ),
]
CUSTOM = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"


def made(name: str, *, limit: int = 120, end: str | None = "</s>", **settings: Any) -> ConversationEncoder:
    tokenizer = causal_tokenizer(chat=name == "chat")
    source = settings.pop("source", CUSTOM if name == "custom" else None)
    end = None if name == "chat" else end
    return ConversationEncoder(tokenizer, ConversationSettings(name, limit, end, template_source=source, **settings))


def paired(limit: int = 120, **settings: Any) -> ConversationEncoder:
    return ConversationEncoder(encoder_tokenizer(), ConversationSettings("pair", limit, "[SEP]", **settings))


ALL = ["chat", "plain", "hh", "custom", "pair"]


def encoder_for(name: str, **settings: Any) -> ConversationEncoder:
    return paired(**settings) if name == "pair" else made(name, **settings)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_rendered_text_gives_the_same_ids(name: str, conversation: tuple[Any, Any]) -> None:
    encoder = encoder_for(name)
    prompt, reply = conversation
    ids = encoder.encode([prompt], [reply])[0].ids
    text = encoder.render(prompt, reply)
    end = encoder.settings.end_token or ""
    bos = "[CLS]" if name == "pair" else "<s>"
    assert text.startswith(bos)
    variants = [text, text.removeprefix(bos)]
    if not (name == "pair" and reply == ""):  # there the separator already ends the text
        variants.append(text + end)
    for variant in variants:
        assert encoder.encode_text([variant])[0].ids == ids, variant


@pytest.mark.parametrize("name", ALL)
def test_leading_and_end_token_once(name: str) -> None:
    encoder = encoder_for(name)
    ids = encoder.encode(["Name a sea."], ["The Baltic."])[0].ids
    first, last = (2, 3) if name == "pair" else (1, 2)  # [CLS], [SEP] or <s>, </s>
    assert ids[0] == first and ids.count(first) == 1
    if name == "chat":  # as the template writes it: both turns end, and a line break follows
        newline = encoder.tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert ids[-2:] == [last, *newline] and ids.count(last) == 2
    else:
        assert ids[-1] == last and ids.count(last) == (2 if name == "pair" else 1)


def test_hh_marks_are_those_of_the_data() -> None:
    text = made("hh").render([{"role": "user", "content": "Hi"}], "Hello!")
    assert text == "<s>\n\nHuman: Hi\n\nAssistant: Hello!"


def test_plain_joins_and_pair_separates() -> None:
    assert made("plain").render("The sky is", " blue.") == "<s>The sky is blue."
    assert paired().render("Q", "A") == "[CLS]Q[SEP]A"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert made("plain").render(turns, " d") == "<s>User: a\n\nAssistant: b\n\nUser: c d"


def test_tool_calls_reach_the_template() -> None:
    call: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
    }
    turns = [{"role": "user", "content": "Q"}, call, {"role": "tool", "content": "7"}]
    assert '"name": "f"' in made("chat").render(turns, "7.")
    written = made("chat").render("Q", [call]).rpartition("<|assistant|>\n")[2].removesuffix("</s>\n")
    assert json.loads(written) == call["tool_calls"]


def test_template_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(CUSTOM, encoding="utf-8")
    assert resolve_template(causal_tokenizer(), str(path), causal=True) == ("custom", CUSTOM)
    with pytest.raises(ModelError, match="cannot read the template"):
        resolve_template(causal_tokenizer(), str(tmp_path / "none.jinja"), causal=True)


def test_template_is_chosen_by_what_there_is() -> None:
    plain, chat = causal_tokenizer(), causal_tokenizer(chat=True)
    assert resolve_template(chat, "auto", causal=True) == ("chat", None)
    assert resolve_template(plain, "auto", causal=True) == ("hh", None)
    assert resolve_template(plain, "auto", causal=False) == ("pair", None)
    with pytest.raises(ModelError, match="no chat template"):
        Template(plain, "chat")
    with pytest.raises(ModelError, match="unknown template 'nice'"):
        Template(plain, "nice")


def test_refusal_of_a_template_is_passed_on() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    with pytest.raises(ModelError, match="no system turn"):
        made("custom", source=strict).encode([[{"role": "system", "content": "x"}]], ["y"])


# --- truncation -----------------------------------------------------------------------------------------------------

#: Tokens that end a sequence, where they are more than the end token: a line break belongs to these templates.
TAIL = {"chat": 2, "custom": 2}
LONG = " ".join(f"word{i}" for i in range(60))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_prompt_is_cut_and_reply_stays_whole(name: str, side: str) -> None:
    whole = encoder_for(name, limit=2000).encode([LONG], ["The Baltic sea."])[0]
    cut = encoder_for(name, limit=60, truncation=side).encode([LONG], ["The Baltic sea."])[0]
    assert len(cut.ids) == 60
    assert cut.cut_prompt == len(whole.ids) - 60 and cut.cut_reply == 0
    assert cut.ids[0] == whole.ids[0]
    assert cut.ids[cut.prompt_tokens :] == whole.ids[whole.prompt_tokens :]
    assert cut.prompt_tokens == whole.prompt_tokens - cut.cut_prompt


@pytest.mark.parametrize(("side", "kept", "lost"), [("left", "word59", "word0 "), ("right", "word0 ", "word59")])
def test_side_of_truncation_and_header_between_prompt_and_reply(side: str, kept: str, lost: str) -> None:
    encoder = made("hh", limit=100, truncation=side)
    text = encoder.tokenizer.decode(encoder.encode([LONG], ["The Baltic."])[0].ids)
    assert text.endswith("\n\nAssistant: The Baltic.</s>")
    assert kept in text and lost not in text


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_reply_beyond_the_limit_keeps_its_start_and_what_ends_it(name: str, side: str) -> None:
    whole = encoder_for(name, limit=2000).encode(["Q"], [LONG])[0]
    cut = encoder_for(name, limit=60, truncation=side).encode(["Q"], [LONG])[0]
    assert len(cut.ids) == 60
    assert cut.cut_reply > 0 and cut.cut_prompt + cut.cut_reply == len(whole.ids) - 60
    tail = TAIL.get(name, 1)
    assert cut.ids[-tail:] == whole.ids[-tail:]
    reply = cut.ids[cut.prompt_tokens : -tail]
    assert reply and reply == whole.ids[whole.prompt_tokens :][: len(reply)]
    assert cut.ids[0] == whole.ids[0]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("side", ["left", "right"])
def test_templated_text_beyond_the_limit_keeps_its_ends(name: str, side: str) -> None:  # defect 5
    encoder = encoder_for(name, limit=60, truncation=side)
    text = encoder.render(LONG, "The Baltic.")
    whole = encoder_for(name, limit=2000).encode_text([text])[0].ids
    for variant in (text, text + (encoder.settings.end_token or "")):
        cut = encoder.encode_text([variant])[0]
        tail = TAIL.get(name, 1)
        assert len(cut.ids) == 60 and cut.cut_prompt == len(whole) - 60
        assert cut.ids[0] == whole[0] and cut.ids[-tail:] == whole[-tail:]
        middle = cut.ids[1:-tail]
        assert middle == (whole[1:-tail][-len(middle) :] if side == "left" else whole[1:-tail][: len(middle)])


def test_exactly_the_limit_is_not_truncated() -> None:
    length = len(made("hh", limit=2000).encode(["Q"], [LONG])[0].ids)
    for limit, cut_prompt, cut_reply in ((length, 0, 0), (length - 1, 1, 0), (length - 20, 4, 16)):
        encoded = made("hh", limit=limit).encode(["Q"], [LONG])[0]
        assert len(encoded.ids) == limit
        assert (encoded.cut_prompt > 0, encoded.cut_reply > 0) == (cut_prompt > 0, cut_reply > 0)
        assert encoded.cut_prompt + encoded.cut_reply == length - limit


def test_prompt_tokens_count_prompt_and_header() -> None:
    encoder = made("chat")
    encoded = encoder.encode(["Name a sea."], ["The Baltic."])[0]
    decode = encoder.tokenizer.decode
    assert decode(encoded.ids[: encoded.prompt_tokens]) == "<s><|user|>\nName a sea.</s>\n<|assistant|>\n"
    assert decode(encoded.ids[encoded.prompt_tokens :]) == "The Baltic.</s>\n"


@pytest.mark.parametrize("name", ALL)
def test_nothing_in_prompt_and_reply(name: str) -> None:
    encoded = encoder_for(name).encode([""], [""])[0]
    assert len(encoded.ids) >= 2 and encoded.cut_prompt == encoded.cut_reply == 0


def test_too_small_a_limit_is_refused() -> None:
    with pytest.raises(ModelError, match="maximum length is too small"):
        made("plain", limit=7)


def test_text_without_any_token_is_refused() -> None:
    bare = causal_tokenizer()
    bare.bos_token = None
    bare._tokenizer.post_processor = None
    encoder = ConversationEncoder(bare, ConversationSettings("plain", 60, None))
    with pytest.raises(ModelError, match="no token at all"):
        encoder.encode([""], [""])


# --- what else must not change or break a text ------------------------------------------------------------------------


class _Clock(datetime.datetime):
    day = 1

    @classmethod
    def now(cls, tz: Any = None) -> datetime.datetime:  # type: ignore[override]
        return datetime.datetime(2031, 5, cls.day)


@pytest.mark.parametrize(
    "today",
    [
        "{{ strftime_now('%d %b %Y') }}",
        "{% set format = '%-d/%-m/%y' %}{{ strftime_now(format) }}",
        "{% if strftime_now is defined %}{% set now = strftime_now('%d %b %Y') %}{% endif %}{{ now }}",
        "{% if not date_string is defined %}{{ strftime_now('%Y') }}{% else %}{{ date_string }}{% endif %}",
    ],
)
def test_date_in_a_template_stands_still(today: str, monkeypatch: pytest.MonkeyPatch) -> None:  # defect 10
    from transformers.utils import chat_template_utils

    monkeypatch.setattr(chat_template_utils, "datetime", _Clock)
    tokenizer = causal_tokenizer()
    tokenizer.chat_template = "{{ '<s>' }}Today: " + today + "\n" + CHAT_TEMPLATE.removeprefix("{{ '<s>' }}")
    seen, without = set(), set()
    for day in (7, 8):
        monkeypatch.setattr(_Clock, "day", day)
        encoder = ConversationEncoder(tokenizer, ConversationSettings("chat", 120))
        seen.add(tuple(encoder.encode(["Q"], ["A"])[0].ids))
        without.add(tokenizer.apply_chat_template([{"role": "user", "content": "Q"}], tokenize=False))
    assert len(seen) == 1
    assert "24" in encoder.render("Q", "A").partition("<|")[0]  # a date is written, of the year 2024
    if "date_string" not in today:
        assert len(without) == 2  # the clock was really another one


def test_half_a_surrogate_pair_is_named() -> None:
    with pytest.raises(ModelError, match=r"text 2 of 2(.|\n)*surrogate(.|\n)*ud800"):
        made("plain").encode(["Q", "Q"], ["A", "bad \ud800 text"])


def test_special_token_in_a_message_is_that_token() -> None:
    encoder = made("chat")
    ids = encoder.encode(["stop</s>here"], ["A"])[0].ids
    assert ids.count(2) == 3  # one written by the user, one after each turn


@pytest.mark.parametrize("prompt", [{"role": "user", "content": "x"}, [["x"]], ["x"]])
def test_something_else_than_a_conversation_is_refused(prompt: Any) -> None:
    with pytest.raises(ModelError, match="neither text nor a list of messages"):
        made("plain").encode([prompt], ["A"])


def test_unknown_end_token_is_refused() -> None:
    with pytest.raises(ModelError, match=r"does not know the token '<\|end\|>'"):
        made("plain", end="<|end|>")


def test_training_and_scoring_use_one_encoder(causal: RewardModel) -> None:  # defect 4
    from assay.feedback.records import comparison, edge, from_rows
    from assay.scorers.encoding import encode_records

    records = encode_records(
        from_rows([comparison("Name a sea.", ["The Baltic.", "No."], [edge(0, 1)])]), causal.encoder
    )
    trained = [ids.tolist() for ids in records.ids(0)]
    served = [e.ids for e in causal.encoder.encode(["Name a sea."] * 2, ["The Baltic.", "No."])]
    assert trained == served
    assert {ids[-1] for ids in served} == {causal.encoder.tokenizer.eos_token_id}


#: Writes turns that wait for a reply in another way than turns before one, and the system message only there.
WAITING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{% if loop.last %}[WAIT]{% endif %}"
    "[INST] {{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
#: Announces a reply with thoughts that it never writes.
THINKING = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)


@pytest.mark.parametrize("source", [WAITING, THINKING])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("reply", ["The Baltic sea.", "0 or 1?", " 1."])
def test_the_reply_is_found_where_its_announcement_is_written_otherwise(source: str, side: str, reply: str) -> None:
    whole = made("custom", source=source, limit=2000).encode([LONG], [reply])[0]
    cut = made("custom", source=source, limit=60, truncation=side).encode([LONG], [reply])[0]
    assert cut.cut_reply == 0 and cut.cut_prompt == len(whole.ids) - 60
    assert cut.ids[cut.prompt_tokens :] == whole.ids[whole.prompt_tokens :]
    text = made("custom", source=source).tokenizer.decode(whole.ids[whole.prompt_tokens :])
    assert text.replace("</s>", "").strip() == reply.strip()


def test_a_template_that_drops_the_system_message_is_told_of() -> None:
    prompts: list[Any] = ["Q", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}]]
    with pytest.warns(UserWarning, match="leaves out the system message of 1 conversations"):
        warn_of_lost_instructions(made("custom", source=WAITING), prompts)
    for name in ALL:
        warn_of_lost_instructions(encoder_for(name), prompts)
    warn_of_lost_instructions(made("custom", source=WAITING), prompts[:1])
