"""Where replies begin in their tokens: at the same place, however a tokenizer joins the blank before them."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from assay.scorers import ConversationEncoder, ConversationSettings
from assay.scorers.policy_loading import PolicyOptions, create_policy
from assay.scorers.sampling import Sampling, adds_a_blank, replies
from tests.conftest import llama_config, save_model

#: Letters and signs take the blank before them, digits do not: the split of several public models.
SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: Begin with a sign, a letter and a digit, joined to the blank before them or not.
REPLIES = [". So", "And so", "wide", "31 is it", "  two"]


def byte_level(*, trim: bool) -> Any:
    """Return a tokenizer of bytes that joins some of them to the blank before; ``trim``: offsets leave blanks out."""
    vocabulary = {byte: k for k, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ġ", "A"), ("Ġ", ".")]
    for piece in (*("".join(pair) for pair in merges), "<s>", "</s>"):
        vocabulary[piece] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    digits = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("template", ["hh", "plain"])
def test_all_replies_to_a_prompt_begin_behind_the_same_tokens(template: str, trim: bool) -> None:
    tokenizer = byte_level(trim=trim)
    encoder = ConversationEncoder(tokenizer, ConversationSettings(template, 200, "</s>"))
    found = encoder.encode(["Say"] * len(REPLIES), REPLIES)
    begun = {tuple(one.ids[: one.prompt_tokens]) for one in found}
    assert len(begun) == 1
    assert tokenizer.decode(list(begun.pop())).rstrip().endswith("Assistant:" if template == "hh" else "Say")
    for one, reply in zip(found, REPLIES, strict=True):
        written = tokenizer.decode(one.ids[one.prompt_tokens :], skip_special_tokens=True)
        assert written == (" " if template == "hh" else "") + reply
        ends = encoder.reply_ends("Say", reply)
        assert ends is not None and len(ends) == len(one.ids) - one.prompt_tokens - 1
        assert ends[-1] == len(reply.strip())


def test_a_policy_begins_where_replies_were_taught(tmp_path: Any) -> None:
    """What is sampled goes on from the tokens behind which all replies were taught, a digit's as well."""
    tokenizer = byte_level(trim=False)
    folder = save_model(tmp_path / "model", LlamaForCausalLM, llama_config(tokenizer), tokenizer)
    policy = create_policy(PolicyOptions(str(folder), template="hh", max_length_tokens=100))
    (own,) = replies(policy, ["Say"], Sampling(1, 4), seed=0)
    for reply in REPLIES:
        (taught,) = policy.encoder.encode(["Say"], [reply])
        assert list(own[0].ids[: own[0].start]) == taught.ids[: taught.prompt_tokens]


def test_a_blank_that_only_written_turns_have_is_no_part_of_what_is_said(tmp_path: Any) -> None:
    """Templates may await a reply without the blank that they write before one: what is said then begins with it."""
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    (tmp_path / "turns.jinja").write_text(source, "utf-8")
    tokenizer = byte_level(trim=False)
    folder = save_model(tmp_path / "model", LlamaForCausalLM, llama_config(tokenizer), tokenizer)
    policy = create_policy(PolicyOptions(str(folder), template=str(tmp_path / "turns.jinja"), max_length_tokens=100))
    (taught,) = policy.encoder.encode(["Say"], ["31"])
    begun, said = taught.ids[: taught.prompt_tokens], taught.ids[taught.prompt_tokens :]
    assert tokenizer.decode(said).startswith(" 31") and adds_a_blank(policy, "Say", begun)

    def repeats(model: Any, prompts: Any, ends: Any, *_: Any) -> Any:
        yield 0, [*said[:3], tokenizer.eos_token_id], True

    ((own,),) = replies(policy, ["Say"], Sampling(1, 4), 0, repeats)
    assert own.text == "31"


@pytest.mark.parametrize("limit", [40, 41])
def test_a_cut_reply_of_a_policy_has_no_end(limit: int) -> None:
    """What reads a score at the end needs it there; what writes would learn to stop in the midst."""
    tokenizer = byte_level(trim=False)
    whole, reading, writing = (
        ConversationEncoder(tokenizer, ConversationSettings("hh", length, "</s>", ends_cut=ends))
        for length, ends in ((200, False), (limit, True), (limit, False))
    )
    long = "word " * 12 + "end"
    full, scored, taught = (encoder.encode(["Say"], [long])[0] for encoder in (whole, reading, writing))
    assert full.ids[-1] == scored.ids[-1] == tokenizer.eos_token_id and full.cut_reply == 0
    assert len(taught.ids) == limit and tokenizer.eos_token_id not in taught.ids
    assert taught.ids[:-1] == scored.ids[:-1] and taught.cut_reply == scored.cut_reply > 0
    kept = taught.ids[taught.prompt_tokens :]
    assert kept == full.ids[full.prompt_tokens :][: len(kept)]
