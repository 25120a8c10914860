"""Does the reward model of fewer labels make the better policy: Proto-RM against Bradley-Terry, by PPO and best of n.

Fixed before the run:
  * policy: stories260K, continuing openings of its own for 48 tokens. Gold, which nothing learns from: ``additive`` and
    ``joint`` of `story_world`. Judgements: some 1,500 by gold over the policy's own samples; the reward models see 5,
    10 and 20 % of them, each fraction within the next.
  * reward models: the same model, all weights, in about 120 steps or ten passes; ``bt`` (linear head) and
    ``prototypes`` (Proto-RM by its defaults). 5 seeds: labels, weights and prompts differ.
  * policies: PPO with the whole score at the end of a response, brought to deviation 1 (`Standard`), 30 cycles of 32
    responses, four steps each, 3e-4, beta 0.2; a critic that begins as the policy. Best of n = 2, 4, 8, 16 over all
    subsets of 16 responses to each of 64 other openings, whose divergence is log n - (n - 1) / n for either.
  * contrasts, gold in standard deviations over the policy's samples at the start (smallest effect 0.1), within each
    gold and fraction: prototypes against bt, PPO at equal divergence, best of 16, and the reward models' accuracy on
    500 other pairs.
  * test: hierarchical bootstrap over seeds. Cut: one size of model, one beta, two golds.

    python studies/better_reward.py --data DATA_FOLDER   # resumable
    python studies/better_reward.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from better_reward_summary import write_better_reward
from common import Study, conduct
from story_world import GOLDS, STORY, by_text, learn, new_critic, openings, sampled_pairs, story_policy, trained_on

from assay.credit.functions import by_model
from assay.credit.links import Standard
from assay.evaluation.policies import best_of
from assay.scorers import RewardModel
from assay.scorers.sampling import Sampling, replies

SEEDS, FRACTIONS, RATE = 5, (0.05, 0.1, 0.2), 3e-4
LABELS, OTHER_PAIRS, OTHER_PROMPTS, MOST = 2400, 800, 64, 16
HEADS: dict[str, dict[str, Any]] = {"bt": {}, "prototypes": {"head": {"kind": "prototypes"}}}
CELLS = [f"{gold}.{seed}" for seed in range(SEEDS) for gold in GOLDS]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all reward models of one gold and seed, and a policy on each."""
    name, (gold_name, number) = str(data / "stories260K" / "hf"), cell.split(".")
    gold, seed = GOLDS[gold_name], int(number)
    labelled = sampled_pairs(name, gold, openings(name, seed + 10_000), LABELS, seed + 1)
    others = openings(name, seed + 20_000)
    tested = sampled_pairs(name, gold, others, OTHER_PAIRS, seed + 2)
    asked, prompts = others[:OTHER_PROMPTS], openings(name, seed)
    written = replies(story_policy(name), asked, Sampling(MOST, STORY), seed + 3)
    texts = [reply.text for own in written for reply in own]
    wanted = np.array([gold(text) for text in texts]).reshape(len(asked), MOST)
    order = np.random.default_rng(seed).permutation(len(labelled))
    runs = []
    for fraction in FRACTIONS:
        rows = np.sort(order[: round(fraction * len(labelled))])
        few = labelled.those([k in set(rows.tolist()) for k in range(len(labelled))])
        for head, options in HEADS.items():
            model = trained_on(name, few.records(), seed, **options)
            link, critic = by_model(model, "reward", Standard()), new_critic(name, seed)
            curve, _ = learn(name, link, prompts, seed, RATE, critic=critic, gold=by_text(gold))
            chosen = _best_of(model, asked, texts, wanted)
            runs.append(
                {"fraction": fraction, "head": head, "labels": len(few), "accuracy": tested.accuracy(model.score)}
                | {"curve": curve, "best_of": chosen}
            )
    return {"runs": runs, "deviation": float(wanted.std()), "start": float(wanted.mean())}


def _best_of(model: RewardModel, asked: list[str], texts: list[str], gold: np.ndarray) -> dict[str, float]:
    """Return mean gold of the best of n by a reward model."""
    found = model.score([prompt for prompt in asked for _ in range(MOST)], texts).reshape(gold.shape)
    return {str(point["n"]): float(point["gold"].value) for point in best_of(found, gold, (2, 4, 8, MOST))}


STUDY = Study("better_reward", __doc__ or "", CELLS, (), run_cell, data="stories260K", summarise=write_better_reward)

if __name__ == "__main__":
    conduct(STUDY)
