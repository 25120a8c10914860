"""References that follow the policy, and what a checkpoint keeps of them."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.errors import ConfigError
from assay.scorers.batches import TokenIds
from assay.scorers.interface import Batch
from assay.scorers.policy import Policy
from assay.scorers.references import FrozenReference
from assay.scorers.token_weights import TokenWeights

_FILE = "reference.safetensors"


class FollowingReference(Protocol):
    """A reference that changes while the policy trains."""

    @property
    def models(self) -> list[Policy]:
        """Other models that read the same rows as the policy."""
        ...

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return the log-probability of each reply as it is now, ``[N]``."""
        ...

    def after_step(self, policy: Policy, optimizer: Any, step: int) -> None:
        """Follow, where it is time to; ``step`` counts from 1."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint held."""
        ...


class AveragedReference:
    """A copy that takes over a moving average of the policy's weights from time to time (SAPO, Yin et al. 2024).

    Parameters
    ----------
    policy
        As it is at the start; all of its weights train.
    factor
        Of the average that is kept at each step: 1 keeps it as it is, 0 copies the policy.
    every
        Steps from one takeover to the next.

    Raises
    ------
    ConfigError
        If the policy has an adapter, the factor is not in [0, 1], or ``every`` is below 1.
    """

    def __init__(self, policy: Policy, factor: float = 0.5, every: int = 108) -> None:
        if policy.config.adapter:
            raise ConfigError(
                "an average of adapters is no average of the models",
                remedy="leave --lora out, or take another reference",
            )
        if not 0 <= factor <= 1 or every < 1:
            raise ConfigError(
                "a moving average needs a factor and a number of steps",
                expected="a factor from 0 to 1, and 1 step or more",
                got=f"{factor}, {every}",
            )
        self.factor, self.every = factor, every
        self.current = FrozenReference.of(policy)
        self.average = copy.deepcopy(self.current.model.language_model)

    @property
    def models(self) -> list[Policy]:
        """The copy."""
        return [self.current.model]

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return those of the copy, ``[N]``."""
        return self.current.log_probabilities(batch, weights)

    @torch.no_grad()
    def after_step(self, policy: Policy, optimizer: Any, step: int) -> None:
        """Move the average, and take it over where it is time to."""
        self.average.to(policy.device)
        for kept, moved in zip(self.average.parameters(), policy.language_model.parameters(), strict=True):
            kept.lerp_(moved.to(kept), 1.0 - self.factor)
        if step % self.every == 0:
            self.current.model.language_model.load_state_dict(self.average.state_dict())

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the copy and of the average."""
        return _named(self.current.model.language_model, "current.") | _named(self.average, "average.")

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over both."""
        _load(self.current.model.language_model, state, "current.")
        _load(self.average, state, "average.")


class ResetReference:
    """A copy that becomes the policy from time to time, whose optimiser then begins anew (ProRL, Liu et al. 2025).

    Parameters
    ----------
    policy
        As it is at the start.
    every
        Steps from one reset to the next; None: only when `reset` is called.

    Raises
    ------
    ConfigError
        If ``every`` is below 1.
    """

    def __init__(self, policy: Policy, every: int | None) -> None:
        if every is not None and every < 1:
            raise ConfigError("a reset needs a number of steps", expected="1 or more", got=str(every))
        self.every = every
        self.current = FrozenReference.of(policy)

    @property
    def models(self) -> list[Policy]:
        """The copy."""
        return [self.current.model]

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return those of the copy, ``[N]``."""
        return self.current.log_probabilities(batch, weights)

    def after_step(self, policy: Policy, optimizer: Any, step: int) -> None:
        """Copy the policy and clear the optimiser's moments, where it is time to."""
        if self.every is not None and step % self.every == 0:
            self.reset(policy, optimizer)

    def reset(self, policy: Policy, optimizer: Any) -> None:
        """Copy the policy, and clear the optimiser's moments."""
        self.current = FrozenReference.of(policy)
        clear(optimizer)

    def of_tokens(self, ids: Sequence[TokenIds], starts: np.ndarray, **options: Any) -> list[np.ndarray]:
        """Return the log-probability of each token of some replies by the copy, float32 ``[T]`` each."""
        return self.current.of_tokens(ids, starts, **options)

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the copy."""
        return _named(self.current.model.language_model, "current.")

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take them over."""
        _load(self.current.model.language_model, state, "current.")


def clear(optimizer: Any) -> None:
    """Forget the moments of an optimiser, or of the one that a wrapper holds."""
    getattr(optimizer, "optimizer", optimizer).state.clear()


def save_reference(policy: nn.Module, folder: str) -> None:
    """Write a reference that follows into a checkpoint; others need no file."""
    reference = getattr(policy, "reference", None)
    if hasattr(reference, "state"):
        save_file(cast(FollowingReference, reference).state(), os.path.join(folder, _FILE), metadata={"format": "pt"})


def load_reference(policy: nn.Module, folder: str) -> None:
    """Take over the reference of a checkpoint."""
    reference = getattr(policy, "reference", None)
    if hasattr(reference, "restore"):
        cast(FollowingReference, reference).restore(load_file(os.path.join(folder, _FILE)))


def _named(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    # one tensor under two names (tied vectors) would be refused, so parameters are named once
    return {prefix + name: p.detach().cpu().contiguous().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def _load(model: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(state[prefix + name])
