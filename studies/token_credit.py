"""Does redistributing the reward to tokens help a policy learn: R3HF against its controls.

Fixed before the run:
  * policy: stories260K, continuing openings of its own for 48 tokens. Two gold scorers, which no policy learns from:
    ``additive`` (glad words minus sad ones: credit of tokens can be exact) and ``joint`` (glad words, minus those said
    again, minus sad words behind glad ones: it depends on what stands before). Reward models: the same model with a
    linear head, all weights, 120 steps on about 1,000 preferences by gold over its own samples; with the loss at the
    end token, or averaged over tokens, which trains prefixes. 5 seeds.
  * arms: PPO with the score at the end (``sparse``), redistributed, sparse with the prefixes' scores added to the
    critic (``offset``: must match redistributed), sparse with a critic that begins as the reward model
    (``sparse_rm_critic``), uniform, attention and shuffled credit; RLOO with four responses, sparse and redistributed.
    32 responses a cycle, four steps, 30 cycles, beta 0.2 in the reward, no discount, lambda 0.95.
  * equal tuning: each arm has the learning rate out of 1e-4, 3e-4 and 1e-3 whose mean gold over all cycles is highest
    with the token-averaged reward model on seed 1000, which counts for nothing else, under each gold.
  * contrasts (gold, in standard deviations of the policy's samples at the start): redistributed against
    sparse_rm_critic, mean over all cycles (area under the curve; smallest effect 0.1), and at the end at equal
    divergence; rloo_redistributed against rloo. Steps to the last level of the best sparse arm (goal: half).
  * test: hierarchical bootstrap over seeds; cut: reward models of one size, one beta.

    python studies/token_credit.py --data DATA_FOLDER   # resumable
    python studies/token_credit.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from story_world import GOLDS, openings
from summary import RESULTS, read_cell
from token_credit_summary import write_token_credit
from token_credit_work import ARMS, reward_model, run_arm

SEEDS, RATES, TUNING = 5, (1e-4, 3e-4, 1e-3), 1000
AVERAGES = ("end", "tokens")
CELLS = [
    *(f"{gold}.tune.{arm}" for gold in GOLDS for arm in ARMS),
    *(f"{gold}.{average}.{seed}" for seed in range(SEEDS) for gold in GOLDS for average in AVERAGES),
]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Tune one arm, or train all arms with one seed."""
    name = str(data / "stories260K" / "hf")
    gold_name, kind, which = cell.split(".")
    gold = GOLDS[gold_name]
    if kind == "tune":
        model, *_ = reward_model(name, gold, TUNING, "tokens")
        prompts = openings(name, TUNING)
        curves = {rate: run_arm(name, ARMS[which], model, gold, prompts, TUNING, rate) for rate in RATES}
        return {"mean_gold": {f"{rate:g}": float(np.mean([row["gold"] for row in c])) for rate, c in curves.items()}}
    seed = int(which)
    model, accuracy, deviation = reward_model(name, gold, seed, kind)
    prompts = openings(name, seed)
    found = {
        arm: {
            "rate": rate_of(gold_name, arm),
            "curve": run_arm(name, given, model, gold, prompts, seed, rate_of(gold_name, arm)),
        }
        for arm, given in ARMS.items()
    }
    return {"accuracy": accuracy, "deviation": deviation, "arms": found}


def rate_of(gold: str, arm: str) -> float:
    """Return the learning rate that tuning chose for an arm."""
    tuned = read_cell(RESULTS / "token_credit_cells" / f"{gold}.tune.{arm}.json.gz")["mean_gold"]
    return float(max(tuned, key=lambda rate: tuned[rate]))


STUDY = Study("token_credit", __doc__ or "", CELLS, (), run_cell, data="stories260K", summarise=write_token_credit)

if __name__ == "__main__":
    conduct(STUDY)
