"""The online trainer: a ``transformers.Trainer`` whose policy writes what it learns from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from assay.credit.answers import Answers, Rewards
from assay.credit.links import Link
from assay.objectives.surrogates import (
    clipped_surrogate,
    divergence,
    log_ratio_regression,
    over_tokens,
    sequence_log_ratio,
    value_loss,
)
from assay.scorers.policy import Policy
from assay.scorers.references import AdapterOff, FrozenReference
from assay.scorers.sampling import Sampling, Writer, by_generate
from assay.training.actor import Actor
from assay.training.algorithms import Algorithm
from assay.training.monitors import Monitor, mean_of_known, parts_of
from assay.training.planned import PlannedTrainer, TrainingError
from assay.training.references import ResetReference, load_reference, save_reference
from assay.training.rollout_arguments import RolloutArguments, check_rollout_arguments, check_together
from assay.training.rollouts import Cycle, HalfCopy, Prompts, advantages_of, strength_of, that_teach, written

_STATE = "rollouts.json"


class _Steps(Dataset[dict[str, int]]):
    """Step numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> dict[str, int]:
        return {"step": step}


class _EndCycle(TrainerCallback):
    """Ends a cycle when its last step is taken, and not before."""

    def __init__(self) -> None:
        self.trainer: RolloutTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        cycles, rest = divmod(state.global_step, args.steps_per_cycle)
        if rest == 0:
            self.trainer.finish_cycle(cycles - 1)


