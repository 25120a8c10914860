"""From token ids to the rows that a backbone is called with: who shares a row, and which rows share a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from assay.scorers.batches import TokenIds, cut, pad
from assay.scorers.interface import Batch, Rows
from assay.scorers.trees import Tree, grow, lay_out, one_by_one, predicted

# A call of a backbone costs about as much as this many tokens beside its own: on a CPU most of all the gradient of its
# embeddings, elsewhere the start of its kernels.
_OVERHEAD_CPU, _OVERHEAD_ELSEWHERE = 64, 2048
_LONGEST_TREE = 8192
# Shorter trunks are attended to under the mask of their trees (see `assay.scorers.attention`).
_LEAST_TRUNK = 64
_OF_TOKENS = ("input_ids", "position_ids", "branch")


def overhead_on(device: torch.device) -> int:
    """Return the fixed cost of a call of a backbone, as the number of tokens that take as long."""
    return _OVERHEAD_CPU if device.type == "cpu" else _OVERHEAD_ELSEWHERE


@dataclass(frozen=True)
class Layout:
    """How texts become rows. It changes speed and memory, never a score.

    Attributes
    ----------
    shares
        Texts with a common beginning share a row, as a prefix tree; for causal backbones.
    packed
        Rows stand end to end, and nothing is padded; for kernels that skip what a mask hides.
    overhead_tokens
        Fixed cost of a call of the backbone, as the number of tokens that take as long.
    at_once
        All rows of a micro-batch make one block: where weights are sharded, every rank must make the same calls.
    """

    shares: bool = False
    packed: bool = False
    overhead_tokens: int = 0
    at_once: bool = False

    def trees(self, texts: Sequence[TokenIds], longest: int | None = None) -> list[Tree]:
        """Return the rows of some texts; one with several different texts has at most ``longest`` tokens.

        Masks grow with the square of a row, so `_LONGEST_TREE` is a limit too.
        """
        longest = _LONGEST_TREE if longest is None else min(longest, _LONGEST_TREE)
        return grow(texts, longest) if self.shares else one_by_one(texts)

    def blocks(self, lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
        """Cut rows into blocks of at most ``token_budget`` tokens, and those that are longer alone."""
        if self.at_once:
            return [np.argsort(-lengths, kind="stable")] if len(lengths) else []
        if not self.packed:
            return cut(lengths, token_budget, self.overhead_tokens)
        blocks, start = [], 0
        ends = np.cumsum(lengths)
        while start < len(lengths):
            used = ends[start] - lengths[start]
            end = max(start + 1, int(np.searchsorted(ends, used + token_budget, side="right")))
            blocks.append(np.arange(start, end))
            start = end
        return blocks

    def tokens(self, lengths: np.ndarray, blocks: Sequence[np.ndarray]) -> int:
        """Return how many tokens some blocks have, padding included."""
        if self.packed:
            return int(sum(lengths[block].sum() for block in blocks))
        return int(sum(len(block) * lengths[block].max() for block in blocks))

    def rows(
        self,
        texts: Sequence[TokenIds],
        trees: Sequence[Tree],
        pad_id: int,
        starts: np.ndarray | None = None,
        edited: Sequence[np.ndarray] | None = None,
    ) -> tuple[Rows, np.ndarray]:
        """Return the tensors of one block, and the texts whose states they give, in order.

        Where every tree holds one text, rows are plain padded texts, which need no mask of their own. With ``starts``
        (the first token of each text's reply, int64 ``[texts]``) they say where each token of a reply is predicted, and
        with ``edited`` (bool ``[tokens]`` of each text) which of these tell it from others.
        """
        members = np.concatenate([tree.members for tree in trees])
        rows = _packed(texts, trees, pad_id, starts) if self.packed else self._rows(texts, trees, pad_id, starts)
        if starts is not None and edited is not None:
            marks = [edited[member][max(int(starts[member]), 1) :] for member in members]
            rows["edited"] = torch.from_numpy(np.concatenate(marks))
        return rows, members

    def _rows(self, texts: Sequence[TokenIds], trees: Sequence[Tree], pad_id: int, starts: np.ndarray | None) -> Rows:
        members = np.concatenate([tree.members for tree in trees])
        rows: Rows
        if len(members) == len(trees):
            ids, mask = pad([texts[member] for member in members], pad_id)
            rows = {"input_ids": ids, "attention_mask": mask}
            if starts is not None:
                ends = np.stack([np.arange(len(members)), mask.sum(dim=1).numpy() - 1], axis=1)
                rows["predicted"] = torch.from_numpy(predicted(texts, trees, starts, ends))
            return rows
        laid = lay_out(texts, trees, pad_id)
        ids, positions, branch = (torch.from_numpy(laid[name]) for name in _OF_TOKENS)
        trunk = min(tree.trunk for tree in trees)
        rows = {"input_ids": ids, "position_ids": positions, "branch": branch}
        rows["ends"] = torch.from_numpy(laid["ends"])
        if starts is not None:
            rows["predicted"] = torch.from_numpy(predicted(texts, trees, starts, laid["ends"]))
        rows["trunk"] = trunk if _LEAST_TRUNK <= trunk < ids.shape[1] else 0
        return rows

    def lay(
        self,
        texts: Sequence[TokenIds],
        trees: Sequence[Tree],
        token_budget: int,
        pad_id: int,
        starts: np.ndarray | None = None,
        edited: Sequence[np.ndarray] | None = None,
    ) -> tuple[list[Rows], torch.Tensor]:
        """Return all blocks of some texts, and where each text stands among the texts of the blocks, int64 ``[N]``."""
        blocks = self.blocks(np.array([tree.length for tree in trees], np.int64), token_budget)
        made = [self.rows(texts, [trees[row] for row in block], pad_id, starts, edited) for block in blocks]
        order = np.argsort(np.concatenate([members for _, members in made]))
        return [rows for rows, _ in made], torch.from_numpy(order)


def plain_batch(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Batch:
    """Return texts padded on the right, ``[N, L]`` int64, as one block; without a mask every token counts."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    return {
        "rows": [{"input_ids": input_ids, "attention_mask": mask}],
        "order": torch.arange(len(input_ids), device=input_ids.device),
    }


def _packed(
    texts: Sequence[TokenIds], trees: Sequence[Tree], pad_id: int, reply_starts: np.ndarray | None = None
) -> Rows:
    """Return one row with all trees end to end."""
    laid = lay_out(texts, trees, pad_id)
    real = laid["branch"] >= 0
    starts = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    row, column = laid["ends"].T
    ids, positions, branch = (torch.from_numpy(laid[name][real])[None] for name in _OF_TOKENS)
    document = torch.from_numpy(np.nonzero(real)[0])[None]
    ends = torch.from_numpy(np.stack([np.zeros_like(row), starts[row] + column], axis=1))
    rows: Rows = {"input_ids": ids, "position_ids": positions, "branch": branch, "document": document, "ends": ends}
    if reply_starts is not None:
        found = predicted(texts, trees, reply_starts, laid["ends"])
        found[:, 2] += starts[found[:, 1]]
        found[:, 1] = 0
        rows["predicted"] = torch.from_numpy(found)
    return rows
