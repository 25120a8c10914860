"""The arms of `token_credit`: what each token of a response is rewarded with, and by which algorithm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from story_world import by_text, learn, new_critic, openings, sampled_pairs, trained_on

from assay.credit.functions import by_model
from assay.credit.links import Link
from assay.credit.spreading import ByAttention, Redistributed
from assay.feedback.splitting import split
from assay.scorers import RewardModel
from assay.scorers.loading import load_reward_model

PAIRS = 2000


@dataclass(frozen=True)
class Arm:
    """One way to learn.

    Attributes
    ----------
    algorithm
        Of `assay.training.algorithms.ALGORITHMS`.
    credit
        Makes the link of a reward model and a seed.
    critic
        ``policy``: a critic that begins as the policy; ``reward``: as the reward model; None: there is none.
    """

    algorithm: str
    credit: Callable[[RewardModel, int], Link]
    critic: str | None = "policy"


def _redistributed(**options: Any) -> Callable[[RewardModel, int], Link]:
    return lambda model, _: Redistributed("reward", model, **options)


ARMS: dict[str, Arm] = {
    "sparse": Arm("ppo", lambda model, _: by_model(model, "reward")),
    "redistributed": Arm("ppo", _redistributed()),
    "offset": Arm("ppo", _redistributed(as_offset=True)),
    "sparse_rm_critic": Arm("ppo", lambda model, _: by_model(model, "reward"), "reward"),
    "uniform": Arm("ppo", _redistributed(even=True)),
    "attention": Arm("ppo", lambda model, _: ByAttention("reward", model)),
    "shuffled": Arm("ppo", lambda model, seed: Redistributed("reward", model, shuffle=seed)),
    "rloo": Arm("rloo", lambda model, _: by_model(model, "reward"), None),
    "rloo_redistributed": Arm("rloo", _redistributed(), None),
}


def reward_model(name: str, gold: Callable[[str], float], seed: int, average: str) -> tuple[RewardModel, float, float]:
    """Train a reward model on preferences over samples; return it, its held-out accuracy, and gold's deviation."""
    prompts = openings(name, seed + 10_000)
    drawn = sampled_pairs(name, gold, prompts, PAIRS, seed + 1)
    train, held_out = split(drawn.records(), test=0.2, seed=seed)
    model = trained_on(name, train, seed, objective={"kind": "pairwise", "average": average})
    kept_apart = set(held_out["split_group"])
    tested = drawn.those([prompt in kept_apart for prompt in drawn.prompts])
    return model, tested.accuracy(model.score), float(drawn.gold.std())


def run_arm(
    name: str, arm: Arm, model: RewardModel, gold: Callable[[str], float], prompts: list[str], seed: int, rate: float
) -> list[dict[str, Any]]:
    """Train by one arm; return its curve, a row per cycle."""
    critic = None
    if arm.critic == "policy":
        critic = new_critic(name, seed)
    elif arm.critic == "reward":
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(Path(scratch) / "critic")
            critic = load_reward_model(str(Path(scratch) / "critic"))
    several = 4 if arm.critic is None else 1
    credit, watched = arm.credit(model, seed), by_text(gold)
    return learn(
        name, credit, prompts, seed, rate, algorithm=arm.algorithm, critic=critic, gold=watched, several=several
    )[0]