class RolloutTrainer(PlannedTrainer):
    """Train a policy on rewards of what it writes.

    Parameters
    ----------
    actor
        The policy, with a critic where the algorithm needs one.
    args
        See `RolloutArguments`.
    prompts
        What it answers.
    rewards
        A chain of credit (`assay.credit.links`).
    algorithm
        See `assay.training.algorithms`.
    gold
        Scores responses ``[n]`` to be watched and never learned from; None: nobody does.
    held_out
        Prompts that are answered greedily now and then, and rewarded; None: none.
    writer
        The engine that writes while the policy learns; held-out prompts are answered through ``generate``.
    callbacks
        Passed to `transformers.Trainer`.

    Raises
    ------
    ConfigError
        If algorithm, critic and arguments do not fit together.
    """

    def __init__(
        self,
        actor: Actor,
        args: RolloutArguments,
        prompts: Prompts,
        rewards: Link,
        algorithm: Algorithm,
        *,
        gold: Callable[[Answers], Any] | None = None,
        held_out: Prompts | None = None,
        writer: Writer = by_generate,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        args, self.cycles = check_rollout_arguments(args, len(prompts))
        check_together(actor, args, algorithm)
        self.prompts, self.held_out, self.writer = prompts, held_out, writer
        self.rewards, self.algorithm, self.gold = rewards, algorithm, gold
        actor.policy.shape = replace(actor.policy.shape, temperature=args.temperature)
        actor.to(args.device)
        self.layout = actor.layout
        policy = actor.policy
        policy.reference = None
        if algorithm.kl.coefficient > 0 or algorithm.kl.target is not None or algorithm.reset_after is not None:
            if algorithm.reset_after is not None:
                policy.reference = ResetReference(policy, None)
            else:
                policy.reference = AdapterOff(policy) if policy.config.adapter else FrozenReference.of(policy)
        self.coefficient = algorithm.kl.coefficient
        self.best, self.since_best = -np.inf, 0
        self.monitor = Monitor()
        self.looked: tuple[Answers, Rewards] | None = None
        self._cycle: Cycle | None = None
        self._parts: list[np.ndarray] = []
        self._pending: dict[str, float] = {}
        end = _EndCycle()
        super().__init__(actor, args, _Steps(args.max_steps), self._digest(args), [end, *(callbacks or [])])
        end.trainer = self
        half = args.bf16 and not policy.config.adapter and policy.dtype == torch.float32
        self._writing: Any = HalfCopy(policy) if half else contextlib.nullcontext()

    @property
    def policy(self) -> Policy:
        """What learns."""
        return cast(Actor, self.model).policy

    def _digest(self, args: RolloutArguments) -> str:
        told = [self.algorithm, args.prompts_per_cycle, args.responses, args.max_new_tokens, args.temperature]
        told += [args.inner_epochs, args.minibatches, args.seed, self.prompts.asked]
        told += [{name: list(cells) for name, cells in sorted(self.prompts.columns.items())}]
        return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def held_at(self, step: int) -> str:
        """Name the cycle of a step."""
        return (
            f"cycle {(step - 1) // self.args.steps_per_cycle + 1}, responses to {self.args.prompts_per_cycle} prompts"
        )

    def rate_of(self, name: str) -> float:
        """Give the critic its own learning rate."""
        own = self.args.critic_learning_rate
        return float(
            own if own is not None and name.startswith(("critic.", "value_head.")) else self.args.learning_rate
        )

    @property
    def _dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None

    def asked_in(self, cycle: int) -> np.ndarray:
        """Return the prompts of a cycle, int64: each is asked once before any is asked again."""
        count, wanted = len(self.prompts), self.args.prompts_per_cycle
        place = np.arange(cycle * wanted, (cycle + 1) * wanted)
        rounds = {
            int(r): np.random.default_rng((self.args.seed, int(r))).permutation(count) for r in set(place // count)
        }
        return np.array([rounds[int(p // count)][p % count] for p in place], np.int64)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Write and score at the beginning of a cycle; learn from a part of it; return the loss."""
        step, args = int(inputs["step"]), self.args
        number, part = divmod(step, args.steps_per_cycle)
        if part == 0:
            self._cycle = self.collect(number)
        assert self._cycle is not None
        if part % args.minibatches == 0:
            self._parts = self._cycle.minibatches(args.minibatches, args.seed + step)
        rows = self._parts[part % args.minibatches]
        started = time.perf_counter()
        model.train()
        batches = self._cycle.batches(rows, self.layout, args.token_budget, self.policy.encoder.pad_id)
        divisor = float(len(rows) if self.algorithm.average != "tokens" else self._cycle.answers.lengths[rows].sum())
        loss = self.accumulate(model, batches, lambda batch: self._loss(model, batch) / max(divisor, 1.0))
        self.monitor.add("seconds updating", time.perf_counter() - started)
        return loss

    def collect(self, number: int) -> Cycle:
        """Let the policy write, score what it wrote, and work out advantages."""
        args, algorithm = self.args, self.algorithm
        asked = self.prompts.chosen(self.asked_in(number))
        how = Sampling(args.responses, args.max_new_tokens, args.temperature, token_budget=args.generation_token_budget)
        seed = args.seed + 1_000_003 * (number + 1)
        started = time.perf_counter()
        with self._writing, _eager():
            answers = written(self.policy, asked.asked, asked.columns, how, seed, number, self.writer)
        self.monitor.add("seconds writing", time.perf_counter() - started)
        started = time.perf_counter()
        rewards = self.rewards(answers)
        kept, dropped = that_teach(algorithm, answers, rewards)
        if not rewards.known(answers).any():
            raise TrainingError(
                "no response has a reward",
                where=f"cycle {number + 1}",
                expected="a number for some of them at least",
                got=f"{len(answers)} responses without",
                remedy="look at the reward model, function or server; --resume goes on from the last checkpoint",
            )
        self.monitor.add("seconds scoring", time.perf_counter() - started)
        started = time.perf_counter()
        with _eager():
            of_tokens = self._of_tokens(answers)
        final = np.nan_to_num(rewards.tokens)
        if algorithm.kl.kind == "reward" and "reference" in of_tokens and self.coefficient:
            final = final - self.coefficient * (of_tokens["old"] - of_tokens["reference"])
        values, offset = of_tokens.get("former"), rewards.critic_offset
        if values is not None and offset is not None:
            values = values + np.nan_to_num(offset)
        found, learned = advantages_of(algorithm, answers, final, values, kept)
        of_tokens["advantages"] = found
        if learned is not None:
            of_tokens["returns"] = learned if offset is None else learned - np.nan_to_num(offset)
        strength = strength_of(answers, final, kept, "centred") if algorithm.surrogate == "regression" else None
        self.monitor.add("seconds preparing", time.perf_counter() - started)
        self._note(answers, rewards, kept, dropped, of_tokens)
        return Cycle(answers, kept, {name: v.astype(np.float32) for name, v in of_tokens.items()}, strength)

    def _of_tokens(self, answers: Answers) -> dict[str, np.ndarray]:
        """Return what policy, reference and critic say of each token as they are now, where that is needed."""
        args, found = self.args, {}
        options: dict[str, Any] = {"token_budget": args.token_budget, "dtype": self._dtype}
        given = answers.sequences, answers.starts
        reference = self.policy.reference
        if reference is not None or args.steps_per_cycle > 1:
            found["old"] = np.concatenate(self.policy.said(*given, **options)).astype(np.float64)
        if reference is not None:
            found["reference"] = np.concatenate(cast(Any, reference).of_tokens(*given, **options)).astype(np.float64)
        if self.algorithm.needs_critic:
            values = cast(Actor, self.model).values(*given, args.token_budget, self._dtype)
            found["former"] = np.concatenate(values).astype(np.float64)
        return found

    def _loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Return the sum over responses of what they add to the loss of the step."""
        algorithm, mask = self.algorithm, batch["mask"]
        said, values = model(rows=batch["rows"], order=batch["order"])
        now = _rows_of(said, mask)
        if "old" not in batch:
            self.monitor.add("entropy", -now.detach().sum(), mask.sum())
        log_ratio = (now - batch["old"] if "old" in batch else now - now.detach()) * mask
        longest = self.args.max_new_tokens
        if algorithm.surrogate == "regression":
            total = log_ratio_regression(log_ratio, batch["strength"], mask, algorithm.beta).sum()
        else:
            used = sequence_log_ratio(log_ratio, mask) if algorithm.surrogate == "sequence" else log_ratio
            gain, flat = clipped_surrogate(used, batch["advantages"], algorithm.low, algorithm.high)
            total = -over_tokens(gain, mask, algorithm.average, longest).sum()
            self.monitor.add("clipped", (flat & mask).sum().detach(), mask.sum())
        if algorithm.kl.kind != "reward" and "reference" in batch and self.coefficient:
            away = divergence((now - batch["reference"]) * mask, algorithm.kl.kind)
            total = total + self.coefficient * over_tokens(away, mask, algorithm.average, longest).sum()
        if values is not None:
            error = value_loss(_rows_of(values, mask), batch["former"], batch["returns"], algorithm.value_clip)
            total = total + algorithm.value_weight * over_tokens(error, mask, algorithm.average, longest).sum()
            self.monitor.add("critic's loss", (error * mask).sum().detach(), mask.sum())
        return total

    def _note(
        self, answers: Answers, rewards: Rewards, kept: np.ndarray, dropped: dict[str, int], of_tokens: dict[str, Any]
    ) -> None:
        """Take down what a cycle's responses are like."""
        told = parts_of(answers, rewards, kept, dropped, of_tokens)
        if self.gold is not None:
            told["gold"] = mean_of_known(self.gold(answers))
        told["coefficient of divergence"] = self.coefficient
        if "divergence" in told:
            self.coefficient = self.algorithm.kl.moved(self.coefficient, told["divergence"], len(answers))
        self.since_best = 0 if told["reward"] > self.best else self.since_best + 1
        self.best = max(self.best, told["reward"])
        self._pending |= told

    def finish_cycle(self, number: int) -> None:
        """End a cycle: report, look at held-out prompts, and begin anew where nothing gets better."""
        self._cycle = None
        told = self.monitor.read()
        every = self.args.evaluate_every
        if self.held_out is not None and every and (number + 1) % every == 0:
            told |= self.look()
        after = self.algorithm.reset_after
        if after is not None and self.since_best >= after:
            cast(ResetReference, self.policy.reference).reset(self.policy, self.optimizer)
            self.since_best = 0
            told["reset"] = 1.0
        self._pending |= {**told, "cycle": number + 1}

    def look(self) -> dict[str, float]:
        """Answer the held-out prompts greedily; return means of what they earned, by part, of gold and of length."""
        answers, rewards = self.answered()
        told = {"held-out reward": mean_of_known(answers.sums(rewards.tokens))}
        told |= {f"held-out part: {name}": mean_of_known(values) for name, values in rewards.parts.items()}
        told |= {"held-out length": float(answers.lengths.mean()), "held-out ended": float(answers.ended.mean())}
        if self.gold is not None:
            told["held-out gold"] = mean_of_known(self.gold(answers))
        self.looked = answers, rewards
        return told

    def answered(self) -> tuple[Answers, Rewards]:
        """Answer the held-out prompts greedily, and say what each token earned."""
        assert self.held_out is not None
        args = self.args
        how = Sampling(1, args.max_new_tokens, 0.0, token_budget=args.generation_token_budget)
        with self._writing, _eager():
            answers = written(self.policy, self.held_out.asked, self.held_out.columns, how, 0, self.cycles)
        # a link that remembers must not learn from what is held out
        kept = json.loads(json.dumps(self.rewards.state()))
        rewards = self.rewards(answers)
        self.rewards.restore(kept)
        return answers, rewards

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report the cycle beside the loss."""
        if "loss" in logs:
            logs |= self._pending
            self._pending = {}
        self.refuse_not_finite(logs)
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        cast(Actor, self.model).save_pretrained(output_dir or str(self.args.output_dir))

    def keep_more(self, folder: str) -> None:
        """Keep what moves beside the weights."""
        save_reference(self.policy, folder)
        told: dict[str, Any] = {"coefficient": self.coefficient, "best": self.best, "since_best": self.since_best}
        told["rewards"] = self.rewards.state()
        with open(os.path.join(folder, _STATE), "w", encoding="utf-8") as file:
            json.dump(told, file)

    def restore_more(self, folder: str) -> None:
        """Take it over."""
        load_reference(self.policy, folder)
        with open(os.path.join(folder, _STATE), encoding="utf-8") as file:
            told = json.load(file)
        self.coefficient, self.best, self.since_best = told["coefficient"], told["best"], told["since_best"]
        self.rewards.restore(told["rewards"])

    def history(self) -> list[dict[str, Any]]:
        """Return what was reported, cycle after cycle."""
        return [dict(entry) for entry in self.state.log_history if "cycle" in entry]


def _eager() -> Any:
    """Leave out what was compiled for training, which would be compiled anew for passes of other shapes."""
    return torch.compiler.set_stance("force_eager")


def _rows_of(flat: Tensor, mask: Tensor) -> Tensor:
    """Put values of tokens into rows, ``[n, T]``; 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device).masked_scatter(mask, flat)
