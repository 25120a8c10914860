"""References that follow the policy: what they are after some steps, and after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from assay.errors import ConfigError
from assay.scorers import LoraOptions
from assay.scorers.encoding import score_records
from assay.scorers.policy import Policy
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.references import AveragedReference, ResetReference
from assay.training.schedule import StopAfter
from tests.scorers.test_policy import shaken
from tests.training.support import arguments, planted
from tests.training.test_policy import policy_of, records_of

KINDS: dict[str, Callable[[Policy], Any]] = {
    "averaged": lambda policy: AveragedReference(policy, 0.5, every=3),
    "reset": lambda policy: ResetReference(policy, every=5),
}


def trainer_of(folder: Path, out: Path, kind: str, lora: LoraOptions | None = None) -> PreferenceTrainer:
    policy = policy_of(folder, lora=lora)
    policy.reference = KINDS[kind](policy)
    args = arguments(out, learning_rate=3e-3, save_strategy="steps", save_steps=5)
    return PreferenceTrainer(policy, args, records_of(policy, planted(72)), objective=PairwiseObjective())


def scores(policy: Policy) -> np.ndarray:
    return score_records(policy, records_of(policy, planted(6)).records)


def test_an_average_of_the_policy(tiny_causal: Path) -> None:
    for factor, moved in ((1.0, False), (0.0, True)):
        policy = policy_of(tiny_causal)
        reference = policy.reference = AveragedReference(policy, factor, every=2)
        shaken(policy)
        before = scores(policy)
        reference.after_step(policy, None, 1)
        assert np.array_equal(scores(policy), before), "the copy waits for its time"
        reference.after_step(policy, None, 2)
        assert np.array_equal(scores(policy), before * 0 if moved else before)
    policy = policy_of(tiny_causal)
    first = policy.language_model.lm_head.weight.detach().clone()
    reference = AveragedReference(policy, 0.5, every=2)
    shaken(policy)
    now = policy.language_model.lm_head.weight.detach()
    for step in (1, 2):
        reference.after_step(policy, None, step)
    found = reference.current.model.language_model.lm_head.weight
    torch.testing.assert_close(found, 0.25 * first + 0.75 * now)


def test_a_reset_ends_all_divergence_and_forgets_the_moments(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal, lora=LoraOptions(rank=2))
    reference = policy.reference = ResetReference(policy, every=2)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    shaken(policy)
    data = records_of(policy, planted(4))
    from tests.training.test_policy import loss_and_gradients

    loss, _ = loss_and_gradients(policy, data, PairwiseObjective())
    optimizer.step()
    assert abs(loss - np.log(2)) > 1e-3 and len(optimizer.state) > 0
    reference.after_step(policy, optimizer, 1)
    assert len(optimizer.state) > 0
    reference.after_step(policy, optimizer, 2)
    assert len(optimizer.state) == 0
    # the copy has its adapter folded in, so nothing but rounding is left
    assert np.abs(scores(policy)).max() < 1e-4
    assert loss_and_gradients(policy, data, PairwiseObjective())[0] == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_run_goes_on_with_the_reference_that_it_had(tiny_causal: Path, tmp_path: Path, kind: str) -> None:
    whole = trainer_of(tiny_causal, tmp_path / "whole", kind)
    whole.train()
    assert whole.state.global_step > 6
    first = trainer_of(tiny_causal, tmp_path / "parts", kind)
    first.add_callback(StopAfter(5))
    first.train()
    second = trainer_of(tiny_causal, tmp_path / "parts", kind)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == whole.state.global_step
    one, two = (cast(Policy, trainer.model) for trainer in (second, whole))
    for (name, own), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(own, other), name
    assert np.array_equal(scores(one), scores(two)) and np.abs(scores(one)).max() > 0


def test_what_cannot_follow_is_refused(tiny_causal: Path) -> None:
    policy = policy_of(tiny_causal)
    for wrong in (lambda: AveragedReference(policy, 1.5), lambda: AveragedReference(policy, 0.5, every=0)):
        with pytest.raises(ConfigError, match="a moving average needs"):
            wrong()
    with pytest.raises(ConfigError, match="a number of steps"):
        ResetReference(policy, 0)
    with pytest.raises(ConfigError, match="no average of the models"):
        AveragedReference(policy_of(tiny_causal, lora=LoraOptions(rank=2)))
