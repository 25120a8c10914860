"""A step of online RL: assay against TRL's GRPOTrainer and RLOOTrainer, on the same model, prompts and lengths.

    python benchmarks/online_rl.py --data DATA [--out benchmarks/results/online_rl.json]

4 prompts of HH x 8 responses of 64 tokens a step, one update, bf16, the reward a plain function. First the gate: on the
same responses and advantages the loss (GRPO) and the direction of the gradient (both) must agree. Then TRL's best
settings are looked for (batch size, continuous batching), and all sides take turns. `ratio` is the smaller of GRPO's
and RLOO's, in steps per second.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from harness import arguments, in_bf16, keep, precision
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from works import causal_39m, harmless

from assay.credit.functions import by_function
from assay.feedback.records import prompt_text
from assay.scorers import PolicyOptions, create_policy
from assay.training.actor import Actor
from assay.training.algorithms import ALGORITHMS
from assay.training.rollout_arguments import RolloutArguments
from assay.training.rollout_trainer import RolloutTrainer
from assay.training.rollouts import Prompts
from assay.versions import current_versions
from assay.workflows import hardware

PROMPTS, RESPONSES, TOKENS, RATE, LONGEST = 4, 8, 64, 1e-6, 400
LIMITS = {"grpo_loss": 1e-4, "grpo_gradient": 1e-4, "rloo_gradient": 1e-4}


def reward(completions: list[Any], **_: Any) -> list[float]:
    """Count a letter: nothing that takes time."""
    return [float(text.count("e")) + 0.001 * len(text) for text in completions]


class Clock(TrainerCallback):
    """Takes the time when a step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note it."""
        self.ends.append(time.perf_counter())

    def per_step(self) -> float:
        """Return seconds a step, without the first one."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def rollout_arguments(scratch: str, steps: int, bf16: bool) -> RolloutArguments:
    """Return one step of so many responses a cycle; nothing is written."""
    return RolloutArguments(
        output_dir=scratch,
        prompts_per_cycle=PROMPTS,
        responses=RESPONSES,
        max_new_tokens=TOKENS,
        max_steps=steps,
        learning_rate=RATE,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )


class Ours:
    """assay's online trainer."""

    def __init__(self, method: str, folder: str, prompts: list[str], bf16: bool) -> None:
        self.name, self.method, self.folder, self.prompts, self.bf16 = f"assay {method}", method, folder, prompts, bf16
        self.parts: dict[str, float] = {}

    def trainer(self, scratch: str, steps: int, callbacks: list[Any]) -> RolloutTrainer:
        """Make it."""
        policy = create_policy(PolicyOptions(self.folder, template="plain", max_length_tokens=512))
        args = rollout_arguments(scratch, steps, self.bf16)
        link = by_function(reward, "letters")
        return RolloutTrainer(
            Actor(policy), args, Prompts(self.prompts), link, ALGORITHMS[self.method], callbacks=callbacks
        )

    def run(self, steps: int) -> float:
        """Return seconds a step."""
        clock = Clock()
        with tempfile.TemporaryDirectory() as scratch:
            trainer = self.trainer(scratch, steps + 1, [clock])
            trainer.train()
        history = trainer.history()[1:]
        self.parts = {
            name: statistics.mean(entry[f"seconds {name}"] for entry in history)
            for name in ("writing", "scoring", "preparing", "updating")
        }
        return clock.per_step()


