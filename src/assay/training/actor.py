"""A policy that learns from what it writes, and the critic beside it, as one module."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.errors import ConfigError
from assay.scorers.batches import TokenIds
from assay.scorers.interface import Batch, Rows
from assay.scorers.layout import Layout
from assay.scorers.policy import Policy
from assay.scorers.reward_model import RewardModel
from assay.scorers.tokens import read_tokens

_HEAD, _CRITIC = "value_head.safetensors", "critic"


class Actor(nn.Module):
    """A policy with a critic.

    Parameters
    ----------
    policy
        What learns to write.
    critic
        A reward model with a backbone of its own, which reads the policy's tokens: its score of a prefix is the value
        of what follows. None: no critic, or one on the policy's states.
    shared
        A linear critic on the policy's own states, beginning at 0.

    Raises
    ------
    ConfigError
        If both are asked for, or the critic reads other tokens, or cannot score prefixes.
    """

    def __init__(self, policy: Policy, critic: RewardModel | None = None, *, shared: bool = False) -> None:
        super().__init__()
        if critic is not None and shared:
            raise ConfigError("a critic has a backbone of its own, or shares the policy's", got="both")
        if critic is not None:
            _refuse_unfit(policy, critic)
        self.policy, self.critic = policy, critic
        self.value_head: nn.Linear | None = None
        if shared:
            width = policy.whole.get_output_embeddings().in_features
            self.value_head = nn.Linear(width, 1)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    @property
    def has_critic(self) -> bool:
        """Whether values come out."""
        return self.critic is not None or self.value_head is not None

    @property
    def layout(self) -> Layout:
        """How responses are laid out for both."""
        found = self.policy.row_layout
        if self.critic is not None and not self.critic.shares_prefixes:
            return Layout(overhead_tokens=found.overhead_tokens)
        return found

    def forward(self, rows: list[Rows], order: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities of the replies' tokens ``[T]``, and values of the states before them, or None."""
        batch: Batch = {"rows": rows, "order": order}
        said = self.policy.of_tokens()
        head = self.value_head

        def of_policy(states: Tensor, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
            each = [said(states, tokens)]
            if head is not None:
                each.append(_valued(head, states))
            return torch.stack(each, dim=1), ends[:, :0]

        found = read_tokens(self.policy, batch, of_policy)[0]
        if head is not None:
            return found[:, 0], found[:, 1]
        if self.critic is None:
            return found[:, 0], None
        return found[:, 0], read_tokens(self.critic, batch, self._of_critic)[0]

    def _of_critic(self, states: Tensor, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        assert self.critic is not None
        return self.critic.values(states.float()), ends[:, :0]

    def values(
        self, ids: Sequence[TokenIds], starts: np.ndarray, token_budget: int, dtype: torch.dtype | None
    ) -> list[np.ndarray]:
        """Return values of the states before each token of some replies, float32 ``[T]`` each."""
        head = self.value_head
        if head is None:
            assert self.critic is not None
            found = self.critic.map_tokens(ids, self._of_critic, token_budget, dtype, starts)
        else:
            found = self.policy.map_tokens(
                ids, lambda states, _, ends: (_valued(head, states), ends[:, :0]), token_budget, dtype, starts
            )
        return [tokens for tokens, _ in found]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the policy as its own folder, and the critic inside."""
        self.policy.save_pretrained(folder)
        if self.critic is not None:
            self.critic.save_pretrained(os.path.join(folder, _CRITIC))
        if self.value_head is not None:
            state = {name: value.detach().cpu().contiguous() for name, value in self.value_head.state_dict().items()}
            save_file(state, os.path.join(folder, _HEAD))

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Load what `save_pretrained` wrote, into these very models."""
        self.policy.load_weights(folder)
        if self.critic is not None:
            self.critic.load_weights(os.path.join(folder, _CRITIC))
        if self.value_head is not None:
            self.value_head.load_state_dict(load_file(os.path.join(folder, _HEAD)))


def _valued(head: nn.Linear, states: Tensor) -> Tensor:
    # one number per token: full precision costs nothing
    with torch.autocast(states.device.type, enabled=False):
        found: Tensor = head(states.float()).squeeze(-1)
    return found


def _refuse_unfit(policy: Policy, critic: RewardModel) -> None:
    from assay.scorers.prefixes import why_no_prefix_scores

    reason = why_no_prefix_scores(critic)
    if reason is None and critic.config.members > 1:
        reason = "it has several members"
    if reason is None and critic.encoder.tokenizer.get_vocab() != policy.encoder.tokenizer.get_vocab():
        reason = "it reads other tokens than the policy"
    if reason is not None:
        raise ConfigError(
            "this reward model cannot be a critic",
            got=reason,
            expected="a causal reward model with the policy's tokenizer and one score",
            remedy="begin the critic from the policy instead, or let it share the policy's states",
        )
