"""What is read at every token: log-probabilities against whole logits, text of tokens, alignment of two tokenizers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from assay.scorers import PolicyOptions, create_policy
from assay.scorers.layout import Layout
from assay.scorers.pieces import aligned, ends_in_text, pieces
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
