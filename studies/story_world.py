"""A small world to learn in online: stories, gold scorers nothing learns from, reward models of preferences."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from assay.config import build
from assay.credit.answers import Answers
from assay.credit.links import Link
from assay.feedback import comparison, from_rows
from assay.feedback.records import Edge, edge
from assay.scorers import Policy, PolicyOptions, RewardModel, create_policy, create_reward_model
from assay.scorers.sampling import Sampling, replies
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS, Algorithm, KlControl
from assay.training.rollout_arguments import RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts
from assay.workflows.data import Shares
from assay.workflows.fitting import fit
from assay.workflows.options import epochs_within, model_options, resolved
from assay.workflows.settings import TrainSettings

OPENING, STORY, PROMPTS = 12, 48, 256
CYCLES, PER_CYCLE, BETA = 30, 32, 0.2
GLAD = frozenset(
    "happy glad smile smiled smiling fun love loved loves nice good play played laugh laughed hug kind".split()  # noqa: SIM905
)
SAD = frozenset(
    "sad cry cried scared afraid lost no not bad mad hurt angry sorry fell broke broken alone".split()  # noqa: SIM905
)
_WORD = re.compile(r"[a-z]+")
_SHOWN = {
    "gold": "gold",
    "part: reward": "reward",
    "divergence": "divergence",
    "length": "length",
    "cut": "cut",
    "spread of advantages": "spread",
    "explained by the critic": "explained",
    "part: cost": "cost",
    "part: multiplier": "multiplier",
}


def additive(text: str) -> float:
    """Glad words minus sad ones: each word counts wherever it stands, so the credit of tokens can be exact."""
    return float(sum((word in GLAD) - (word in SAD) for word in _WORD.findall(text.lower())))


def joint(text: str) -> float:
    """Glad words, minus those said again, minus sad words after a glad one: each depends on what came before it."""
    found, seen = 0, set[str]()
    for word in _WORD.findall(text.lower()):
        if word in GLAD:
            found += -1 if word in seen else 1
            seen.add(word)
        elif word in SAD and seen:
            found -= 1
    return float(found)


GOLDS: dict[str, Callable[[str], float]] = {"additive": additive, "joint": joint}


def by_text(gold: Callable[[str], float]) -> Callable[[list[str], list[str]], list[float]]:
    """Let a gold scorer of one text score prompts and texts."""
    return lambda _, texts: [gold(text) for text in texts]


@dataclass(frozen=True)
class Pairs:
    """Responses in twos, with their prompts.

    Attributes
    ----------
    prompts
        Of each pair.
    texts
        Both responses of each.
    gold
        What a gold scorer says of both, float64 ``[n, 2]``.
    """

    prompts: list[str]
    texts: list[tuple[str, str]]
    gold: np.ndarray

    def __len__(self) -> int:
        return len(self.prompts)

    def records(self) -> Dataset:
        """Return them as comparisons, the one that gold prefers the better."""
        verdicts: list[list[Edge]] = [[edge(0, 1) if a > b else edge(1, 0)] for a, b in self.gold]
        return from_rows(
            comparison(prompt, list(both), verdict, split_group=prompt)
            for prompt, both, verdict in zip(self.prompts, self.texts, verdicts, strict=True)
        )

    def those(self, kept: list[bool]) -> Pairs:
        """Return some of them."""
        rows = np.flatnonzero(kept)
        return Pairs([self.prompts[row] for row in rows], [self.texts[row] for row in rows], self.gold[rows])

    def accuracy(self, score: Callable[[list[str], list[str]], np.ndarray]) -> float:
        """Say how often a scorer of prompts and responses prefers what gold prefers."""
        one, other = zip(*self.texts, strict=True)
        margins = score(self.prompts, list(one)) - score(self.prompts, list(other))
        return float(np.mean((margins > 0) == (self.gold[:, 0] > self.gold[:, 1])))


def story_policy(name: str, **options: Any) -> Policy:
    """Return the policy that all begin with."""
    return create_policy(PolicyOptions(name, template="plain", **options))


def openings(name: str, seed: int, count: int = PROMPTS) -> list[str]:
    """Let the policy begin stories."""
    begun = replies(story_policy(name), [""] * (2 * count), Sampling(1, OPENING), seed)
    texts = [own[0].text for own in begun if not own[0].ended and own[0].text.strip()]
    return list(dict.fromkeys(texts))[:count]


def sampled_pairs(
    name: str, gold: Callable[[str], float], prompts: list[str], count: int, seed: int, policy: Policy | None = None
) -> Pairs:
    """Let a policy (None: the one that all begin with) continue prompts twice; leave out what gold finds equal."""
    asked = (prompts * (count // len(prompts) + 1))[:count]
    kept: list[tuple[str, tuple[str, str], tuple[float, float]]] = []
    writer = policy or story_policy(name)
    for prompt, own in zip(asked, replies(writer, asked, Sampling(2, STORY), seed), strict=True):
        one, other = own[0].text, own[1].text
        scores = gold(one), gold(other)
        if scores[0] != scores[1] and one.strip() and other.strip():
            kept.append((prompt, (one, other), scores))
    return Pairs([row[0] for row in kept], [row[1] for row in kept], np.array([row[2] for row in kept]))


def trained_on(name: str, records: Dataset, seed: int, steps: int = 120, **options: Any) -> RewardModel:
    """Train a reward model, all weights, on comparisons, in about so many steps; nothing is held out."""
    given = {"data": "-", "out": "-", "seed": seed, "backbone": name, "template": "plain", "precision": "fp32"}
    given |= {"max_length_tokens": 96, "token_budget": 4096, "epochs": 30}
    given |= {} if options.get("freeze_backbone") else {"learning_rate": 1e-3}
    settings = build(TrainSettings, given | options)
    settings = settings.model_copy(update={"epochs": epochs_within(settings, len(records), steps)})
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    with tempfile.TemporaryDirectory() as scratch:
        return fit(settings, Shares(records, None, None), Path(scratch), model).model


def new_critic(name: str, seed: int, template: str = "plain") -> RewardModel:
    """Return a critic that begins as the policy, with a new head."""
    given = {"data": "-", "out": "-", "backbone": name, "template": template}
    return create_reward_model(model_options(build(TrainSettings, given), seed))


def _arguments(scratch: str, seed: int, rate: float, several: int, cycles: int) -> RolloutArguments:
    """Return cycles of four steps; nothing is written."""
    return RolloutArguments(
        output_dir=scratch,
        prompts_per_cycle=PER_CYCLE // several,
        responses=several,
        max_new_tokens=STORY,
        inner_epochs=2,
        minibatches=2,
        max_steps=4 * cycles,
        learning_rate=rate,
        critic_learning_rate=1e-3,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=seed,
    )


def learn(
    name: str,
    rewards: Link,
    prompts: list[str],
    seed: int,
    rate: float,
    *,
    algorithm: str = "ppo",
    critic: RewardModel | None = None,
    gold: Callable[[list[Any], list[str]], Any] | None = None,
    several: int = 1,
    cycles: int = CYCLES,
    policy: Policy | None = None,
) -> tuple[list[dict[str, Any]], Policy]:
    """Train a policy online; return its curve, a row per cycle, and the policy.

    Parameters
    ----------
    name
        Folder of the story policy.
    rewards
        A chain of credit.
    prompts
        What it answers.
    seed, rate
        Of the run; the critic learns at 1e-3.
    algorithm
        Of `ALGORITHMS`; beta `BETA` in the reward.
    critic
        Where the algorithm needs one.
    gold
        Scores prompts and texts to be watched.
    several
        Responses to each prompt; `PER_CYCLE` responses a cycle.
    cycles
        Of four steps.
    policy
        Another one than the story policy.
    """
    chosen: Algorithm = replace(ALGORITHMS[algorithm], kl=KlControl("reward", BETA))
    torch.manual_seed(seed)
    policy = policy or story_policy(name, max_length_tokens=96)
    with tempfile.TemporaryDirectory() as scratch:
        args = _arguments(scratch, seed, rate, several, cycles)

        def watched(answers: Answers) -> Any:
            assert gold is not None
            return gold(answers.prompts, answers.texts)

        actor = Actor(policy, critic)
        trainer = RolloutTrainer(actor, args, Prompts(prompts), rewards, chosen, gold=None if gold is None else watched)
        trainer.train()
    curve = [
        {short: round(float(entry[long]), 4) for long, short in _SHOWN.items() if long in entry}
        for entry in trainer.history()
    ]
    return curve, policy
