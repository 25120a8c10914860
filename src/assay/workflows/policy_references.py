"""What a policy is compared with: loaded, asked before training where it stays as it is, or made to follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from assay.errors import ModelError
from assay.objectives.policy import clipped_references, harmonic_reference
from assay.scorers import AdapterOff, FrozenReference, Policy, PolicyOptions, backbones, create_policy
from assay.scorers.encoding import EncodedRecords
from assay.scorers.likelihood_cache import LikelihoodCache
from assay.scorers.policy import Reference
from assay.scorers.references import MixedReference, refuse_other_vocabulary
from assay.training.records import TrainingRecords
from assay.training.references import AveragedReference, ResetReference
from assay.workflows import hardware
from assay.workflows.options import policy_options
from assay.workflows.policy_settings import AlignSettings


@dataclass
class Compared:
    """The references of a policy.

    Attributes
    ----------
    settings
        Resolved.
    policy
        As it came, until it trains.
    first
        Another model that it is compared with; None: itself as it came, or nothing.
    others
        Further ones (MRPO).
    weights
        Of all of them, with sum 1, once they are known.
    """

    settings: AlignSettings
    policy: Policy
    first: Policy | None
    others: list[Policy]
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))

    def under(self, settings: AlignSettings) -> Compared:
        """Return the same under other settings."""
        return replace(self, settings=settings)

    def known_to(self, given: TrainingRecords) -> TrainingRecords:
        """Return the same with what references say that stay as they are; before training.

        Each response is asked about once, and what is said is kept on disk: while the policy trains no second model is
        at work. Weights of tokens (BMC) change with the policy, so references are then asked at every step.
        """
        settings = self.settings
        if settings.compared_with is None or settings.moving is not None or settings.edit_delta:
            return given
        said = [self._said_by(model, given.records) for model in (self.first or self.policy, *self.others)]
        if not self.others:
            return replace(given, reference=said[0])
        assert settings.mixture is not None
        owners = np.repeat(np.arange(len(given.texts)), given.texts)
        near = clipped_references(torch.from_numpy(np.stack(said)), torch.from_numpy(owners), settings.mixture.clip)
        return replace(given, reference=harmonic_reference(near, torch.from_numpy(self.weights).float()).numpy())

    def weigh(self, held_out: EncodedRecords) -> None:
        """Find the weights of several references from how far each tells the replies of held-out prompts apart.

        No verdict is looked at (MRPO takes the same from the pair that it trains on).
        """
        mixture = self.settings.mixture
        if mixture is None:
            return
        count = 1 + len(self.others)
        self.weights = np.full(count, 1 / count)
        if mixture.weights != "equal":
            said = [self._said_by(model, held_out) for model in (self.first or self.policy, *self.others)]
            apart = np.array([np.abs(held_out.margins(each)).mean() for each in said])
            self.weights = apart / apart.sum() if apart.sum() > 0 else self.weights
        if mixture.weights == "crossed":
            self.weights = self.weights[::-1].copy()
        self.policy.record.policy["mixture"]["weights"] = self.weights.tolist()

    def in_training(self) -> Reference | None:
        """Return what is asked at every step; None: nothing, or what is known."""
        moving = self.settings.moving
        if moving is not None:
            self.policy.to(hardware.best_device())
            if moving.kind == "average":
                return AveragedReference(self.policy, moving.factor, moving.every)
            return ResetReference(self.policy, moving.every)
        return self.for_scoring(self.policy) if self.settings.edit_delta else None

    def for_scoring(self, policy: Policy) -> Reference | None:
        """Return what a trained policy is compared with on texts that it has not met: what it was at first.

        Several references are then mixed as they are: what `clipped_references` does needs both replies of a prompt.
        """
        if self.settings.compared_with is None:
            return None
        if self.first is not None:
            one: Reference = FrozenReference(self.first)
        elif policy.config.adapter:
            one = AdapterOff(policy)
        else:
            one = FrozenReference(create_policy(policy_options(self.settings)))
        if not self.others:
            return one
        return MixedReference([one, *map(FrozenReference, self.others)], self.weights.tolist())

    def rest(self) -> None:
        """Make room for the policy where it trains."""
        for model in (self.first, *self.others):
            if model is not None:
                model.to("cpu")

    def _said_by(self, model: Policy, records: EncodedRecords) -> np.ndarray:
        settings = self.settings
        model.to(hardware.best_device())
        dtype = torch.bfloat16 if settings.precision == "bf16" else None
        return LikelihoodCache(model, dtype=dtype, token_budget=settings.token_budget).of(records)


def compared(settings: AlignSettings, policy: Policy) -> Compared:
    """Load the references of a policy, where they are other models than itself as it came; its record names them.

    Raises
    ------
    ModelError
        If one has other tokens, or reads shorter texts than the policy.
    """
    record, name = policy.record, settings.compared_with
    first = None
    record.policy["reference"] = name
    if name not in (None, "start"):
        first = _other(settings, policy, str(name))
        record.policy["reference"] = first.record.policy["base"]
        record.fingerprint["reference"] = first.record.fingerprint["base"]
    others: list[Policy] = []
    if settings.mixture is not None:
        others = [_other(settings, policy, each) for each in settings.mixture.others]
        record.policy["mixture"] = {"others": [each.record.policy["base"] for each in others]}
        for number, each in enumerate(others):
            record.fingerprint[f"reference {number + 2}"] = each.record.fingerprint["base"]
    return Compared(settings, policy, first, others)


def _other(settings: AlignSettings, policy: Policy, name: str) -> Policy:
    found = create_policy(PolicyOptions(name, attention=settings.attention))
    refuse_other_vocabulary(policy, found, name)
    longest, limit = policy.encoder.settings.max_length_tokens, backbones.window(found.whole.config)
    if limit is not None and longest > limit:
        raise ModelError(
            "the reference reads shorter texts than the policy",
            where=name,
            expected=f"at most {limit} tokens",
            got=str(longest),
            remedy=f"--max-length-tokens {limit}",
        )
    return found
