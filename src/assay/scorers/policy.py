"""A policy as a scorer: a response is worth what training made it more probable than a reference does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from assay.errors import ModelError
from assay.objectives.policy import log_odds
from assay.scorers import provenance
from assay.scorers.adapters import load_adapter_weights
from assay.scorers.backbones import load_stored_weights
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, TokenIds
from assay.scorers.calibrated import CalibratedMixin
from assay.scorers.conversation import (
    ConversationEncoder,
    Encoded,
    Prompt,
)
from assay.scorers.evaluating import evaluating
from assay.scorers.interface import Batch, Rows
from assay.scorers.model_shape import Output
from assay.scorers.provenance import Provenance
from assay.scorers.reading import ReadingMixin
from assay.scorers.storage import upload
from assay.scorers.token_weights import TokenWeights
from assay.scorers.tokens import read_tokens, token_counts
from assay.scorers.vocabulary import LogitShape, LogProbabilities, by_chunks
from assay.versions import current_versions

#: What a score is made of, beside beta: see `Policy`.
Form = Literal["sum", "mean", "odds"]


class Reference(Protocol):
    """What a policy is compared with."""

    @property
    def models(self) -> list[Policy]:
        """Other models that read the same rows as the policy."""
        ...

    def log_probabilities(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return the log-probability of each reply, ``[N]`` float32, without gradient; its tokens as weighed."""
        ...


