"""What `token_credit` works on: stories, two gold scorers, reward models of preferences over samples, and the arms."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.config import build
from assay.credit.answers import Answers
from assay.credit.functions import by_model
from assay.credit.links import Link
from assay.credit.spreading import ByAttention, Redistributed
from assay.feedback import comparison, from_rows
from assay.feedback.records import Edge, edge
from assay.feedback.splitting import split
from assay.scorers import PolicyOptions, RewardModel, create_policy, create_reward_model
from assay.scorers.loading import load_reward_model
from assay.scorers.sampling import Sampling, replies
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS, Algorithm, KlControl
from assay.training.rollout_arguments import RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts
from assay.workflows.data import Shares
from assay.workflows.fitting import fit
from assay.workflows.options import model_options, resolved
from assay.workflows.settings import TrainSettings

OPENING, STORY, PROMPTS, PAIRS = 12, 48, 256, 600
CYCLES, PER_CYCLE, BETA = 40, 32, 0.05
GLAD = frozenset(
    "happy glad smile smiled smiling fun love loved loves nice good play played laugh laughed hug kind".split()  # noqa: SIM905
)
SAD = frozenset(
    "sad cry cried scared afraid lost no not bad mad hurt angry sorry fell broke broken alone".split()  # noqa: SIM905
)
_WORD = re.compile(r"[a-z]+")


def additive(text: str) -> float:
    """Glad words minus sad ones: each word counts wherever it stands, so the credit of tokens can be exact."""
    return float(sum((word in GLAD) - (word in SAD) for word in _WORD.findall(text.lower())))


def joint(text: str) -> float:
    """1 where a sad word comes before a later glad one, -1 where the first comes after all glad ones, else 0."""
    marks = [1 if word in GLAD else -1 for word in _WORD.findall(text.lower()) if word in GLAD or word in SAD]
    if -1 not in marks:
        return 0.0
    return 1.0 if 1 in marks[marks.index(-1) :] else -1.0


GOLDS: dict[str, Callable[[str], float]] = {"additive": additive, "joint": joint}


@dataclass(frozen=True)
class Arm:
    """One way to learn.

    Attributes
    ----------
    algorithm
        Of `assay.training.algorithms.ALGORITHMS`.
    credit
        Makes the link of a reward model.
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


def openings(name: str, seed: int) -> list[str]:
    """Let the policy begin stories."""
    policy = create_policy(PolicyOptions(name, template="plain"))
    begun = replies(policy, [""] * (2 * PROMPTS), Sampling(1, OPENING), seed)
    texts = [own[0].text for own in begun if not own[0].ended and own[0].text.strip()]
    return list(dict.fromkeys(texts))[:PROMPTS]


def reward_model(name: str, gold: Callable[[str], float], seed: int, average: str) -> tuple[RewardModel, float]:
    """Train a reward model on preferences over samples, judged by gold; return it and its held-out accuracy."""
    policy = create_policy(PolicyOptions(name, template="plain"))
    prompts = openings(name, seed + 10_000)
    written = replies(policy, (prompts * 4)[:PAIRS], Sampling(2, STORY), seed + 1)
    rows = []
    for prompt, own in zip((prompts * 4)[:PAIRS], written, strict=True):
        scores = [gold(reply.text) for reply in own]
        if scores[0] == scores[1] or not all(reply.text.strip() for reply in own):
            continue
        verdict: list[Edge] = [edge(0, 1) if scores[0] > scores[1] else edge(1, 0)]
        rows.append(comparison(prompt, [reply.text for reply in own], verdict, split_group=prompt))
    train, held_out = split(from_rows(rows), test=0.2, seed=seed)
    given = {"data": "-", "out": "-", "seed": seed, "backbone": name, "template": "plain", "precision": "fp32"}
    given |= {"epochs": 6, "learning_rate": 1e-3, "patience": 2, "max_length_tokens": 96, "token_budget": 4096}
    settings = build(TrainSettings, given | {"objective": {"kind": "pairwise", "average": average}})
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    with tempfile.TemporaryDirectory() as scratch:
        result = fit(settings, Shares(train, held_out, None), Path(scratch), model)
    sides = [
        (row["prompt"][0]["content"], row["responses"][one["a"]], row["responses"][one["b"]])
        for row in held_out
        for one in row["edges"]
    ]
    asked = [side[0] for side in sides]
    margins = result.model.score(asked, [side[1] for side in sides]) - result.model.score(asked, [s[2] for s in sides])
    return result.model, float(np.mean(margins > 0))


def run_arm(
    name: str,
    arm: Arm,
    model: RewardModel,
    gold: Callable[[str], float],
    prompts: list[str],
    seed: int,
    rate: float,
) -> list[dict[str, Any]]:
    """Train by one arm; return its curve, a row per cycle."""
    usual = ALGORITHMS[arm.algorithm]
    algorithm: Algorithm = replace(usual, kl=KlControl("reward", BETA))
    torch.manual_seed(seed)
    policy = create_policy(PolicyOptions(name, template="plain", max_length_tokens=96))
    with tempfile.TemporaryDirectory() as scratch:
        critic = None
        if arm.critic == "reward":
            model.save_pretrained(Path(scratch) / "critic")
            critic = load_reward_model(str(Path(scratch) / "critic"))
        elif arm.critic == "policy":
            given = {"data": "-", "out": "-", "backbone": name, "template": "plain"}
            critic = create_reward_model(model_options(build(TrainSettings, given), seed))
        several = 4 if arm.critic is None else 1
        args = RolloutArguments(
            output_dir=scratch,
            prompts_per_cycle=PER_CYCLE // several,
            responses=several,
            max_new_tokens=STORY,
            inner_epochs=2,
            minibatches=2,
            max_steps=4 * CYCLES,
            learning_rate=rate,
            critic_learning_rate=1e-3,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=seed,
        )

        def watched(answers: Answers) -> list[float]:
            return [gold(text) for text in answers.texts]

        trainer = RolloutTrainer(
            Actor(policy, critic), args, Prompts(prompts), arm.credit(model, seed), algorithm, gold=watched
        )
        trainer.train()
    names = {
        "gold": "gold",
        "reward": "part: reward",
        "divergence": "divergence",
        "length": "length",
        "cut": "cut",
        "spread": "spread of advantages",
        "explained": "explained by the critic",
    }
    return [
        {short: round(float(entry[long]), 4) for short, long in names.items() if long in entry}
        for entry in trainer.history()
    ]