class TRL:
    """TRL's trainer of a method."""

    def __init__(
        self, method: str, folder: str, prompts: list[str], bf16: bool, batch_size: int = 32, continuous: bool = False
    ) -> None:
        self.method, self.folder, self.prompts, self.bf16 = method, folder, prompts, bf16
        self.batch_size, self.continuous = batch_size, continuous
        self.name = f"TRL {method}, {batch_size} responses a batch" + (", continuous batching" if continuous else "")
        self.parts: dict[str, float] = {}

    def trainer(self, scratch: str, steps: int, callbacks: list[Any]) -> Any:
        """Make it."""
        import trl

        config = {"grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig}[self.method]
        kind = {"grpo": trl.GRPOTrainer, "rloo": trl.RLOOTrainer}[self.method]
        more: dict[str, Any] = {"loss_type": "grpo"} if self.method == "grpo" else {}
        if self.continuous:
            more["use_transformers_continuous_batching"] = True
        args = config(
            output_dir=scratch,
            per_device_train_batch_size=self.batch_size,
            gradient_accumulation_steps=PROMPTS * RESPONSES // self.batch_size,
            num_generations=RESPONSES,
            max_completion_length=TOKENS,
            max_steps=steps,
            learning_rate=RATE,
            bf16=self.bf16,
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=10**6,
            optim="adamw_torch_fused",
            **more,
        )
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        data = Dataset.from_dict({"prompt": self.prompts})
        return kind(
            model=model,
            reward_funcs=reward,
            args=args,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(self.folder),
            callbacks=callbacks,
        )

    def run(self, steps: int) -> float:
        """Return seconds a step."""
        clock, spent = Clock(), [0.0]
        with tempfile.TemporaryDirectory() as scratch:
            trainer = self.trainer(scratch, steps + 1, [clock])
            plain = trainer._generate_and_score_completions

            def timed(inputs: Any) -> Any:
                started = time.perf_counter()
                found = plain(inputs)
                spent[0] += time.perf_counter() - started
                return found

            trainer._generate_and_score_completions = timed
            trainer.train()
        per_step = clock.per_step()
        self.parts = {"writing, scoring and preparing": spent[0] / (steps + 1)}
        return per_step


def gate(ours: Ours, peer: TRL) -> dict[str, float]:
    """Compare loss and gradient on the same responses and advantages, in float32."""
    with tempfile.TemporaryDirectory() as scratch:
        mine, theirs = ours.trainer(scratch, 2, []), peer.trainer(scratch, 2, [])
        algorithm = mine.algorithm
        mine.algorithm = replace(algorithm, average="sequences", kl=replace(algorithm.kl, coefficient=0.0))
        cycle = mine.collect(0)
        answers = cycle.answers
        width = int(answers.starts.max())
        pad = mine.policy.encoder.pad_id
        sides: dict[str, list[Any]] = {"prompt_ids": [], "prompt_mask": [], "completion_ids": [], "completion_mask": []}
        for row in range(len(answers)):
            begun, own = answers.sequences[row][: answers.starts[row]], answers.ids(row)
            fill = TOKENS - len(own)
            sides["prompt_ids"].append([pad] * (width - len(begun)) + begun.tolist())
            sides["prompt_mask"].append([0] * (width - len(begun)) + [1] * len(begun))
            sides["completion_ids"].append(own.tolist() + [pad] * fill)
            sides["completion_mask"].append([1] * len(own) + [0] * fill)
        inputs = {name: torch.tensor(values) for name, values in sides.items()}
        inputs["advantages"] = torch.tensor([cycle.of_tokens["advantages"][start] for start in answers.offsets[:-1]])
        inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
        said = mine.policy.said(answers.sequences, answers.starts)
        inputs["old_logps"] = torch.tensor([float(own.sum()) for own in said])
        theirs.model.zero_grad()
        theirs.current_gradient_accumulation_steps = 1
        expected = theirs._compute_loss(theirs.model, inputs)
        expected.backward()
        batches = cycle.batches(np.arange(len(answers)), mine.layout, 10**9, pad)
        found = sum(mine._loss(mine.model, batch) for batch in batches) / len(answers)
        found.backward()  # type: ignore[union-attr]
    gradients = [
        torch.cat([p.grad.double().flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None])
        for model in (mine.policy.language_model, theirs.model)
    ]
    told = {f"{ours.method}_gradient": 1 - float(torch.cosine_similarity(gradients[0], gradients[1], dim=0))}
    if ours.method == "grpo":
        told["grpo_loss"] = abs(float(found) - float(expected.detach()))
    if any(value > LIMITS[name] for name, value in told.items()):
        raise SystemExit(f"the sides do not compute the same, so nothing is measured: {told}")
    return told


def prompts_of(data: Path, folder: str) -> list[str]:
    """Return prompts of HH that are not too long."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = list(dict.fromkeys(prompt_text(row) for row in harmless(data)["prompt"]))
    return [text for text in texts if 8 <= len(tokenizer(text)["input_ids"]) <= LONGEST][:256]


def main() -> None:
    """Run it."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--steps", type=int, default=3, help="steps of a timed portion")
    precision(parser)
    chosen = parser.parse_args()
    bf16 = in_bf16(chosen.precision)
    with tempfile.TemporaryDirectory() as scratch:
        options, _ = causal_39m(Path(scratch) / "backbone")
        folder = options.backbone
        prompts = prompts_of(chosen.data, folder)
        equivalence: dict[str, float] = {}
        sides: dict[str, tuple[Ours, TRL]] = {}
        for method in ("grpo", "rloo"):
            equivalence |= gate(Ours(method, folder, prompts, False), TRL(method, folder, prompts, False))
            make: Callable[..., TRL] = lambda m=method, **more: TRL(m, folder, prompts, bf16, **more)  # noqa: E731
            peers = [make(), make(batch_size=8), *([make(continuous=True)] if torch.cuda.is_available() else [])]
            tried = {peer.name: peer.run(1) for peer in peers}
            print(f"equal: {equivalence}; seconds a step: {tried}", flush=True)
            sides[method] = (Ours(method, folder, prompts, bf16), min(peers, key=lambda peer: tried[peer.name]))
        seconds: dict[str, list[float]] = {side.name: [] for pair in sides.values() for side in pair}
        parts: dict[str, list[dict[str, float]]] = {name: [] for name in seconds}
        for _ in range(chosen.repeats):
            for pair in sides.values():
                for side in pair:
                    seconds[side.name].append(side.run(chosen.steps))
                    parts[side.name].append(side.parts)
            print({name: [round(value, 2) for value in many] for name, many in seconds.items()}, flush=True)
    ratios = {
        method: [b / a for a, b in zip(seconds[own.name], seconds[peer.name], strict=True)]
        for method, (own, peer) in sides.items()
    }
    least = min(ratios, key=lambda method: statistics.median(ratios[method]))
    own, peer = sides[least]
    result = {
        "name": "online_rl causal-39m",
        "ratio": statistics.median(ratios[least]),
        "ratio_min": min(ratios[least]),
        "ratio_max": max(ratios[least]),
        "ours": {"settings": own.name, "seconds_per_step": statistics.median(seconds[own.name])},
        "peer": {"settings": peer.name, "seconds_per_step": statistics.median(seconds[peer.name])},
        "unit": "steps per second",
        "equivalence": equivalence,
        "repeats": chosen.repeats,
        "hardware": hardware.describe(),
        "versions": current_versions(),
        "others": {method: statistics.median(many) for method, many in ratios.items()},
        "ranges": {method: [min(many), max(many)] for method, many in ratios.items()},
        "parts": {
            name: {part: statistics.median(one[part] for one in many) for part in many[0]}
            for name, many in parts.items()
        },
        "work": {"prompts": PROMPTS, "responses": RESPONSES, "tokens": TOKENS, "longest_prompt": LONGEST},
        "precision": "bf16" if bf16 else "fp32",
        "seconds": seconds,
    }
    keep(result, chosen.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
