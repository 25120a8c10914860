"""What a policy is compared with: log-probabilities of the same replies by other models, or by itself without LoRA."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.errors import ModelError
from assay.objectives.policy import harmonic_reference
from assay.scorers.batches import TokenIds
from assay.scorers.evaluating import evaluating
from assay.scorers.interface import Batch
from assay.scorers.policy import Policy, Reference
from assay.scorers.token_weights import TokenWeights


class FrozenReference:
    """Another model, kept as it is.

    Parameters
    ----------
    model
        A policy, of which only the log-probabilities are used.
    """

    def __init__(self, model: Policy) -> None:
        self.model = model.eval().requires_grad_(False)

    @classmethod
    def of(cls, policy: Policy) -> FrozenReference:
        """Copy a policy as it is now; without its adapter, which is folded into the copy."""
        kept, policy.reference = policy.reference, None
        # what is compiled, or wrapped for training, belongs to the policy: a copy of it would call the policy's layers
        wrapped = {module: vars(module).pop("forward") for module in policy.modules() if "forward" in vars(module)}
        try:
            other = copy.deepcopy(policy)
        finally:
            policy.reference = kept
            for module, forward in wrapped.items():
                vars(module)["forward"] = forward
        if other.config.adapter:
            other.language_model = other.language_model.merge_and_unload()
            other.config.adapter = False
        return cls(other)

    @property
    def models(self) -> list[Policy]:
        """Its model."""
        return [self.model]

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return those of its model, ``[N]``."""
        device = batch["order"].device
        if self.model.device != device:
            self.model.to(device)
        with torch.no_grad():
            return self.model.likelihoods(batch, weights)

    def of_tokens(self, ids: Sequence[TokenIds], starts: np.ndarray, **options: Any) -> list[np.ndarray]:
        """Return the log-probability of each token of some replies, float32 ``[T]`` each (`Policy.said`)."""
        return self.model.said(ids, starts, **options)


class AdapterOff:
    """The policy itself without its adapter: no second model is held (the reference of LoRA).

    Raises
    ------
    ModelError
        If the policy has no adapter.
    """

    def __init__(self, policy: Policy) -> None:
        if not policy.config.adapter:
            raise ModelError("without an adapter nothing can be switched off", remedy="use a frozen copy")
        self._policy = policy

    @property
    def models(self) -> list[Policy]:
        """None beside the policy."""
        return []

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return those of the base, ``[N]``; dropout is off."""
        with evaluating(self._policy), self._policy.language_model.disable_adapter():
            return self._policy.likelihoods(batch, weights).clone()

    def of_tokens(self, ids: Sequence[TokenIds], starts: np.ndarray, **options: Any) -> list[np.ndarray]:
        """Return the log-probability of each token of some replies by the base, float32 ``[T]`` each."""
        with self._policy.language_model.disable_adapter():
            return self._policy.said(ids, starts, **options)


class MixedReference:
    """Several references as one: the weighted harmonic mean of their probabilities (`harmonic_reference`).

    Parameters
    ----------
    parts
        Two references or more.
    weights
        Of each, above 0; they are divided by their sum.

    Raises
    ------
    ModelError
        If there is no weight for each.
    """

    def __init__(self, parts: Sequence[Reference], weights: Sequence[float]) -> None:
        if len(parts) != len(weights) or not parts or min(weights) <= 0:
            raise ModelError(
                "each reference needs a weight",
                expected=f"{len(parts)} numbers above 0",
                got=str(list(weights)),
            )
        self.parts, self.weights = list(parts), torch.tensor(weights, dtype=torch.float64) / sum(weights)

    @property
    def models(self) -> list[Policy]:
        """Those of its parts."""
        return [model for part in self.parts for model in part.models]

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return those of the mixture, ``[N]``."""
        each = torch.stack([part.log_probabilities(batch, weights) for part in self.parts])
        return harmonic_reference(each, self.weights.to(each))


def refuse_other_vocabulary(policy: Any, reference: Any, name: str) -> None:
    """Refuse a reference whose tokens are other ones than the policy's.

    Raises
    ------
    ModelError
        Naming the first difference.
    """
    own, other = policy.encoder.tokenizer.get_vocab(), reference.encoder.tokenizer.get_vocab()
    if own != other:
        token = next(iter(sorted(set(own.items()) ^ set(other.items()))))[0]
        raise ModelError(
            "the reference has another vocabulary than the policy: their probabilities are of other tokens",
            where=name,
            expected=f"the {len(own):,} tokens of the policy",
            got=f"{len(other):,} tokens; the first that differs is {token!r}",
            remedy="name a reference of the same family",
        )
