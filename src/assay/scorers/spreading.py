"""Scores with how sure the model is of them, where it has several members or a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from assay.errors import ModelError
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, TokenIds
from assay.scorers.conversation import Prompt, Reply, same_length, warn_truncated
from assay.scorers.evaluating import evaluating
from assay.scorers.heads import Head
from assay.scorers.uncertainty import Spread, spread_of_members, spread_of_quantiles

if TYPE_CHECKING:
    from assay.scorers.reward_model import RewardModel


class SpreadMixin:
    """Methods of a reward model that tell how sure it is."""

    def uncertainty(
        self, prompts: Sequence[Prompt], responses: Sequence[Reply], *, token_budget: int = DEFAULT_TOKEN_BUDGET
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and their standard deviations, float32 ``[n]`` each; needs members or ``--laplace``.

        A score is uncertain against those of other responses to the same prompt, where they are given, else against
        training responses: its zero has no meaning.

        Raises
        ------
        ModelError
            If the model has one head and no posterior.
        """
        same_length(prompts, responses)
        scores, spread = self._with_spread(prompts, responses, token_budget)
        names = np.array([str(prompt) for prompt in prompts])
        deviations = spread.against(names, self.usual_spread()).deviations()
        return scores, deviations.astype(np.float32)

    def margin_uncertainty(
        self,
        prompts: Sequence[Prompt],
        a: Sequence[Reply],
        b: Sequence[Reply],
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return margins of a over b and their standard deviations, float32 ``[n]`` each; as `uncertainty`."""
        same_length(prompts, a, b)
        scores, spread = self._with_spread([*prompts, *prompts], [*a, *b], token_budget)
        first = np.arange(len(a))
        deviations = spread.of_margins(first, first + len(a))
        return scores[: len(a)] - scores[len(a) :], deviations.astype(np.float32)

    def _with_spread(
        self, prompts: Sequence[Prompt], responses: Sequence[Reply], token_budget: int
    ) -> tuple[np.ndarray, Spread]:
        if not self._owner.is_uncertain:
            raise ModelError(
                "this model does not tell how sure it is",
                expected="several members, or a posterior of the last layer",
                got="one head",
                remedy="train with --ensemble.members 5, or --laplace",
            )
        encoded = self._owner.encoder.encode(prompts, responses)
        warn_truncated(encoded)
        ids, alone = [e.ids for e in encoded], self._owner.prompt_ids(prompts)
        return self.spread_encoded(ids, alone, token_budget=token_budget)

    def spread_encoded(
        self,
        ids: Sequence[TokenIds],
        prompts: Sequence[TokenIds] | None = None,
        *,
        token_budget: int = DEFAULT_TOKEN_BUDGET,
    ) -> tuple[np.ndarray, Spread]:
        """Return scores ``[n]`` and their spread (`assay.scorers.uncertainty`) of token ids."""
        if self._owner.laplace is None:
            values = self._owner.score_encoded(ids, prompts, token_budget=token_budget)
            return values.mean(axis=1), self._spread_of(values)
        return self.spread_features(self._owner.features(ids, token_budget=token_budget))

    def spread_features(self, features: np.ndarray, prompts: np.ndarray | None = None) -> tuple[np.ndarray, Spread]:
        """Return the same of pooled states; as `score_features`."""
        model = self._owner
        values = self._owner.score_features(features, prompts)
        if model.laplace is None:
            return values.mean(axis=1), self._spread_of(values)
        with evaluating(model):
            device = next((p.device for p in model.head.parameters()), model.device)
            basis = cast(Head, model.head).basis(torch.from_numpy(features).to(device))
        assert basis is not None  # a posterior is fitted to such heads only
        return values, Spread(model.laplace.spread(basis[:, 0].cpu().numpy()))

    def _spread_of(self, values: np.ndarray) -> Spread:
        levels = self._owner.config.levels
        return spread_of_quantiles(values, levels) if levels else spread_of_members(values)

    def usual_spread(self) -> np.ndarray | None:
        """Return the spread vector of training texts on average, ``[S]``; None where it was not stored."""
        if self._owner.laplace is not None:
            return self._owner.laplace.reference()
        means = (self._owner.record.score or {}).get("members")
        return None if means is None else spread_of_members(np.asarray(means)[None]).vectors[0]

    @property
    def _owner(self) -> RewardModel:
        return cast("RewardModel", self)
