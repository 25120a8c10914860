"""Several whole reward models as one: each text is encoded by all of them, and their scores are its members."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import ModelError
from assay.scorers import provenance, storage
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET
from assay.scorers.card import write_card
from assay.scorers.conversation import Encoded
from assay.scorers.interface import Batch
from assay.scorers.layout import Layout
from assay.scorers.model_shape import RewardModelConfig
from assay.scorers.provenance import Provenance
from assay.scorers.reward_model import RewardModel
from assay.versions import current_versions

MEMBER = "member-{}"


class EnsembleModel(RewardModel):
    """Reward models of one kind and one way to write conversations; LoRA members keep one base between them.

    It costs as many forward passes as it has members. Heads on one backbone are the cheap kind
    (`assay.scorers.ModelOptions.members`).

    Parameters
    ----------
    members
        Two models or more, each with one score per text.
    record
        What is stored beside them; None: anew.

    Raises
    ------
    ModelError
        If the members read conversations in different ways.
    """

    def __init__(self, members: Sequence[RewardModel], record: Provenance | None = None) -> None:
        first = members[0]
        prints = {provenance.conversation_fingerprint(member.encoder) for member in members}
        if len(members) < 2 or len(prints) > 1 or any(member.config.members > 1 for member in members):
            raise ModelError(
                "these models are no ensemble",
                expected="two or more, each with one head, that write conversations alike",
                got=f"{len(members)} models, {len(prints)} ways to write conversations",
            )
        shape = {**first.config.to_dict(), "head": "ensemble", "head_options": {}, "members": len(members)}
        config = RewardModelConfig.from_dict({**shape, "adapter": False})
        super().__init__(config, nn.Identity(), first.encoder, record or Provenance(first.encoder.settings))
        if first.config.adapter:
            for other in members[1:]:
                _share_base(first, other)
        self.members = nn.ModuleList(members)
        self.backbone = first.backbone

    @property
    def row_layout(self) -> Layout:
        """That of the members."""
        return self._first.row_layout

    @property
    def head_reads(self) -> frozenset[str]:
        """What the heads of the members are told."""
        return self._first.head_reads

    @property
    def _first(self) -> RewardModel:
        return self.members[0]  # type: ignore[return-value]

    def nodes(self, batch: Batch) -> Tensor:
        """Return the states of all members side by side, ``[N, M * d]`` float32."""
        if "features" in batch:
            return batch["features"]
        return torch.cat([member.nodes(batch) for member in self.members], dim=-1)  # type: ignore[operator]

    def values(
        self,
        states: Tensor,
        prompts: Tensor | None = None,
        owners: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Return the scores of the members, ``[N, M]``."""
        parts = states.chunk(len(self.members), dim=-1)
        found = [member.values(part, prompts) for member, part in zip(self.members, parts, strict=True)]  # type: ignore[operator]
        return torch.stack(found, dim=-1)

    def prefix_scores_encoded(
        self,
        encoded: Sequence[Encoded],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> list[np.ndarray]:
        """Return the mean of the members' scores after each token."""
        options: Any = {"token_budget": token_budget, "dtype": dtype}
        found = [member.prefix_scores_encoded(encoded, **options) for member in self.members]  # type: ignore[operator]
        return [np.asarray(np.mean(each, axis=0), np.float32) for each in zip(*found, strict=True)]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *_: Any, **__: Any) -> None:
        """Write each member into a folder of its own, and beside them what they have in common."""
        os.makedirs(save_directory, exist_ok=True)
        for number, member in enumerate(self.members):
            member.save_pretrained(os.path.join(save_directory, MEMBER.format(number)))  # type: ignore[operator]
        self.config.save_pretrained(save_directory)
        self.record.fingerprint = {"conversation": provenance.conversation_fingerprint(self.encoder)}
        self.record.versions = current_versions()
        self.encoder.tokenizer.save_pretrained(os.path.join(save_directory, storage.TOKENIZER))
        self.record.write(save_directory)
        write_card(os.path.join(save_directory, "README.md"), self)


def _share_base(first: RewardModel, other: RewardModel) -> None:
    """Let the second model keep the weights of the first wherever they are the base's."""
    base = dict(first.backbone.named_parameters())
    for name, parameter in other.backbone.named_parameters():
        if not parameter.requires_grad and "lora_" not in name and base[name].shape == parameter.shape:
            parameter.data = base[name].data
