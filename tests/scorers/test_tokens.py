"""What is read at every token: log-probabilities against whole logits, text of tokens, alignment of two tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from assay.scorers import PolicyOptions, create_policy
from assay.scorers.conversation import ConversationEncoder, ConversationSettings
from assay.scorers.layout import Layout
from assay.scorers.pieces import aligned, ends_in_text, pieces
from assay.scorers.prefixes import reply_end
from assay.scorers.tokens import token_counts

TEXTS = [[1, 5, 6, 7, 8, 2], [1, 5, 6, 9, 2], [1, 5, 6, 7, 8, 2], [1, 4, 2], [1, 5, 6, 7]]
STARTS = np.array([3, 3, 4, 1, 4])


@pytest.mark.parametrize("budget", [6, 1000])
@pytest.mark.parametrize("shares", [True, False])
def test_log_probabilities_of_tokens_are_those_of_whole_logits(tiny_causal: Path, shares: bool, budget: int) -> None:
    policy = create_policy(PolicyOptions(str(tiny_causal)))
    layout = Layout(shares=shares)
    rows, order = layout.lay(TEXTS, layout.trees(TEXTS), budget, 0, STARTS)
    batch = {"rows": rows, "order": order}
    found = policy.token_log_probabilities(batch)  # type: ignore[arg-type]
    counts = token_counts(batch).tolist()  # type: ignore[arg-type]
    assert counts == [len(text) - start for text, start in zip(TEXTS, STARTS, strict=True)]
    expected, weights = [], torch.linspace(-1, 1, sum(counts))
    for text, start in zip(TEXTS, STARTS, strict=True):
        logits = policy.language_model(input_ids=torch.tensor([text])).logits[0].log_softmax(-1)
        expected += [logits[place - 1, text[place]] for place in range(start, len(text))]
    wanted = torch.stack(expected)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    parameter = policy.language_model.get_input_embeddings().weight
    own, other = (torch.autograd.grad((said * weights).sum(), parameter)[0] for said in (found, wanted))
    torch.testing.assert_close(own, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["The Baltic sea, of course.", "h\u00e9llo \U0001f600 there", "  two blanks", ""])
def test_pieces_add_up_to_the_text(tiny_causal: Path, tiny_encoder: Path, text: str) -> None:
    for place in (tiny_causal, tiny_encoder):
        tokenizer = AutoTokenizer.from_pretrained(place)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        added = pieces(tokenizer, ids)
        assert len(added) == len(ids)
        assert "".join(added).strip() == tokenizer.decode(ids).strip()
        ends = ends_in_text(added)
        assert (np.diff(ends) >= 0).all() and (not len(ends) or ends[-1] == len("".join(added).lstrip()))


def test_scores_are_read_at_the_ends_of_other_tokens() -> None:
    values = np.array([0.0, 1.0, 3.0, 2.0, 5.0])  # prompt, "ab", "cd", "ef", what ends it
    ends = np.array([2, 4, 6])
    # "a", "b", "cde", "f" and an end of their own, which alone carries what the other end changes
    found = aligned(values, ends, np.array([1, 2, 5, 6, 6]))
    assert found.tolist() == [0, 0, 1, 3, 2, 5]
    assert aligned(values, ends, np.array([2, 4, 6, 6])).tolist() == values.tolist()
    # without an end of their own the last token carries it
    assert aligned(values, ends, np.array([1, 6])).tolist() == [0, 0, 5]
    assert aligned(values, ends, np.array([6])).tolist() == [0, 5]
    assert np.diff(found).sum() == 5
    # the first bytes of a character add no text yet: what they changed comes with the last of them
    assert aligned(np.arange(6.0), np.array([1, 1, 1, 1, 2]), np.array([1, 2])).tolist() == [0, 1, 5]


def trained(kind: str) -> Any:
    """Return a tokenizer that changes texts: small letters and no accents (``wordpiece``), or NFKC with bytes."""
    words = ["the park", "i didn't go , to the park .", "x y"]
    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]", "<s>", "</s>"])
    else:
        made = Tokenizer(models.BPE())
        made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    made.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
@pytest.mark.parametrize(
    "text",
    [
        "I didn't go , to the Park .",
        "  two blanks",
        "h\u00e9llo \U0001f600 x",
        "\uff21\uff42 \ufb01ne \u00bd",
        "\u65e5\u672c",
        "",
    ],
)
def test_tokens_of_a_reply_end_where_the_given_text_does(kind: str, text: str) -> None:
    tokenizer = trained(kind)
    encoder = ConversationEncoder(tokenizer, ConversationSettings("plain", 64, "</s>"))
    (one,) = encoder.encode(["The park?"], [text])
    count = reply_end(encoder, one) - one.prompt_tokens
    ends = encoder.reply_ends("The park?", text)
    assert ends is not None and (np.diff(ends) >= 0).all() and (ends >= 0).all()
    own = ends[:count]
    # all of the text is reached, and never more
    assert len(own) == count and (not count or own[-1] == len(text.strip()))
    # words that the tokenizer knows end where they end in the text
    words = tokenizer.convert_ids_to_tokens(one.ids[one.prompt_tokens :][:count])
    for word, end in zip(words, own, strict=True):
        if kind == "wordpiece" and word.isalpha():
            assert text.strip()[:end].lower().endswith(word)


def test_bytes_that_are_no_text_have_pieces_too() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "\u2581a": 257}
    core = Tokenizer(models.BPE(words, [], byte_fallback=True, unk_token="<unk>"))
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    ids = [257, 0x0A + 1, 0xF0 + 1, 0x9F + 1, 257, 0x41 + 1]
    added = pieces(tokenizer, ids)
    assert len(added) == len(ids) and "".join(added) == tokenizer.decode(ids)
