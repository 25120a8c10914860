"""How a model that wraps a backbone reads texts: which rows it may be given, and batch after batch of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from assay.errors import ModelError
from assay.scorers.batches import TokenIds, text_key
from assay.scorers.calling import states_of_blocks
from assay.scorers.evaluating import evaluating
from assay.scorers.interface import Batch
from assay.scorers.layout import Layout, overhead_on
from assay.scorers.tokens import OfTokens, read_tokens, token_counts
from assay.scorers.traits import reads_vectors, shares_prefixes
from assay.scorers.vocabulary import LogProbabilities


class ReadingMixin:
    """For modules with a ``backbone``, an ``encoder``, and a ``config`` that says how states are pooled."""

    backbone: Any
    encoder: Any
    config: Any
    device: torch.device
    #: Whether ranks hold parts of the weights.
    sharded = False

    def read(self, batch: Batch, log_probabilities: LogProbabilities | None = None) -> Tensor:
        """Return one vector per text, ``[N, d]``; with ``log_probabilities`` that of the reply stands behind it."""
        blocks = batch["rows"]
        together = len(blocks) > 1 and torch.is_grad_enabled() and self.reads_vectors
        found = states_of_blocks(
            self.backbone, blocks, self.config, together=together, log_probabilities=log_probabilities
        )
        return found[batch["order"]]

    @property
    def row_layout(self) -> Layout:
        """How texts are laid out for this backbone, on the device where it is now.

        What the backbone can do is found out here, once, before training begins.
        """
        _ = self.reads_vectors
        shares = self.shares_prefixes
        packed = shares and self.attention == "flex_attention" and self.device.type == "cuda"
        return Layout(shares, packed, overhead_on(self.device))

    @property
    def attention(self) -> str | None:
        """Name of the implementation of attention."""
        return getattr(self.backbone.config.get_text_config(), "_attn_implementation", None)

    @property
    def shares_prefixes(self) -> bool:
        """Whether texts with a common beginning may share a row; asked anew where attention is computed otherwise."""
        config = self.config
        if config.layout == "native" or not config.causal or config.pooling != "last":
            return False
        if self.attention not in self._shares:
            self._shares[self.attention] = shares_prefixes(self.backbone)
        return self._shares[self.attention]

    @cached_property
    def _shares(self) -> dict[str | None, bool]:
        return {}

    @cached_property
    def reads_vectors(self) -> bool:
        """Whether the backbone may be given the vectors of tokens that were looked up before."""
        # a causal classifier of transformers looks for the last token among the ids
        return not (self.config.layout == "native" and self.config.causal) and reads_vectors(self.backbone)

    def map_batches(
        self,
        ids: Sequence[TokenIds],
        function: Any,
        token_budget: int,
        dtype: torch.dtype | None,
        starts: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Apply ``function`` to length-sorted batches and put its rows back in the order of ``ids``.

        Equal texts are computed once: in two batches they might differ in the last bit, and be no tie. ``starts`` says
        where replies begin, for functions of log-probabilities.
        """
        out: np.ndarray | None = None
        ids, starts, index = _distinct(ids, starts)
        layout = self.row_layout  # what it can do is tried as it is, and not under the precision of scoring
        with self._scoring(dtype):
            for members, batch in self._batches(layout, ids, starts, token_budget):
                part = function(batch).float().cpu().numpy()
                if out is None:
                    out = np.zeros((len(ids), *part.shape[1:]), np.float32)
                out[members] = part
        return out if out is None else out[index]

    def map_tokens(
        self,
        ids: Sequence[TokenIds],
        function: OfTokens,
        token_budget: int,
        dtype: torch.dtype | None,
        starts: np.ndarray,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each text what a function makes of the tokens of its reply, and of the text itself.

        Parameters
        ----------
        ids, starts
            Texts, and where their replies begin.
        function
            See `assay.scorers.tokens.read_tokens`.
        token_budget, dtype
            As for scores.

        Returns
        -------
        list
            Of each text float32 ``[T, ...]`` and ``[...]``; a reply that begins its text lacks the first token.
        """
        texts: Any = [None] * len(ids)
        distinct, begins, index = _distinct(ids, starts)
        layout = self.row_layout
        with self._scoring(dtype):
            for members, batch in self._batches(layout, distinct, begins, token_budget):
                tokens, whole = (part.float().cpu().numpy() for part in read_tokens(self, batch, function))
                ends = np.cumsum(token_counts(batch).cpu().numpy())
                for place, (own, member) in enumerate(zip(np.split(tokens, ends[:-1]), members, strict=True)):
                    texts[member] = own, whole[place]
        return [texts[place] for place in index]

    @contextlib.contextmanager
    def _scoring(self, dtype: torch.dtype | None) -> Iterator[None]:
        half = dtype in (torch.float16, torch.bfloat16)
        with (
            evaluating(cast(nn.Module, self)),
            torch.autocast(self.device.type, dtype=dtype if half else None, enabled=half),
        ):
            yield

    def _batches(
        self, layout: Layout, ids: Sequence[TokenIds], starts: np.ndarray | None, token_budget: int
    ) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield batches on the device, each with the numbers of its texts."""
        pad_id = self.encoder.pad_id
        trees = layout.trees(ids, token_budget)
        for block in layout.blocks(np.array([tree.length for tree in trees], np.int64), token_budget):
            rows, members = layout.rows(ids, [trees[row] for row in block], pad_id, starts)
            yield members, send_to_device({"rows": [rows], "order": torch.arange(len(members))}, self.device)


def _distinct(
    ids: Sequence[TokenIds], starts: np.ndarray | None
) -> tuple[list[TokenIds], np.ndarray | None, np.ndarray]:
    """Return different texts once, where their replies begin, and which of them each text is.

    Raises
    ------
    ModelError
        If a text has no token.
    """
    empty = next((place for place, text in enumerate(ids) if len(text) == 0), None)
    if empty is not None:
        raise ModelError("a text has no token", where=f"text {empty + 1} of {len(ids)}")
    places: dict[bytes, int] = {}
    keys = [text_key(x) for x in ids]
    if starts is not None:
        keys = [key + int(start).to_bytes(4, "little") for key, start in zip(keys, starts, strict=True)]
    index = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    first = np.unique(index, return_index=True)[1]
    return [ids[i] for i in first], None if starts is None else starts[first], index
