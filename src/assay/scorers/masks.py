"""Who sees whom in rows of trees: as dense masks for SDPA and eager attention, as block masks for FlexAttention."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from assay.scorers.attention import TREES
from assay.scorers.interface import Rows


def visible(rows: Rows, window: int | None = None) -> Tensor:
    """Return which token each token sees: bool ``[R, 1, L, L]``.

    A token sees itself and what stands before it in its own text: the trunk of its tree and its own branch; with a
    sliding ``window`` only what is fewer positions away, counted in the text and not in the row. Padding sees itself.
    """
    branch, positions = rows["branch"], rows["position_ids"]
    query, key = branch.unsqueeze(2), branch.unsqueeze(1)
    place = torch.arange(branch.shape[1], device=branch.device)
    mask = ((key == 0) | (key == query)) & (query >= 0) & (place[:, None] >= place)
    if "document" in rows:
        mask &= rows["document"].unsqueeze(2) == rows["document"].unsqueeze(1)
    if window is not None:
        mask &= positions.unsqueeze(2) < (positions + window).unsqueeze(1)
    return (mask | torch.eye(len(place), dtype=torch.bool, device=branch.device)).unsqueeze(1)


def visible_blocks(rows: Rows, window: int | None = None) -> Any:
    """Return the same as a FlexAttention ``BlockMask``; what it hides in whole blocks is never computed."""
    from torch.nn.attention.flex_attention import create_block_mask

    branch, positions = rows["branch"], rows["position_ids"]
    document = rows["document"] if "document" in rows else torch.zeros_like(branch)

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (branch[row, key] == 0) | (branch[row, key] == branch[row, query])
        mask = (document[row, query] == document[row, key]) & own & (query >= key) & (branch[row, query] >= 0)
        if window is not None:
            mask = mask & (positions[row, query] - positions[row, key] < window)
        return mask | (query == key)

    count, length = branch.shape
    return create_block_mask(sees, count, None, length, length, device=branch.device)


def masks_for(config: Any, rows: Rows, dtype: torch.dtype | None = None) -> Any:
    """Return the mask, or one for each kind of layer, that a backbone with this configuration takes.

    ``dtype`` is that of its hidden states, where it is known.

    Raises
    ------
    ValueError
        If a kind of layer, or the implementation of attention, is not known here.
    """
    text = config.get_text_config()
    implementation = getattr(text, "_attn_implementation", None) or "sdpa"
    if implementation not in (*_SDPA, *_FORMS):
        raise ValueError(f"no mask is known for attention by {implementation}")
    form = functools.partial(_for_sdpa, dtype=dtype) if implementation in _SDPA else _FORMS[implementation]
    kinds = set(getattr(text, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        raise ValueError(f"no mask is known for layers of the kinds {sorted(kinds)}")
    window = getattr(text, "sliding_window", None)
    if kinds <= {"full_attention"}:
        return form(rows, window if not kinds else None)
    return {kind: form(rows, window if "sliding" in kind else None) for kind in sorted(kinds)}


def _for_sdpa(rows: Rows, window: int | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return what SDPA takes.

    On a CPU it would make a sum of a bool mask in every layer, and keep them all for the gradient. So it is given that
    sum, in the type of its queries: one for all layers.
    """
    mask = visible(rows, window)
    if dtype is None or mask.device.type != "cpu":
        return mask
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _additive(rows: Rows, window: int | None = None) -> Tensor:
    """Return what eager attention adds to its logits."""
    return torch.where(visible(rows, window), 0.0, torch.finfo(torch.float32).min)


_SDPA = ("sdpa", TREES)
_FORMS = {"eager": _additive, "flex_attention": visible_blocks}
