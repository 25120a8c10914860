"""Which tokens of two replies tell one from the other, and what more these weigh in a log-ratio (BMC)."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from assay.objectives.policy import edit_weights
from assay.scorers.encoding import EncodedRecords
from assay.scorers.vocabulary import LogProbabilities


class TokenWeights:
    """Weights of the tokens of some blocks of rows: the policy's pass makes them, and those of references take them.

    One weight on log(pi / pi_ref) of a token keeps a policy that equals its reference at a loss of log 2; the released
    code gives the reference weights of its own (Jiang et al. 2025).

    Parameters
    ----------
    edited
        Of each block bool ``[T]``, as its rows have it.
    delta
        See `assay.objectives.policy.edit_weights`.
    """

    def __init__(self, edited: Sequence[Tensor], delta: float) -> None:
        self.edited, self.delta = edited, delta
        self._made: list[Tensor] = []

    def on(self, log_probabilities: LogProbabilities) -> LogProbabilities:
        """Return the function that weighs what another gives, for one pass through all blocks in their order."""
        block = 0

        def weighed(states: Tensor, tokens: Tensor) -> Tensor:
            nonlocal block
            each = log_probabilities(states, tokens)
            if block == len(self._made):
                self._made.append(edit_weights(each, self.edited[block], self.delta))
            block += 1
            return each * self._made[block - 1]

        return weighed


def edited_tokens(records: EncodedRecords, tokenizer: Any) -> list[np.ndarray]:
    """Mark the tokens of each reply that a reply which it is compared with has not in the same order.

    Found by matching the longest common pieces; English stop words are left out, as in the paper. A reply that is
    compared with several counts what tells it from any of them.

    Returns
    -------
    list
        bool ``[tokens]`` of each text; a prompt's tokens are never marked.
    """
    found = [np.zeros(length, bool) for length in records.lengths]
    view = records.pairs
    first = records.offsets[view.row]
    sides = zip((first + view.a).tolist(), (first + view.b).tolist(), strict=True)
    for one, other in sorted({(min(both), max(both)) for both in sides}):
        starts = records.reply_starts[one], records.reply_starts[other]
        own, others = records.text(one)[starts[0] :], records.text(other)[starts[1] :]
        apart = np.ones(len(own), bool), np.ones(len(others), bool)
        matcher: SequenceMatcher[int] = SequenceMatcher(None, own.tolist(), others.tolist(), autojunk=False)
        for a, b, size in matcher.get_matching_blocks():
            apart[0][a : a + size] = apart[1][b : b + size] = False
        for text, start, ids, marks in zip((one, other), starts, (own, others), apart, strict=True):
            found[text][start:] |= marks & ~_in_stop_words(ids, tokenizer)
    return found


def _in_stop_words(ids: np.ndarray, tokenizer: Any) -> np.ndarray:
    """Mark the tokens of words that are stop words, bool ``[T]``; a word may have several tokens."""
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    pieces = any(token.startswith("##") for token in tokens)
    begins = [not token.startswith("##") if pieces else token[:1] in "\u0120\u2581" for token in tokens]
    word = np.cumsum(np.array(begins, int))
    stop = np.zeros(len(ids), bool)
    for number in np.unique(word):
        members = np.flatnonzero(word == number)
        text = tokenizer.convert_tokens_to_string([tokens[k] for k in members]).strip().lower()
        stop[members] = text in ENGLISH_STOP_WORDS
    return stop
