"""Calls of a backbone: what it is given for each kind of rows, and what is done once for several blocks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assay.scorers.attention import trunk_of
from assay.scorers.interface import Rows
from assay.scorers.masks import masks_for
from assay.scorers.pooling import behind_separator, pool
from assay.scorers.vocabulary import LogProbabilities, likelihoods


def options_of(backbone: Any) -> dict[str, bool]:
    """Return what every call is told: keys and values are not kept, since no text is ever continued."""
    inner = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    return {"use_cache": False} if "use_cache" in inspect.signature(inner.forward).parameters else {}


def embedded(backbone: Any, blocks: Sequence[Rows]) -> list[dict[str, Tensor]]:
    """Return what the backbone reads of each block: vectors that were looked up together.

    The gradient of a look-up is as large as the whole vocabulary: one for each block would cost more than blocks save.
    """
    flat = torch.cat([rows["input_ids"].flatten() for rows in blocks])
    vectors = backbone.get_input_embeddings()(flat.unsqueeze(0))[0]
    parts = vectors.split([rows["input_ids"].numel() for rows in blocks])
    return [{"inputs_embeds": p.view(*b["input_ids"].shape, -1)} for p, b in zip(parts, blocks, strict=True)]


def states_of_blocks(
    backbone: Any,
    blocks: Sequence[Rows],
    config: Any,
    *,
    together: bool,
    log_probabilities: LogProbabilities | None = None,
) -> Tensor:
    """Return one vector per text of all blocks, one block after the other, ``[N, d]``; see `states_of`.

    ``together``: the vectors of all their tokens are looked up at once, for a pass with gradients. With
    ``log_probabilities`` the log-probability of each reply stands behind its vector, ``[N, d + 1]``.

    Where the weights learn, autograd would keep the gradients of all blocks until it can add them up, which takes as
    much memory as the weights once more. So each block makes its part of the backward pass alone, and adds to the
    gradients at once. Under autocast what is kept is in 16 bits, and cheaper to add up than in 32; a distributed
    wrapper waits for one gradient of each weight: there they make one pass together.
    """
    read = partial(states_of, backbone, config=config, log_probabilities=log_probabilities)
    if not together:
        return torch.cat([read(rows) for rows in blocks])
    pieces = zip(blocks, embedded(backbone, blocks), strict=True)
    if torch.is_autocast_enabled(blocks[0]["input_ids"].device.type) or _distributed() or not _learns(backbone):
        return torch.cat([read(rows, inputs=inputs) for rows, inputs in pieces])
    begin = torch.zeros((), requires_grad=True)  # a pass is recorded only where something that is given learns
    return torch.cat(
        [_OwnPass.apply(begin, inputs["inputs_embeds"], partial(_of_vectors, read, rows)) for rows, inputs in pieces]
    )


def _of_vectors(read: Callable[..., Tensor], rows: Rows, vectors: Tensor) -> Tensor:
    return read(rows, inputs={"inputs_embeds": vectors})


class _OwnPass(torch.autograd.Function):
    """A call whose part of the backward pass runs alone; its weights' gradients are added up there and then."""

    @staticmethod
    def forward(ctx: Any, begin: Tensor, vectors: Tensor, call: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            ctx.vectors = vectors.detach().requires_grad_(vectors.requires_grad)
            ctx.states = call(ctx.vectors)
        return ctx.states.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, Tensor | None, None]:
        torch.autograd.backward(ctx.states, *gradients)
        found = ctx.vectors.grad
        del ctx.states, ctx.vectors
        return None, found, None


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _learns(backbone: Any) -> bool:
    return any(parameter.requires_grad for parameter in backbone.parameters())


def states_of(
    backbone: Any,
    rows: Rows,
    config: Any,
    inputs: dict[str, Tensor] | None = None,
    log_probabilities: LogProbabilities | None = None,
) -> Tensor:
    """Return one vector per text of one block of rows, ``[N, d]``, pooled as the reward model's ``config`` says.

    ``inputs`` is what the backbone reads of it; None: the token ids. For ``log_probabilities`` see `states_of_blocks`.
    """
    inputs = inputs or {"input_ids": rows["input_ids"]}
    if "branch" in rows:
        if config.layout == "native" or not config.causal or config.pooling != "last":
            raise ValueError("rows of trees are read at the last token of each text, by a causal backbone")
        hidden = hidden_in_trees(backbone, rows, inputs)
        row, column = rows["ends"].unbind(dim=1)
        return _with_likelihoods(hidden[row, column].float(), hidden, rows, log_probabilities)
    ids, mask = rows["input_ids"], rows["attention_mask"]
    more: dict[str, Any] = {**inputs, **options_of(backbone)}
    if config.segments:
        more["token_type_ids"] = behind_separator(ids, mask, config.separator_id)
    if config.layout == "native":
        return backbone(attention_mask=mask, **more).logits.float()
    # Where states never depend on what follows, padding behind the last token needs no mask, and the kernels for plain
    # causal attention can be used.
    masked = {} if config.causal and config.pooling == "last" else {"attention_mask": mask}
    hidden = backbone(**masked, **more).last_hidden_state
    if config.pooling == "reply":
        mask = behind_separator(ids, mask, config.separator_id)
    return _with_likelihoods(pool(hidden, mask, config.pooling), hidden, rows, log_probabilities)


def _with_likelihoods(pooled: Tensor, hidden: Tensor, rows: Rows, log_probabilities: LogProbabilities | None) -> Tensor:
    if log_probabilities is None:
        return pooled
    found = likelihoods(hidden, rows["predicted"], len(pooled), log_probabilities)
    return torch.cat([pooled, found.to(pooled.dtype).unsqueeze(1)], dim=1)


def hidden_of(backbone: Any, rows: Rows, inputs: dict[str, Tensor] | None = None) -> Tensor:
    """Return the states of all tokens of one block of rows of a causal backbone, ``[R, L, d]``.

    Those of padding are of no use: it stands behind the last token, which never sees it.
    """
    inputs = inputs or {"input_ids": rows["input_ids"]}
    if "branch" in rows:
        return hidden_in_trees(backbone, rows, inputs)
    hidden: Tensor = backbone(**inputs, **options_of(backbone)).last_hidden_state
    return hidden


def states_in_trees(backbone: Any, rows: Rows, inputs: dict[str, Tensor]) -> Tensor:
    """Return the state at the end of every text of rows of trees, ``[N, d]``."""
    row, column = rows["ends"].unbind(dim=1)
    return hidden_in_trees(backbone, rows, inputs)[row, column]


def hidden_in_trees(backbone: Any, rows: Rows, inputs: dict[str, Tensor]) -> Tensor:
    """Return the states of all tokens of rows of trees, ``[R, L, d]``."""
    more = {**options_of(backbone), **trunk_of(backbone.config, rows)}
    vectors = inputs.get("inputs_embeds")
    mask = masks_for(backbone.config, rows, None if vectors is None else vectors.dtype)
    output = backbone(attention_mask=mask, position_ids=rows["position_ids"], **inputs, **more)
    hidden: Tensor = output.last_hidden_state
    return hidden
