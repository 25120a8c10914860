"""Does the loop work: each algorithm with an oracle reward on a task whose answers can be checked.

Fixed before the run:
  * task: write four letters of eight in reverse; 1,536 of all 4,096 words are asked in training, 512 others are kept
    apart. A Llama of 0.1M weights is trained from scratch on 1,024 more words by a careless teacher, who in three of
    five cases forgot to reverse, until it samples 30 % of right answers to a part of the training prompts.
  * reward: 1 for the right answer, 0 else, by the project's own verifier. 64 prompts x 8 responses a cycle, two
    minibatches, learning rate 1e-3, no divergence from the reference, at most 300 cycles; every 20 another 256 words
    are answered greedily, and a run ends at 99 % of these.
  * aim: from at most 50 % to at least 95 % greedy accuracy on the kept prompts, 5 of 5 seeds, every algorithm.

    python studies/verifiable.py             # resumable; needs no data
    python studies/verifiable.py --summary   # the table from the committed cells only
"""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Study, conduct
from policies_work import trained
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from verifiable_summary import write_verifiable

from assay.credit.functions import by_function
from assay.feedback import comparison, from_rows
from assay.feedback.records import Grade
from assay.scorers import PolicyOptions, create_policy
from assay.scorers.sampling import Sampling, replies
from assay.scorers.verifiers import Verifier
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS, KlControl
from assay.training.rollout_arguments import RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts

SEEDS, CYCLES, EVERY, ENOUGH, BEGIN = 5, 300, 20, 0.99, 0.3
LETTERS, LENGTH, CARELESS = "abcdefgh", 4, 0.6
CELLS = [f"{name}.{seed}" for seed in range(SEEDS) for name in ALGORITHMS]


def words(seed: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Divide all words: shown as examples, asked in training, kept apart, watched."""
    every = ["".join(own) for own in itertools.product(LETTERS, repeat=LENGTH)]
    order = np.random.default_rng(seed).permutation(len(every))
    chosen = [every[int(k)] for k in order]
    return chosen[:1024], chosen[1024:2560], chosen[2560:3072], chosen[3072:3328]


def begun(examples: list[str], asked: list[str], seed: int, scratch: Path) -> tuple[str, float]:
    """Train a policy from scratch until it is right now and then; return its folder, and how often."""
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    place = scratch / "scratch"
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    good: list[list[Grade]] = [[{"dimension": "right", "value": 1.0}]]
    random = np.random.default_rng(seed)
    answers = [word if random.random() < CARELESS else word[::-1] for word in examples]
    pairs = zip(examples, answers, strict=True)
    data = from_rows([comparison(word, [answer], grades=good, split_group=word) for word, answer in pairs])
    name, found = str(place), 0.0
    for turn in range(20):
        name = trained(data, scratch / f"begun-{turn}", seed, backbone=name, learning_rate=2e-3, epochs=10)
        found = accuracy(name, asked[:256], 1.0)
        if found >= BEGIN:
            break
    return name, found


def _tokenizer() -> PreTrainedTokenizerFast:
    marks = ["<pad>", "<s>", "</s>", "<sep>"]
    core = Tokenizer(models.WordLevel({token: k for k, token in enumerate([*marks, *LETTERS])}, unk_token="<pad>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token="<sep>"
    )


def accuracy(name: str, asked: list[str], temperature: float = 0.0) -> float:
    """Answer (greedily); return the share of right answers."""
    policy = create_policy(PolicyOptions(name, template="pair"))
    said = replies(policy, asked, Sampling(1, LENGTH + 1, temperature), 0)
    return float(np.mean([own[0].text.strip() == word[::-1] for own, word in zip(said, asked, strict=True)]))


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train by one algorithm with one seed."""
    name, number = cell.split(".")
    seed = int(number)
    examples, asked, kept, watched = words(seed)
    with tempfile.TemporaryDirectory() as scratch:
        start, _share = begun(examples, asked, seed, Path(scratch))
        before = accuracy(start, kept)
        # without a divergence; GPO's beta, of log-ratios to the policy that wrote, is in units of this reward
        algorithm = replace(ALGORITHMS[name], kl=KlControl("reward", 0.0))
        algorithm = replace(algorithm, beta=1.0) if name == "gpo" else algorithm
        args = RolloutArguments(
            output_dir=str(Path(scratch) / "rl"),
            prompts_per_cycle=64,
            responses=8,
            max_new_tokens=LENGTH + 1,
            minibatches=2,
            max_steps=2 * CYCLES,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            evaluate_every=EVERY,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=seed,
        )
        policy = create_policy(PolicyOptions(start, template="pair"))
        torch.manual_seed(seed)
        trainer = RolloutTrainer(
            Actor(policy, shared=algorithm.needs_critic),
            args,
            _prompts(asked),
            by_function(Verifier("exact"), "right"),
            algorithm,
            held_out=_prompts(watched),
        )
        looked, curve = trainer.look, []

        def look() -> dict[str, float]:
            told = looked()
            curve.append(told["held-out reward"])
            trainer.control.should_training_stop = told["held-out reward"] >= ENOUGH
            return told

        trainer.look = look  # type: ignore[method-assign]
        started = time.time()
        trainer.train()
        seconds = round(time.time() - started, 1)
        policy.save_pretrained(Path(scratch) / "end")
        after = accuracy(str(Path(scratch) / "end"), kept)
    return {"before": before, "after": after, "curve": curve, "every": EVERY, "seconds": seconds}


def _prompts(asked: list[str]) -> Prompts:
    return Prompts(asked, {"ground_truth": [word[::-1] for word in asked]})


STUDY = Study("verifiable", __doc__ or "", CELLS, (), run_cell, summarise=write_verifiable)

if __name__ == "__main__":
    conduct(STUDY)
