"""The one scoring call and its projections: texts in, numbers out, the same in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from assay.errors import ModelError
from assay.scorers.attributes import AttributeHead
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, TokenIds
from assay.scorers.calibrated import CalibratedMixin
from assay.scorers.conversation import Encoded, Prompt, Reply, same_length, warn_truncated
from assay.scorers.encoding import mean_of_members
from assay.scorers.evaluating import evaluating
from assay.scorers.heads import Head
from assay.scorers.interface import Batch
from assay.scorers.prefixes import PrefixMixin
from assay.scorers.prototypes import PrototypeHead
from assay.scorers.spreading import SpreadMixin

if TYPE_CHECKING:
    from assay.scorers.reward_model import RewardModel


class ScoringMixin(CalibratedMixin, SpreadMixin, PrefixMixin):
    """Scoring methods of a reward model."""

    def score_conversations(
        self,
        encoded: Sequence[Encoded],
        prompts: Sequence[Prompt],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """Score conversations that were encoded before; see `score`."""
        ids, alone = [e.ids for e in encoded], self.prompt_ids(prompts)
        return mean_of_members(self.score_encoded(ids, alone, token_budget=token_budget, dtype=dtype))

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[TokenIds] | None:
        """Return the token ids of prompts alone where the head reads them, else None."""
        return [e.ids for e in self._model.encoder.encode_prompts(prompts)] if self._model.reads_prompts else None

    def attributes(
        self, prompts: Sequence[Prompt], responses: Sequence[Reply], *, token_budget: int = DEFAULT_TOKEN_BUDGET
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the attributes of responses, and what each counts for their prompts; float32 ``[n, A]`` each.

        In the order of the head's dimensions (``config.head_options``), standardised as in training; the score is the
        sum of their products.

        Raises
        ------
        ModelError
            If the head has no attributes.
        """
        model = self._model
        alone = self.prompt_ids(prompts)
        if alone is None:
            raise ModelError("this model has no attributes", remedy="train with --head attributes")
        same_length(prompts, responses)
        ids = [e.ids for e in model.encoder.encode(prompts, responses)]
        states = torch.from_numpy(self.features([*ids, *alone], token_budget=token_budget)).to(model.device)
        with evaluating(model):
            head = cast(AttributeHead, model.head)
            found, counts = head.attributes(states[: len(ids)]), head.weights(states[len(ids) :])
        return found.mean(dim=1).cpu().numpy(), counts.mean(dim=1).cpu().numpy()

    def explain(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Reply],
        *,
        top: int = 3,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> list[list[dict[str, Any]]]:
        """Return for each response the prototypes that weigh most in its score, the heaviest first.

        Each with its ``weight`` (all prototypes of a response add up to 1), its ``distance``, its ``class``, the
        ``score`` of its own vector, and the training responses ``nearest`` to it.

        Raises
        ------
        ModelError
            If the head has no prototypes.
        """
        same_length(prompts, responses)
        encoded = self._model.encoder.encode(prompts, responses)
        return self.explain_encoded([e.ids for e in encoded], top=top, token_budget=token_budget)

    def explain_encoded(
        self, ids: Sequence[TokenIds], *, top: int = 3, token_budget: int = DEFAULT_TOKEN_BUDGET
    ) -> list[list[dict[str, Any]]]:
        """Return the same for conversations that were encoded before."""
        model = self._model
        head, described = model.head, model.record.prototypes
        if not isinstance(head, PrototypeHead) or not described:
            raise ModelError(
                "this model has no prototypes to explain a score by",
                got=f"head {model.config.head}, {len(described)} prototypes",
                remedy="train with --head prototypes, or leave --explain out",
            )
        if not ids:
            return []
        states = torch.from_numpy(self.features(ids, token_budget=token_budget)).to(model.device)
        with evaluating(model):
            weights, distances = (part[:, 0].cpu() for part in head.weights_and_distances(states))
        heaviest = weights.topk(min(top, len(described)), dim=-1)
        return [
            [
                {"weight": weight, "distance": float(distances[row, slot]), **described[slot]}
                for weight, slot in zip(heaviest.values[row].tolist(), heaviest.indices[row].tolist(), strict=True)
            ]
            for row in range(len(ids))
        ]

    def score_text(
        self, texts: Sequence[str], *, token_budget: int = DEFAULT_TOKEN_BUDGET, dtype: torch.dtype | None = None
    ) -> np.ndarray:
        """Score text that is templated already: no template, no second leading token, end token only where missing.

        Returns float32 ``[n]``, equal to `score` on the conversations that the texts came from.
        """
        encoded = self._model.encoder.encode_text(texts)
        warn_truncated(encoded)
        return mean_of_members(self.score_encoded([e.ids for e in encoded], token_budget=token_budget, dtype=dtype))

    def score_encoded(
        self,
        ids: Sequence[TokenIds],
        prompts: Sequence[TokenIds] | None = None,
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
        native: bool = False,
    ) -> np.ndarray:
        """Score token ids; float32 ``[n]``, or ``[n, members]``. ``prompts``: as `prompt_ids` gives them.

        ``native``: what `EncodedRecords.margins` needs, where margins are more than differences of scores.
        """
        if prompts is not None:
            states = self.features([*ids, *prompts], token_budget=token_budget, dtype=dtype)
            at = np.arange(len(states)) % max(len(ids), 1) + len(ids)
            return self.score_features(states, at, native=native)[: len(ids)]
        values = self._model.map_batches(ids, self._evidence_of if native else self._values_of, token_budget, dtype)
        return values if values is not None else np.zeros(0, np.float32)

    def _evidence_of(self, batch: Batch) -> torch.Tensor:
        model = self._model
        native = isinstance(model.head, Head) and model.head.native
        return model.evidence(model.nodes(batch)) if native else self._values_of(batch)

    def _values_of(self, batch: Batch) -> torch.Tensor:
        model = self._model
        # what gathers sharded weights hangs on the call of the whole model
        return model(**batch)["values"] if model.sharded else model.values(model.nodes(batch))

    def score_features(
        self, features: np.ndarray, prompts: np.ndarray | None = None, *, native: bool = False
    ) -> np.ndarray:
        """Score pooled states that `features` gave before; float32 ``[n]``, or ``[n, members]``.

        ``prompts`` ``[n]``: which of them is the prompt alone of each, where the head reads it; ``native``: as for
        `score_encoded`.
        """
        model = self._model
        with evaluating(model):
            device = next((p.device for p in model.head.parameters()), model.device)
            at = None if prompts is None else torch.from_numpy(prompts).to(device)
            compute = model.evidence if native else model.values
            return compute(torch.from_numpy(features).to(device), at).float().cpu().numpy()

    def features(
        self,
        ids: Sequence[TokenIds],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """Return the pooled states below the head, float32 ``[n, d]``."""
        states = self._model.map_batches(ids, self._model.nodes, token_budget, dtype)
        return states if states is not None else np.zeros((0, self._model.config.width), np.float32)

    @property
    def _model(self) -> RewardModel:
        return cast("RewardModel", self)
