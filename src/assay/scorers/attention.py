"""Attention in rows of trees that does not compute what the mask hides in their trunks.

SDPA with a mask computes all products and hides some afterwards. Without a mask its causal kernels skip what lies
ahead. What every row of a block begins with needs no mask, so it is attended to causally, and only the columns behind
it with their mask. The function is registered with transformers under a name of its own; nothing in there is changed.

Where bfloat16 is computed on a processor, short rows attend in float32: its kernel for bfloat16 takes about twice the
time there (forward and backward; equal from 512 columns on), and rounds more.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from assay.scorers.interface import Rows

#: The name that transformers knows this attention by.
TREES = "assay_trees"
#: Columns up to which a processor attends in float32.
_SHORT = 512


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    trunk: int = 0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as ``sdpa`` does; the first ``trunk`` columns of all rows, where there are any, causally.

    Parameters
    ----------
    query, key, value
        ``[R, heads, L, d]``; key and value may have fewer heads.
    attention_mask
        bool ``[R, 1, L, L]``, or None for plain causal attention.
    trunk
        Columns that hold nothing but trunks, in a layer whose attention reaches all the way back.

    Returns
    -------
    tuple
        ``[R, L, heads, d]``, and None for the weights, which are never made.
    """
    # under autocast the positions may have made queries and keys float32 again; values come right out of a product
    if value.device.type != "cpu" or value.dtype != torch.bfloat16 or key.shape[2] > _SHORT:
        return _in_two(module, query, key, value, attention_mask, trunk, **options), None
    # autocast would turn them back
    with torch.autocast("cpu", enabled=False):
        found = _in_two(module, query.float(), key.float(), value.float(), attention_mask, trunk, **options)
        return found.to(value.dtype), None


def _in_two(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, trunk: int, **options: Any
) -> Tensor:
    """Attend to the trunks causally, and with the mask behind them."""
    sdpa: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not trunk or mask is None:
        return cast(Tensor, sdpa(module, query, key, value, _as(mask, query), **options)[0])
    options.pop("is_causal", None)
    begun = [_cut(each, 0, trunk) for each in (query, key, value)]
    behind, mask = (_cut(each, trunk, query.shape[2]) for each in (query, mask))
    first, _ = sdpa(module, *begun, None, is_causal=True, **options)
    rest, _ = sdpa(module, behind, key, value, _as(mask, query), is_causal=False, **options)
    return torch.cat([first, rest], dim=1)


def _as(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return what is added to the products in their dtype; what is true or false stays so."""
    return mask if mask is None or mask.dtype == torch.bool else mask.to(query.dtype)


def _cut(tensor: Tensor, start: int, end: int) -> Tensor:
    """Return some columns; copied where code is generated, which takes the strides of its first call for granted."""
    part = tensor[:, :, start:end]
    return part.contiguous() if torch.compiler.is_compiling() else part


AttentionInterface.register(TREES, attend)
AttentionMaskInterface.register(TREES, sdpa_mask)


def prefer_trees(backbone: Any) -> None:
    """Let a backbone that attends by SDPA do so in two parts, where its calls can be told how long the trunks are."""
    takes_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(backbone.forward).parameters.values())
    if takes_more and backbone.config.get_text_config()._attn_implementation == "sdpa":
        backbone.set_attn_implementation(TREES)


@contextlib.contextmanager
def attending(model: Any, implementation: str) -> Iterator[None]:
    """Let a model, or the one within an adapter, attend by another implementation of transformers for a while."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = inner.config._attn_implementation
    inner.set_attn_implementation(implementation)
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


def trunk_of(config: Any, rows: Rows) -> dict[str, int]:
    """Return what a call with rows of trees is told beside its mask."""
    text = config.get_text_config()
    # within a sliding window the trunk is not plain causal
    reaches_back = getattr(text, "sliding_window", None) is None
    if text._attn_implementation != TREES or not reaches_back or not rows.get("trunk"):
        return {}
    return {"trunk": rows["trunk"]}
