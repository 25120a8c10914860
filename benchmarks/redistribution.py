"""What giving a reward to tokens costs: cycles of PPO with the score at the end and redistributed, in turn.

    python benchmarks/redistribution.py --data DATA [--out benchmarks/results/redistribution.json]

4 prompts of HH x 8 responses of 64 tokens a cycle, one step, bf16; policy, critic and reward model are the 39M
Llama-shaped model. One trainer whose reward changes sides from cycle to cycle, so that both share machine, weights and
prompts. The share is (seconds that rewards take, redistributed, minus those with the score at the end) over the seconds
of a cycle with the score at the end; its interval is a bootstrap over pairs of neighbouring cycles.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, in_bf16, keep, precision
from online_rl import PROMPTS, RESPONSES, TOKENS, Clock, prompts_of, rollout_arguments
from works import causal_39m

from assay.credit.answers import Answers, Rewards
from assay.credit.functions import by_model
from assay.credit.links import Link
from assay.credit.spreading import Redistributed
from assay.scorers import ModelOptions, PolicyOptions, create_policy, create_reward_model
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts
from assay.versions import current_versions
from assay.workflows import hardware

AIM, WARM, DRAWS = 0.05, 2, 10_000


class InTurn:
    """Rewards of the score at the end in even cycles, redistributed in odd ones; takes the time of both."""

    def __init__(self, sparse: Link, redistributed: Link) -> None:
        self.links, self.seconds = (sparse, redistributed), list[float]()

    def __call__(self, answers: Answers) -> Rewards:
        """Reward a cycle."""
        started = time.perf_counter()
        found = self.links[answers.cycle % 2](answers)
        self.seconds.append(time.perf_counter() - started)
        return found

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take nothing over."""


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--cycles", type=int, default=42, help="cycles, the first two of which are not counted")
    precision(parser)
    chosen = parser.parse_args()
    bf16 = in_bf16(chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        options, _ = causal_39m(Path(scratch) / "backbone")
        folder = str(options.backbone)
        shape = ModelOptions(backbone=folder, template="plain", dropout="none", max_length_tokens=512)
        model, critic = create_reward_model(shape), create_reward_model(shape)
        link = InTurn(by_model(model, "reward"), Redistributed("reward", model))
        clock = Clock()
        args = rollout_arguments(str(Path(scratch) / "run"), chosen.cycles, bf16)
        policy = create_policy(PolicyOptions(folder, template="plain", max_length_tokens=512))
        prompts = Prompts(prompts_of(chosen.data, folder))
        trainer = RolloutTrainer(Actor(policy, critic), args, prompts, link, ALGORITHMS["ppo"], callbacks=[clock])
        trainer.train()
    cycles = np.diff(np.array(clock.ends))[WARM - 1 :]
    scoring = np.array(link.seconds)[WARM:]
    pairs = len(cycles) // 2
    sparse, spread = scoring[: 2 * pairs : 2], scoring[1 : 2 * pairs : 2]
    whole = cycles[: 2 * pairs : 2]
    drawn = np.random.default_rng(0).integers(0, pairs, (DRAWS, pairs))
    shares = (spread[drawn] - sparse[drawn]).mean(axis=1) / whole[drawn].mean(axis=1)
    result = {
        "name": "redistribution causal-39m",
        "share": float((spread - sparse).mean() / whole.mean()),
        "ci95": [float(end) for end in np.quantile(shares, [0.025, 0.975])],
        "aim": AIM,
        "pairs_of_cycles": pairs,
        "seconds": {"a cycle": float(whole.mean()), "score at the end": float(sparse.mean())}
        | {"redistributed": float(spread.mean())},
        "work": {"prompts": PROMPTS, "responses": RESPONSES, "tokens": TOKENS},
        "precision": "bf16" if bf16 else "fp32",
        "hardware": hardware.describe(),
        "versions": current_versions(),
    }
    keep(result, chosen.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
