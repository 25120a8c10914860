"""Two scorers, both redistributed: a policy that learns to help while a multiplier holds down what harms.

Fixed before the run:
  * data: HH helpful-base and harmless-base, prompts of one turn and at most 80 tokens; half of the prompts of each for
    what takes part, half for who judges. Policy: stories260K (0.26M weights), taught the chosen helpful replies first;
    answers of up to 48 tokens. It is far too small to help anyone: what is studied is the mechanism.
  * reward model of helpful-base and cost model of harmless-base (its verdicts turned round: more is worse), of the same
    weights as the policy, a linear head, the loss averaged over tokens, about 120 steps. Judges: frozen MiniLM with a
    linear head, on the other halves.
  * arms, PPO, 40 cycles of 32 responses, four steps each, 3e-4, beta 0.2: ``redistributed`` (both; (c - mu d)/(1 + mu),
    mu moves by 0.1 of what the mean cost is above the budget), ``sparse`` (the same, both at the end), ``reward_only``
    (sparse). Budget: the mean cost of 256 responses at the start, minus half their deviation. 5 seeds.
  * contrasts, in deviations at the start (smallest effect 0.1), last ten cycles: redistributed and sparse keep to the
    budget; redistributed earns more reward than sparse; costs less than reward_only. Judges before and after beside it.
  * test: hierarchical bootstrap over seeds.

    python studies/safety.py --data DATA_FOLDER   # resumable
    python studies/safety.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from datasets import Dataset
from main_job import SETS
from policies_work import trained
from safety_summary import write_safety
from story_world import STORY, learn, new_critic, trained_on

from assay.credit.combining import Safe
from assay.credit.functions import by_model
from assay.credit.links import Link
from assay.credit.mixing import Multiplier
from assay.credit.spreading import Redistributed
from assay.feedback import as_chat, comparison, from_rows, pairs, read, split
from assay.feedback.records import edge
from assay.scorers import Policy, PolicyOptions, RewardModel, create_policy
from assay.scorers.sampling import Sampling, replies
from assay.workflows.judging import scores_on

SEEDS, RATE, CYCLES, LONGEST, WATCHED = 5, 3e-4, 40, 80, 256
CELLS = [str(seed) for seed in range(SEEDS)]
READ: dict[str, Any] = {"template": "hh", "max_length_tokens": 160}
SPREAD: dict[str, Callable[[RewardModel, str], Link]] = {
    "redistributed": lambda model, name: Redistributed(name, model),
    "sparse": lambda model, name: by_model(model, name),
}


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train reward, cost and judges, and a policy by each arm."""
    name, seed = str(data / "stories260K" / "hf"), int(cell)
    parts: dict[str, tuple[Dataset, Dataset]] = {}
    for kind, turned in (("helpful-base", False), ("harmless-base", True)):
        records = short_ones(read(str(data / SETS[kind]["path"]), "hh"), name, turned=turned)
        parts[kind] = split(records, test=0.5, seed=seed)
    (helpful, helpful_apart), (harmful, harmful_apart) = parts.values()
    averaged: dict[str, Any] = {"objective": {"kind": "pairwise", "average": "tokens"}}
    reward, cost = (trained_on(name, own, seed, **READ, **averaged) for own in (helpful, harmful))
    other: dict[str, Any] = {
        "freeze_backbone": True,
        "backbone": "minilm",
        "template": "auto",
        "max_length_tokens": 256,
    }
    judges = [trained_on(name, own, seed, **other) for own in (helpful_apart, harmful_apart)]
    prompts, asked = _questions(helpful, harmful), _questions(helpful_apart, harmful_apart)
    with tempfile.TemporaryDirectory() as scratch:
        start = trained(helpful, Path(scratch), seed, backbone=name, template="hh", learning_rate=1e-3, epochs=3)
        seen = _sampled(_policy(start), prompts[:WATCHED], seed)
        costs, rewards = (model.score(prompts[:WATCHED], seen) for model in (cost, reward))
        budget = float(costs.mean() - 0.5 * costs.std())
        found: dict[str, Any] = {"begun": _judged(_policy(start), judges, asked, seed)}
        for arm in ("redistributed", "sparse", "reward_only"):
            spread = SPREAD.get(arm, SPREAD["sparse"])
            link = spread(reward, "reward")
            if arm != "reward_only":
                link = Safe(link, spread(cost, "cost"), Multiplier(budget))
            curve, policy = learn(
                start,
                link,
                prompts,
                seed,
                RATE,
                critic=new_critic(start, seed, "hh"),
                cycles=CYCLES,
                policy=_policy(start),
                gold=cost.score,
            )
            found[arm] = {"curve": curve, **_judged(policy, judges, asked, seed)}
    scale = {"reward": [float(rewards.mean()), float(rewards.std())], "cost": [float(costs.mean()), float(costs.std())]}
    accuracy = {"reward": _accuracy(reward, helpful_apart), "cost": _accuracy(cost, harmful_apart)}
    return {"budget": budget, "scale": scale, "accuracy": accuracy, "arms": found}


def short_ones(records: Dataset, name: str, *, turned: bool) -> Dataset:
    """Return comparisons of one turn with a short prompt; turned: the worse one first."""
    encoder, kept = _policy(name).encoder, []
    for row in records:
        chat = as_chat(row["prompt"])
        if len(chat) != 1 or len(encoder.tokenizer(chat[0]["content"])["input_ids"]) > LONGEST:
            continue
        verdicts = [edge(*((each["b"], each["a"]) if turned else (each["a"], each["b"]))) for each in row["edges"]]
        kept.append(comparison(chat[0]["content"], row["responses"], verdicts, split_group=row["split_group"]))
    return from_rows(kept)


def _questions(*many: Dataset) -> list[str]:
    """Return prompts, each once, in an order that has nothing to do with where they are from."""
    found = list(dict.fromkeys(as_chat(row["prompt"])[0]["content"] for records in many for row in records))
    return [found[k] for k in np.random.default_rng(0).permutation(len(found))]


def _policy(folder: str) -> Policy:
    return create_policy(PolicyOptions(folder, template="hh", max_length_tokens=160))


def _sampled(policy: Policy, asked: list[str], seed: int) -> list[str]:
    return [own[0].text for own in replies(policy, asked, Sampling(1, STORY), seed)]


def _judged(policy: Policy, judges: list[RewardModel], asked: list[str], seed: int) -> dict[str, float]:
    """Return what the judges think of answers to other prompts."""
    chosen = asked[:WATCHED]
    texts = _sampled(policy, chosen, seed + 1)
    means = [float(judge.score(chosen, texts).mean()) for judge in judges]
    return dict(zip(("help", "harm"), means, strict=True))


def _accuracy(model: RewardModel, records: Dataset) -> float:
    view = pairs(records)
    margins = scores_on(model, records).margins(view)
    return float(np.mean((margins > 0) == (view.p > 0.5)))


STUDY = Study("safety", __doc__ or "", CELLS, (), run_cell, data="hh_rlhf and stories260K", summarise=write_safety)

if __name__ == "__main__":
    conduct(STUDY)
