"""Shape of a reward model, as it is stored, and what a forward pass of one returns."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from torch import Tensor
from transformers import PretrainedConfig


class RewardModelConfig(PretrainedConfig):
    """Shape of a reward model; saved as ``config.json``.

    Attributes
    ----------
    base_model
        Name of the backbone it started from (Hub id, folder, or ``minilm``).
    layout
        ``"assay"``: bare backbone, pooling, head. ``"native"``: a transformers sequence classifier with one label.
    pooling
        ``"last"``, ``"mean"``, ``"cls"`` or ``"reply"``; unused in the native layout.
    separator_id
        Token id before the reply, for ``"reply"`` pooling and for ``segments``.
    segments
        Whether the backbone is told which tokens stand behind the separator (``token_type_ids``), as cross-encoders
        trained on two texts are.
    width
        Size of a text's pooled vector.
    causal
        Whether earlier states ignore later tokens.
    head, head_options, head_seed, members
        See `assay.scorers.heads`.
    levels
        Where the members are quantiles of a grade: P that it lies below each; else empty.
    adapter
        Whether the backbone carries LoRA weights; it is then stored as ``adapter/`` beside the name of its base.
    """

    model_type = "assay_reward_model"

    def __init__(
        self,
        base_model: str = "",
        layout: Literal["assay", "native"] = "assay",
        pooling: str = "last",
        separator_id: int | None = None,
        segments: bool = False,
        causal: bool = True,
        width: int = 0,
        head: str = "linear",
        head_options: dict[str, Any] | None = None,
        head_seed: int = 0,
        members: int = 1,
        levels: list[float] | None = None,
        adapter: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_model, self.layout, self.pooling, self.causal, self.width = base_model, layout, pooling, causal, width
        self.head, self.head_options, self.head_seed = head, dict(head_options or {}), head_seed
        self.members, self.levels, self.adapter = members, list(levels or []), adapter
        self.separator_id, self.segments = separator_id, segments


class Output(TypedDict):
    """What a forward pass returns.

    Attributes
    ----------
    margins
        ``[E]`` or ``[E, members]``.
    values
        Scores ``[N]`` or ``[N, members]``.
    states
        ``[N, d]``, of reward models.
    attributes
        ``[N, members, A]``, of heads that have them.
    penalty
        ``[]`` or ``[members]``, of heads whose own weights are to be kept apart.
    likelihoods
        Log-probability of each reply, ``[N]``, where it was asked for.
    reply_tokens
        Number of tokens of each reply, ``[N]``, of policies.
    prefixes
        Scores after each token of the replies, ``[T]`` or ``[T, members]``, and the number of tokens of each reply,
        int64 ``[N]``, where they were asked for.
    views
        States ``[N, d]`` of the texts under two draws of dropout, where they were asked for.
    """

    margins: Tensor
    values: Tensor
    states: NotRequired[Tensor]
    attributes: NotRequired[Tensor]
    penalty: NotRequired[Tensor]
    likelihoods: NotRequired[Tensor]
    reply_tokens: NotRequired[Tensor]
    prefixes: NotRequired[tuple[Tensor, Tensor]]
    views: NotRequired[tuple[Tensor, Tensor]]
