"""The text that each token adds: where tokens of two tokenizers end in the same response."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers.decoders import DecodeStream

from assay.scorers.batches import TokenIds


def pieces(tokenizer: Any, ids: TokenIds, *, special: bool = True) -> list[str]:
    """Return the text that each token adds to those before it; what completes a character adds all of it.

    Parameters
    ----------
    tokenizer
        Of transformers.
    ids
        Tokens.
    special
        Show special tokens; otherwise they add nothing.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # not every tokenizer is one of the tokenizers library
        decoded = ["", *(tokenizer.decode(ids[: end + 1], skip_special_tokens=not special) for end in range(len(ids)))]
        return [text[len(former) :] for former, text in pairwise(decoded)]
    stream = DecodeStream(skip_special_tokens=not special)
    return [stream.step(backend, int(token)) or "" for token in ids]


def ends_in_text(added: Sequence[str]) -> np.ndarray:
    """Return after how many characters each of some `pieces` ends, int64 ``[T]``, leading blanks not counted.

    Tokenizers differ in whether they keep the blank that a response begins with.
    """
    blanks = len("".join(added)) - len("".join(added).lstrip())
    return np.maximum(np.cumsum([len(piece) for piece in added], dtype=np.int64) - blanks, 0)


def aligned(values: np.ndarray, ends: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Read prefix scores of one tokenizer at the ends of another's tokens.

    Parameters
    ----------
    values
        ``[S + 1]``: score of the bare prompt, and after each of S tokens, what ends a response among them.
    ends
        ``[S']``: after how many characters the tokens of the response itself end, the first ones of the S, never
        falling.
    wanted
        ``[T]``: after how many characters the other tokens end, never falling; T at least 1.

    Returns
    -------
    numpy.ndarray
        ``[T + 1]``: at each end the score after the last token that is whole by then. The last entry is the score of
        all of it, with what ends a response, so differences add up to the same.
    """
    place = np.searchsorted(ends, wanted, side="right")
    found = np.concatenate([values[:1], values[place]])
    found[-1] = values[-1]
    return found
