"""The vocabulary head of a language model: log-probabilities of replies, for what also learns from text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from assay.errors import ModelError
from assay.scorers.backbones import load_causal
from assay.scorers.evaluating import evaluating

#: Logits of so many tokens times words are made at a time: 32 MiB in float32, which processors work on fastest.
_LOGITS_AT_ONCE = 2**23
#: Logits of a block that are kept for their gradient, in tokens times words (512 MiB in bfloat16); those of larger ones
#: are made again.
_LOGITS_KEPT = 2**28
#: Relative error up to which our logits are those of the language model.
_TOLERANCE = 1e-3

#: Log-probabilities ``[T]`` of tokens ``[T]`` that follow states ``[T, d]``.
LogProbabilities = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LogitShape:
    """What a language model makes of the products z of states and output vectors: ``cap * tanh(scale * z / cap) / T``.

    Attributes
    ----------
    scale
        Factor (Cohere, Granite).
    cap
        Soft cap (Gemma); None: there is none.
    temperature
        What is sampled at: logits are divided by it.
    """

    scale: float = 1.0
    cap: float | None = None
    temperature: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether nothing is made of them."""
        return self.scale == 1.0 and self.cap is None and self.temperature == 1.0

    def logits(self, products: Tensor) -> Tensor:
        """Return logits in float32."""
        scaled = products.float() if self.scale == 1.0 else products.float() * self.scale
        capped = scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)
        return capped if self.temperature == 1.0 else capped / self.temperature


