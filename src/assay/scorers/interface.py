"""The one scorer interface: three calls, and everything above them uses only these."""

from __future__ import annotations

from typing import Protocol, TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """What a scorer gets: N texts (token ids, or features computed before) and E judgements among them.

    Attributes
    ----------
    input_ids, attention_mask
        ``[N, L]`` int64, padded on the right; mask 1 for real tokens.
    features
        ``[N, d]``: pooled states of a frozen backbone, instead of token ids.
    edges
        ``[E, 2]`` int64: the texts a and b of each judgement.
    target, margin, weight
        ``[E]`` float32: p, m, w of each judgement; weight also ``[E, members]``.
    """

    input_ids: Tensor
    attention_mask: Tensor
    features: Tensor
    edges: Tensor
    target: Tensor
    margin: Tensor
    weight: Tensor


class Scorer(Protocol):
    """Anything that tells good from bad."""

    def nodes(self, batch: Batch) -> Tensor:
        """Return one state per text, ``[N, d]``."""
        ...

    def edge_margins(self, states: Tensor, edges: Tensor) -> Tensor:
        """Return the margin of a over b, ``[E]`` or ``[E, members]``; skew: swapping a and b negates it."""
        ...

    def values(self, states: Tensor) -> Tensor | None:
        """Return a score per text, ``[N]`` or ``[N, members]``; None where no scalar exists."""
        ...
