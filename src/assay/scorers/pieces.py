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
    if backend is not None:  # not every tokenizer is one of the tokenizers library
        stream = DecodeStream(skip_special_tokens=not special)
        try:
            found = [stream.step(backend, int(token)) or "" for token in ids]
            return _with_the_rest(
                found, tokenizer.decode([int(token) for token in ids], skip_special_tokens=not special)
            )
        except Exception:  # bytes that are no text: the library has no error of its own for them
            pass
    own = [int(token) for token in ids]
    whole = tokenizer.decode(own, skip_special_tokens=not special)
    ends = [0]
    for end in range(1, len(own) + 1):
        begun = tokenizer.decode(own[:end], skip_special_tokens=not special)
        # what comes later may change what stands at the end
        apart = (k for k, (a, b) in enumerate(zip(begun, whole, strict=False)) if a != b)
        same = next(apart, min(len(begun), len(whole)))
        ends.append(max(ends[-1], same))
    return [whole[one:other] for one, other in pairwise(ends)]


def _with_the_rest(added: list[str], whole: str) -> list[str]:
    """Give the last token what a text ends with that is no whole character, which a stream keeps back."""
    told, whole = "".join(added).lstrip(), whole.lstrip()
    if added and whole.startswith(told):
        added[-1] += whole[len(told) :]
    return added


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
        ``[T + 1]``: at each end the score after the token that brought the text as far as it is whole by then; the
        first bytes of a character, which add no text yet, wait for the rest of it. The last entry is the score of all
        of it, with what ends a response, so differences add up to the same.
    """
    whole = np.searchsorted(ends, wanted, side="right")
    reached = ends[np.maximum(whole - 1, 0)] if len(ends) else whole
    place = np.minimum(whole, np.searchsorted(ends, reached, side="left") + 1)
    found = np.concatenate([values[:1], values[place]])
    found[-1] = values[-1]
    return found