class TokenLogProbabilities(torch.autograd.Function):
    """Log-probabilities of tokens ``[T]`` of logits ``[T, V]``, in float32; of the logits one copy is held.

    What `torch.nn.functional.cross_entropy` keeps for the gradient is their logarithm in float32; here they are kept in
    their own dtype, and their gradient is made in it.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return ``[T]`` float32."""
        ctx.save_for_backward(logits, tokens)
        return torch.log_softmax(logits, dim=1, dtype=torch.float32).gather(1, tokens.unsqueeze(1))[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the logits."""
        logits, tokens = ctx.saved_tensors
        of_each = gradients[0].float().unsqueeze(1)
        shares = torch.softmax(logits, dim=1, dtype=torch.float32).mul_(-of_each)
        return shares.scatter_add_(1, tokens.unsqueeze(1), of_each).to(logits.dtype), None


class VocabularyHead(nn.Module):
    """Output vectors of a language model, kept as they are; where they are its input vectors, those of the backbone.

    They are buffers that no state holds: a reward model is stored without them.

    Parameters
    ----------
    weight
        ``[V, d]``; None: the backbone's input vectors, which may learn.
    bias
        ``[V]`` or None.
    shape
        What follows the product.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor | None, bias: Tensor | None = None, shape: LogitShape | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.shape = shape or LogitShape()

    def of(self, backbone: Any) -> LogProbabilities:
        """Return the function that gives log-probabilities after states of this backbone."""
        vectors = backbone.get_input_embeddings().weight if self.weight is None else self.weight

        def product(states: Tensor) -> Tensor:
            return functional.linear(states.to(vectors.dtype), vectors, self.bias)

        return by_chunks(product, self.shape, len(vectors))


def by_chunks(product: Callable[[Tensor], Tensor], shape: LogitShape, words: int) -> LogProbabilities:
    """Return the function that gives log-probabilities ``[T]`` float32 of tokens ``[T]`` after states ``[T, d]``.

    The logits of a few tokens at a time are made in float32. For their gradient, those of a small block are kept as
    they were computed; those of a large one are made again, and never held together.

    Parameters
    ----------
    product
        Gives ``[T, words]`` of states.
    shape
        What follows the product.
    words
        Size of the vocabulary.
    """

    def chunk(states: Tensor, tokens: Tensor) -> Tensor:
        products = product(states)
        return TokenLogProbabilities.apply(products if shape.plain else shape.logits(products), tokens)

    def log_probabilities(states: Tensor, tokens: Tensor) -> Tensor:
        rows = max(1, _LOGITS_AT_ONCE // words)
        again = torch.is_grad_enabled() and len(states) * words > _LOGITS_KEPT
        parts = []
        for own, wanted in zip(states.split(rows), tokens.split(rows), strict=True):
            if again:
                parts.append(checkpoint(chunk, own, wanted, use_reentrant=False))
            else:
                parts.append(chunk(own, wanted))
        return torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32)

    return log_probabilities


def vocabulary_head(name: str, backbone: Any) -> VocabularyHead:
    """Load what stands above a causal backbone, and try whether it gives the same logits as the whole language model.

    Parameters
    ----------
    name
        Hub id or folder of the language model.
    backbone
        The same without its head, as it came.

    Raises
    ------
    ModelError
        If there is no such head, or more than a product, a scale and a soft cap stand above the backbone.
    """
    whole = load_causal(name, dtype=backbone.dtype)
    shape = logit_shape(name, whole, backbone)
    last = whole.get_output_embeddings()
    tied = last.weight is whole.get_input_embeddings().weight
    bias = None if last.bias is None else last.bias.detach()
    return VocabularyHead(None if tied else last.weight.detach(), bias, shape)


def logit_shape(name: str, whole: Any, backbone: Any) -> LogitShape:
    """Find what a language model makes of the products of its backbone's states and its output vectors, by trying.

    Parameters
    ----------
    name
        Of the model, for messages.
    whole, backbone
        The language model, and what it is without its head.

    Raises
    ------
    ModelError
        If there are no output vectors, or more than a product, a scale and a soft cap stand above the backbone.
    """
    last = whole.get_output_embeddings()
    if not isinstance(last, nn.Linear):
        raise _no_head(name, f"{type(whole).__name__} has no output vectors")
    config = whole.config.get_text_config()
    ids = torch.arange(min(8, last.out_features), device=last.weight.device).unsqueeze(0)
    with evaluating(whole), evaluating(backbone):
        wanted = whole(input_ids=ids).logits[0].float()
        states = backbone(input_ids=ids).last_hidden_state[0]
        products = last(states.to(last.weight.dtype)).float()
        shape = _shape_of(products, wanted, getattr(config, "final_logit_softcapping", None))
        wrong = float((shape.logits(products) - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    if wrong > _TOLERANCE:
        raise _no_head(name, f"{type(whole).__name__} changes its logits in a way that is not known (by {wrong:.2g})")
    return shape


def _shape_of(products: Tensor, logits: Tensor, cap: float | None) -> LogitShape:
    """Find the factor between products and logits, behind the cap that the configuration names."""
    inner = logits if cap is None else cap * torch.atanh((logits / cap).clamp(-1 + 1e-6, 1 - 1e-6))
    scale = float((inner * products).sum() / products.square().sum().clamp_min(1e-30))
    return LogitShape(1.0 if abs(scale - 1.0) < _TOLERANCE else scale, cap)


def _no_head(name: str, reason: str) -> ModelError:
    return ModelError(
        f"log-probabilities of replies cannot be told: {reason}",
        where=name,
        expected="a causal language model with its vocabulary head",
        remedy="choose another model; a reward model learns without it (leave out --grm)",
    )


def likelihoods(hidden: Tensor, predicted: Tensor, texts: int, log_probabilities: LogProbabilities) -> Tensor:
    """Return the log-probability of each reply given what comes before it, ``[texts]`` float32, summed over tokens.

    Parameters
    ----------
    hidden
        States of a block of rows, ``[R, L, d]``.
    predicted
        ``[T, 4]`` int64, see `assay.scorers.interface.Rows`.
    texts
        Number of texts in the block.
    log_probabilities
        See `VocabularyHead.of`.
    """
    text, row, column, token = predicted.unbind(dim=1)
    each = log_probabilities(hidden[row, column], token)
    return torch.zeros(texts, dtype=each.dtype, device=each.device).index_add(0, text, each)


def reply_likelihoods(
    model: Any, records: Any, *, dtype: torch.dtype | None = None, token_budget: int = 8192, texts_at_once: int = 4096
) -> np.ndarray:
    """Return the log-probability of every reply of a data set, as the model is now, float32 ``[texts]``.

    Parameters
    ----------
    model
        A `RewardModel` with a vocabulary head.
    records
        `assay.scorers.encoding.EncodedRecords`.
    dtype
        Compute in this dtype by autocast; None: in that of the weights.
    token_budget, texts_at_once
        Memory, not results.
    """
    parts = []
    for start in range(0, len(records.lengths), texts_at_once):
        chosen = range(start, min(start + texts_at_once, len(records.lengths)))
        ids = [records.text(index) for index in chosen]
        starts = records.reply_starts[chosen.start : chosen.stop]
        parts.append(model.map_batches(ids, model.likelihoods, token_budget, dtype, starts=starts))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