class PolicyConfig(PretrainedConfig):
    """Shape of a policy as a scorer.

    Attributes
    ----------
    beta
        Scale > 0 of its scores.
    form
        See `Policy`.
    adapter
        Whether the language model carries LoRA weights.
    """

    model_type = "assay_policy"

    def __init__(self, beta: float = 0.1, form: Form = "sum", adapter: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta, self.form, self.adapter = beta, form, adapter
        # how states are read (see `assay.scorers.calling`): at the last token, of which nothing is used
        self.layout, self.causal, self.pooling, self.segments, self.separator_id = "assay", True, "last", False, None
        self.members = 1


class Policy(CalibratedMixin, ReadingMixin, PreTrainedModel):
    r"""Implicit scorer of a causal language model (Rafailov et al. 2023, eq. 5).

    With :math:`\rho = \log\pi(y|x) - \log\pi_{ref}(y|x)`, summed over the tokens of the reply and of what ends it,
    and T their number, the score is

    * ``form="sum"``: :math:`\beta\rho` (DPO, IPO, MMPO); without a reference :math:`\beta\log\pi`;
    * ``form="mean"``: :math:`\beta\rho/T`; without a reference that of SimPO (Meng et al. 2024);
    * ``form="odds"``: :math:`\beta\log\frac{P}{1-P}` with :math:`P = \exp(\log\pi / T)` (ORPO); no reference.

    It is trained by the same trainer and kernel as a reward model. A state is (log pi, log pi_ref, T).

    Parameters
    ----------
    config
        Its shape.
    language_model
        A causal language model with its vocabulary head, or a ``PeftModel`` around one.
    encoder
        Turns conversations into token ids.
    shape
        What stands above the products of states and output vectors (`assay.scorers.vocabulary.logit_shape`).
    record
        What is stored beside the weights; None for a new one.

    Raises
    ------
    ModelError
        If beta is not above 0.
    """

    config_class = PolicyConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    #: What heads are told, of which a policy has none.
    head_reads: frozenset[str] = frozenset()
    reads_prompts = False
    #: Log-probabilities of replies are needed, so batches must say where replies begin.
    reads_replies = True
    is_uncertain = False
    #: How much more tokens count at most that tell a reply from the other one, in batches that mark them (BMC).
    edit_delta = 0.0

    def __init__(
        self,
        config: PolicyConfig,
        language_model: nn.Module,
        encoder: ConversationEncoder,
        shape: LogitShape,
        record: Provenance | None = None,
    ) -> None:
        super().__init__(config)
        if not config.beta > 0:
            raise ModelError("beta must be above 0", expected="a number above 0, such as 0.1", got=str(config.beta))
        self.language_model: Any = language_model
        self.encoder, self.shape = encoder, shape
        self.record = record or Provenance(encoder.settings)
        self.reference: Reference | None = None
        self._no_split_modules = getattr(language_model, "_no_split_modules", None)

    @property
    def whole(self) -> Any:
        """The language model, out of the wrapper that adds adapters."""
        model = self.language_model
        return model.get_base_model() if self.config.adapter else model

    @property
    def backbone(self) -> Any:
        """What gives the states that the vocabulary head reads."""
        return self.whole.base_model

    @property
    def shares_prefixes(self) -> bool:
        """Whether texts with a common beginning may share a row, for the policy and what it is compared with."""
        others = [] if self.reference is None else self.reference.models
        return super().shares_prefixes and all(other.shares_prefixes for other in others)

    @property
    def compares(self) -> bool:
        """Whether scores look at a reference, where there is one."""
        return bool(self.config.form != "odds")

    def of_tokens(self) -> LogProbabilities:
        """Return what gives log-probabilities ``[T]`` of tokens ``[T]`` after states ``[T, d]``."""
        last = self.whole.get_output_embeddings()
        return by_chunks(_in_its_dtype(last), self.shape, last.out_features)

    def likelihoods(self, batch: Batch, weights: TokenWeights | None = None) -> Tensor:
        """Return the log-probability of each reply given its prompt, ``[N]`` float32; its tokens as weighed."""
        each = self.of_tokens()
        return self.read(batch, each if weights is None else weights.on(each))[:, -1]

    def token_log_probabilities(self, batch: Batch) -> Tensor:
        """Return the log-probability of each token of the replies, ``[T]`` float32, reply after reply."""
        each = self.of_tokens()
        return read_tokens(self, batch, lambda states, tokens, ends: (each(states, tokens), ends[:, :0]))[0]

    def said(
        self,
        ids: Sequence[TokenIds],
        starts: np.ndarray,
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> list[np.ndarray]:
        """Return the log-probability of each token of replies that begin at ``starts``, float32 ``[T]`` each."""

        def each(states: Tensor, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
            return self.of_tokens()(states, tokens), ends[:, :0]

        return [tokens for tokens, _ in self.map_tokens(ids, each, token_budget, dtype, starts)]

    def nodes(self, batch: Batch) -> Tensor:
        """Return the state of each response, ``[N, 3]`` float32: log pi, log pi_ref, and the number of tokens."""
        weights = None
        if self.edit_delta and batch["rows"] and "edited" in batch["rows"][0]:
            weights = TokenWeights([rows["edited"] for rows in batch["rows"]], self.edit_delta)
        said = self.likelihoods(batch, weights)
        if "reference" in batch:
            reference = batch["reference"].to(said.dtype)
        elif self.reference is not None and self.compares:
            reference = self.reference.log_probabilities(batch, weights).to(said.dtype)
        else:
            reference = torch.zeros_like(said)
        return torch.stack([said, reference, token_counts(batch).clamp_min(1).to(said.dtype)], dim=1)

    def values(self, states: Tensor, *_: Any) -> Tensor:
        """Return scores ``[N]`` of states ``[N, 3]``."""
        said, reference, tokens = states.unbind(dim=1)
        if self.config.form == "odds":
            return self.config.beta * log_odds(said / tokens)
        ratio = self.config.beta * (said - reference)
        return ratio if self.config.form == "sum" else ratio / tokens

    def edge_margins(self, states: Tensor, edges: Tensor, *_: Any) -> Tensor:
        """Return the margin of a over b, ``[E]``."""
        a, b = self.values(states)[edges].unbind(dim=1)
        return a - b

    def forward(
        self,
        rows: list[Rows] | None = None,
        order: Tensor | None = None,
        edges: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> Output:
        """Score a batch; distributed wrappers need this one entry. Without ``edges`` the margins are empty.

        ``reference`` ``[N]``: log-probabilities of the replies that were computed before.
        """
        if rows is None or order is None:
            raise ValueError("a batch of a policy has rows with their order")
        batch: Batch = {"rows": rows, "order": order}
        if reference is not None:
            batch["reference"] = reference
        states = self.nodes(batch)
        values = self.values(states)
        if edges is None:
            edges = torch.zeros(0, 2, dtype=torch.long, device=values.device)
        a, b = values[edges].unbind(dim=1)
        output: Output = {"margins": a - b, "values": values, "likelihoods": states[:, 0], "reply_tokens": states[:, 2]}
        return output

    def score_conversations(
        self,
        encoded: Sequence[Encoded],
        prompts: Sequence[Prompt],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """Score conversations that were encoded before; see `score`."""
        starts = np.array([e.prompt_tokens for e in encoded], np.int64)
        self.refuse_empty(starts, np.array([len(e.ids) for e in encoded], np.int64))
        found = self.features([e.ids for e in encoded], starts, token_budget=token_budget, dtype=dtype)
        return self.score_features(found)

    def refuse_empty(self, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Refuse replies without a token where scores are means over tokens.

        Raises
        ------
        ModelError
            Saying how many there are.
        """
        empty = int((starts >= lengths).sum())
        if empty and self.config.form != "sum":
            raise ModelError(
                "a reply of no token has no mean over its tokens",
                expected="replies with a token, if only that which ends them",
                got=f"{empty} of {len(lengths)} replies without",
                remedy="give conversations an end token (--end-token), or leave these replies out",
            )

    def features(
        self,
        ids: Sequence[TokenIds],
        starts: np.ndarray,
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """Return the states of token ids whose replies begin at ``starts``, float32 ``[n, 3]``."""
        found = self.map_batches(ids, self.nodes, token_budget, dtype, starts)
        return np.zeros((0, 3), np.float32) if found is None else found

    def score_features(self, features: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        """Score states ``[n, 3]`` that `features` gave before; float32 ``[n]``."""
        with evaluating(self):
            return np.asarray(self.values(torch.from_numpy(features)).float().numpy())

    def stamp(self) -> None:
        """Recompute what the folder says of the model."""
        self.record.fingerprint["conversation"] = provenance.conversation_fingerprint(self.encoder)
        self.record.policy |= {"beta": self.config.beta, "form": self.config.form}
        self.record.versions = current_versions()

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Load the language model (or its adapter) from a folder that `save_pretrained` wrote, into this very model.

        Raises
        ------
        ModelError
            If a file or a weight is missing, or has another shape.
        """
        if self.config.adapter:
            load_adapter_weights(self.language_model, os.fspath(folder))
        else:
            load_stored_weights(self.language_model, os.fspath(folder))

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save a plain transformers folder (with LoRA: one of its adapter), the tokenizer, and ``assay.json``."""
        if not is_main_process:
            return
        prefix = f"{self.base_model_prefix}."
        inner = None
        if state_dict is not None:
            inner = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        # embeddings belong to the base, which never changes under an adapter
        options = {"save_embedding_layers": False} if self.config.adapter else {}
        self.language_model.save_pretrained(save_directory, state_dict=inner, **options)
        self.encoder.tokenizer.save_pretrained(save_directory)
        self.stamp()
        self.record.write(save_directory)
        if push_to_hub:
            upload(self, kwargs["repo_id"], private=kwargs.get("private", False), token=kwargs.get("token"))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **kwargs: Any
    ) -> Policy:
        """Load a policy that assay trained; see `assay.scorers.load_policy`."""
        from assay.scorers.policy_loading import load_policy

        return load_policy(os.fspath(pretrained_model_name_or_path), dtype, **kwargs)


def _in_its_dtype(last: Any) -> Any:
    """Return what gives products with the output vectors, in the dtype that they are kept in or that autocast asks for.

    Autocast would turn vectors that do not learn anew for every few tokens.
    """
    device = last.weight.device.type
    if type(last) is nn.Linear and torch.is_autocast_enabled(device) and not torch.is_grad_enabled():
        dtype = torch.get_autocast_dtype(device)
        weight, bias = last.weight.to(dtype), None if last.bias is None else last.bias.to(dtype)
        return lambda states: nn.functional.linear(states.to(dtype), weight, bias)
    return lambda states: last(states.to(last.weight.dtype))
