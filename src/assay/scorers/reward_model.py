"""The reward model: a pretrained backbone, a pooling rule and a head, with everything that scoring needs."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from assay.errors import ModelError
from assay.scorers import provenance, storage
from assay.scorers.attributes import AttributeHead
from assay.scorers.conversation import ConversationEncoder
from assay.scorers.head_kinds import make_head
from assay.scorers.heads import Head
from assay.scorers.interface import Batch, Rows
from assay.scorers.laplace import Laplace
from assay.scorers.layout import plain_batch
from assay.scorers.model_shape import Output, RewardModelConfig
from assay.scorers.pooling import Pooling, pooled_width
from assay.scorers.preference import PreferenceHead
from assay.scorers.provenance import Provenance
from assay.scorers.reading import ReadingMixin
from assay.scorers.scoring import ScoringMixin
from assay.scorers.tokens import read_tokens, token_counts
from assay.scorers.vocabulary import VocabularyHead
from assay.versions import current_versions


class RewardModel(ScoringMixin, ReadingMixin, PreTrainedModel):
    """A scorer around a pretrained backbone; see `create_reward_model` to make one and `from_pretrained` to load one.

    Parameters
    ----------
    config
        Its shape.
    backbone
        The pretrained part: a bare transformer, a ``PeftModel`` around one, or (native layout) a sequence classifier.
    encoder
        Turns conversations into token ids.
    record
        What is stored beside the weights; None for a new model.
    """

    config_class = RewardModelConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self,
        config: RewardModelConfig,
        backbone: nn.Module,
        encoder: ConversationEncoder,
        record: Provenance | None = None,
    ) -> None:
        super().__init__(config)
        self.backbone: Any = backbone
        self.encoder = encoder
        self.record = record or Provenance(encoder.settings)
        self.head = _head_of(config)
        self.laplace: Laplace | None = None
        self.vocabulary: VocabularyHead | None = None
        self._no_split_modules = getattr(backbone, "_no_split_modules", None)

    def nodes(self, batch: Batch) -> Tensor:
        """Return one pooled state per text, ``[N, d]`` float32; features computed before are passed through."""
        return batch["features"] if "features" in batch else self.read(batch)

    def likelihoods(self, batch: Batch) -> Tensor:
        """Return the log-probability of each reply given its prompt, ``[N]`` float32, by the language model."""
        return self._states_and_likelihoods(batch)[1]

    def _states_and_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.vocabulary is None:
            raise ModelError(
                "this model was made without its vocabulary head, which log-probabilities of replies need",
                remedy="ModelOptions(vocabulary=True)",
            )
        found = self.read(batch, self.vocabulary.of(self.backbone))
        return found[:, :-1], found[:, -1]

    def _states_and_prefixes(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the states of the texts, and the scores after each token of their replies with their counts."""
        states, (before, counts) = self._read_prefixes(batch)
        whole = self.values(states)
        # what is scored before a token is the prefix without it: the first one is the prompt's, the last the text's
        ends = counts.cumsum(0)
        after = torch.cat([before[1:], whole[-1:]])
        after = after.index_copy(0, ends - 1, whole.to(after.dtype))
        return states, (after, counts)

    def _read_prefixes(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        def scored(found: Tensor, _: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
            return self.values(found.float()), ends.float()

        before, states = read_tokens(self, batch, scored)
        return states, (before, token_counts(batch))

    #: Whether log-probabilities of replies are needed to score at all.
    reads_replies = False

    @property
    def reads_prompts(self) -> bool:
        """Whether the head reads the state of the prompt alone, beside that of the text."""
        return "prompts" in self.head_reads

    @property
    def head_reads(self) -> frozenset[str]:
        """What the head is told of each text beside its state."""
        return self.head.reads if isinstance(self.head, Head) else frozenset()

    def values(
        self,
        states: Tensor,
        prompts: Tensor | None = None,
        owners: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Return raw scores, ``[N]``, or ``[N, members]`` where there are several.

        ``prompts`` ``[N]`` says which of the states is that of each text's prompt alone, for heads that read it; owners
        and classes are for training (see `assay.scorers.interface.Batch`).
        """
        told = {"owners": owners, "classes": classes}
        told = {name: given for name, given in told.items() if name in self.head_reads}
        # the head is tiny: full precision costs nothing and keeps the margins exact under autocast
        with torch.autocast(states.device.type, enabled=False):
            if self.reads_prompts:
                if prompts is None:
                    raise ModelError(
                        "this model weighs attributes by the prompt, and was not told where that ends",
                        remedy="score conversations (score, assay score), not text that is templated already",
                    )
                scores = self.head(states, states[prompts])
            else:
                scores = self.head(states, **told)
        return scores.squeeze(-1) if scores.shape[-1] == 1 else scores

    @property
    def is_uncertain(self) -> bool:
        """Whether scores come with a spread: there are several members, or a posterior of the last layer."""
        return self.config.members > 1 or self.laplace is not None

    def edge_margins(self, states: Tensor, edges: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return the margin of a over b, ``[E]`` or ``[E, members]``: score(a) - score(b), or the head's own."""
        if not isinstance(self.head, PreferenceHead):
            return _margins(self.values(states, prompts), edges)
        with torch.autocast(states.device.type, enabled=False):
            found = self.head.margins(states, edges, None if prompts is None else states[prompts])
        return found.squeeze(-1) if self.config.members == 1 else found

    def evidence(self, states: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Return per text what `EncodedRecords.margins` needs: scores, or what native margins are computed from."""
        if not isinstance(self.head, PreferenceHead):
            return self.values(states, prompts)
        with torch.autocast(states.device.type, enabled=False):
            return self.head.evidence(states, None if prompts is None else states[prompts])

    def forward(
        self,
        rows: list[Rows] | None = None,
        order: Tensor | None = None,
        features: Tensor | None = None,
        edges: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        views: int = 1,
        prompts: Tensor | None = None,
        owners: Tensor | None = None,
        classes: Tensor | None = None,
        likelihoods: bool = False,
        prefixes: bool = False,
    ) -> Output:
        """Score a batch; distributed wrappers need this one entry. Without ``edges`` the margins are empty.

        Texts come in ``rows`` with their ``order``, as ``features``, or plainly as ``input_ids``, padded on the right.
        With two ``views`` they are encoded twice; the first one is scored. With ``likelihoods`` the log-probabilities
        of replies are told too, with ``prefixes`` the scores after each of their tokens.
        """
        batch: Batch = {}
        if features is not None:
            batch["features"] = features
        elif rows is not None and order is not None:
            batch["rows"], batch["order"] = rows, order
        elif input_ids is not None:
            batch = plain_batch(input_ids, attention_mask)
        else:
            raise ValueError("a batch has rows with their order, or features, or input_ids")
        said = of_prefixes = None
        if prefixes:
            states, of_prefixes = self._states_and_prefixes(batch)
        elif likelihoods:
            states, said = self._states_and_likelihoods(batch)
        else:
            states = self.nodes(batch)
        values = self.values(states, prompts, owners, classes)
        if edges is None:
            edges = torch.zeros(0, 2, dtype=torch.long, device=values.device)
        native = isinstance(self.head, PreferenceHead)
        margins = self.edge_margins(states, edges, prompts) if native else _margins(values, edges)
        output: Output = {"margins": margins, "values": values, "states": states}
        if isinstance(self.head, AttributeHead):
            output["attributes"] = self.head.attributes(states)
        penalty = self.head.penalty() if isinstance(self.head, Head) else None
        if penalty is not None:
            output["penalty"] = penalty if self.config.members > 1 else penalty[0]
        if said is not None:
            output["likelihoods"] = said
        if of_prefixes is not None:
            output["prefixes"] = of_prefixes
        return output if views == 1 else {**output, "views": (states, self.nodes(batch))}

    def stamp(self, head: dict[str, Tensor] | None = None) -> None:
        """Recompute the fingerprints after training; ``head`` holds the gathered head where it is sharded."""
        self.record.fingerprint |= {
            "conversation": provenance.conversation_fingerprint(self.encoder),
            "head": provenance.weights_fingerprint(self.head_state() if head is None else head),
        }
        self.record.versions = current_versions()

    def select_members(self, kept: slice) -> None:
        """Keep some of several heads; with one the model gives one score per text.

        Raises
        ------
        IndexError
            If that would be none.
        """
        count = len(range(self.config.members)[kept])
        if count == 0:
            raise IndexError(f"members {kept.start} to {kept.stop} of {self.config.members}")
        if count < self.config.members:
            kept_state = {name: value[kept].clone() for name, value in self.head_state().items()}
            self.config.members = count
            self.laplace = None
            self.head = _head_of(self.config).to(next(iter(kept_state.values())).device)
            self.head.load_state_dict(kept_state)

    def head_state(self, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the head's weights by name, out of ``state`` (the whole model's) if given; empty if native."""
        if state is None:
            return self.head.state_dict()
        prefix = "head."
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    def merge_adapter(self) -> None:
        """Fold LoRA weights into the backbone; scores stay the same up to rounding."""
        if self.config.adapter:
            self.backbone = self.backbone.merge_and_unload()
            self.config.adapter = False
            self.record.fingerprint.pop("base", None)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save weights, head, tokenizer, and ``assay.json``, as one folder that `from_pretrained` reads.

        The backbone goes to ``backbone/`` (a plain transformers folder) or, with LoRA, to ``adapter/``; the head is
        always whole.
        """
        if is_main_process:
            storage.save(self, save_directory, state_dict)
            if push_to_hub:
                self.push_to_hub(kwargs["repo_id"])

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Load backbone (or adapter) and head from a folder that `save_pretrained` wrote, into this very model.

        Raises
        ------
        ModelError
            If a file or a weight is missing, or has another shape.
        """
        storage.load_weights(self, folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the folder that `save_pretrained` writes, with a model card; return its address.

        Raises
        ------
        ModelError
            If the Hub cannot be reached, or refuses.
        """
        return storage.upload(self, repo_id, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **kwargs: Any
    ) -> RewardModel:
        """Load a model that assay trained, or any sequence classifier with one label, from a folder or the Hub.

        Parameters
        ----------
        pretrained_model_name_or_path
            Folder, run folder that holds ``model/``, or Hub id.
        dtype
            Of the backbone's weights; scores are computed in float32 unless told otherwise.

        Raises
        ------
        ModelError
            If a part is missing, or template, tokenizer or head are no longer those of training.
        """
        from assay.scorers.loading import load_reward_model

        return load_reward_model(os.fspath(pretrained_model_name_or_path), dtype=dtype, **kwargs)


def _head_of(config: RewardModelConfig) -> nn.Module:
    if config.layout == "native" or config.head == "ensemble":  # whose members have heads of their own
        return nn.Identity()
    return make_head(
        config.head,
        config.width,
        members=config.members,
        seed=config.head_seed,
        plain=pooled_width(0, cast(Pooling, config.pooling)),
        options=config.head_options,
    )


def _margins(values: Tensor, edges: Tensor) -> Tensor:
    return values[edges[:, 0]] - values[edges[:, 1]]
