"""What an online run can be told: the arguments of `transformers.Trainer`, and a few of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from transformers import TrainingArguments

from assay.errors import ConfigError
from assay.training.actor import Actor
from assay.training.algorithms import Algorithm
from assay.training.compiling import check_compilable
from assay.training.sharding import is_sharded


@dataclass
class RolloutArguments(TrainingArguments):
    """`transformers.TrainingArguments` with what an online run needs.

    A cycle lets the policy answer some prompts and learns from that; ``num_train_epochs`` counts how often each prompt
    is answered in turn.

    Attributes
    ----------
    prompts_per_cycle
        Prompts answered in a cycle.
    responses
        To each of them.
    max_new_tokens, temperature
        Of responses; the policy learns at this temperature.
    inner_epochs, minibatches
        How often a cycle's responses are gone through, and in how many steps each time.
    token_budget
        Tokens of a micro-batch.
    generation_token_budget
        Tokens of a batch of responses that are written together, prompts and responses.
    critic_learning_rate
        Of the critic; None: that of the policy.
    keep_checkpoints
        Whole checkpoints kept.
    save_every
        Cycles from one checkpoint to the next.
    evaluate_every
        Cycles from one look at the held-out prompts to the next; 0: none.
    compile_layers
        Compile the layers of the policy.
    """

    prompts_per_cycle: int = field(default=16)
    responses: int = field(default=4)
    max_new_tokens: int = field(default=128)
    temperature: float = field(default=1.0)
    inner_epochs: int = field(default=1)
    minibatches: int = field(default=1)
    token_budget: int = field(default=8192)
    generation_token_budget: int = field(default=65536)
    critic_learning_rate: float | None = field(default=None)
    keep_checkpoints: int = field(default=2)
    save_every: int = field(default=10)
    evaluate_every: int = field(default=0)
    compile_layers: bool = field(default=False)

    def __post_init__(self) -> None:
        self.remove_unused_columns = False
        self.logging_nan_inf_filter = False
        super().__post_init__()

    @property
    def steps_per_cycle(self) -> int:
        """Optimiser steps that learn from one cycle's responses."""
        return self.inner_epochs * self.minibatches


def check_rollout_arguments(args: RolloutArguments, prompts: int) -> tuple[RolloutArguments, int]:
    """Return a copy that the trainer may change, and the number of cycles.

    Raises
    ------
    ConfigError
        Naming every argument that is out of range.
    """
    problems = [f"{name}: {reason}" for name, reason in _problems(args, prompts)]
    if problems:
        raise ConfigError(
            "these training arguments cannot be followed",
            where="RolloutArguments",
            got="; ".join(problems),
            remedy="change " + ", ".join(problem.split(":")[0] for problem in problems),
        )
    args = copy.copy(args)
    if args.n_gpu > 1:
        args._n_gpu = 1
    args.per_device_train_batch_size = 1
    cycles = int(args.num_train_epochs * prompts) // args.prompts_per_cycle
    if args.max_steps > 0:
        cycles = -(-args.max_steps // args.steps_per_cycle)
    args.max_steps = max(cycles, 1) * args.steps_per_cycle
    args.logging_strategy, args.logging_steps = "steps", args.steps_per_cycle
    if args.save_strategy != "no":
        args.save_strategy, args.save_steps = "steps", args.save_every * args.steps_per_cycle
    return args, max(cycles, 1)


def _problems(args: RolloutArguments, prompts: int) -> Iterator[tuple[str, str]]:
    least = ("prompts_per_cycle", "responses", "max_new_tokens", "inner_epochs", "minibatches", "token_budget")
    for name in (*least, "generation_token_budget", "keep_checkpoints", "save_every"):
        if getattr(args, name) < 1:
            yield name, f"must be at least 1, is {getattr(args, name)}"
    if not args.temperature > 0:
        yield "temperature", f"must be above 0, is {args.temperature}: what is always the same teaches nothing"
    if args.prompts_per_cycle > prompts:
        yield "prompts_per_cycle", f"is {args.prompts_per_cycle}, and there are {prompts} prompts"
    if args.minibatches > args.prompts_per_cycle:
        yield "minibatches", f"are {args.minibatches} for {args.prompts_per_cycle} prompts, which stay whole"
    if args.gradient_accumulation_steps != 1:
        yield "gradient_accumulation_steps", "minibatches and token_budget decide what is in a step"


def check_together(actor: Actor, args: RolloutArguments, algorithm: Algorithm) -> None:
    """Refuse what does not go together.

    Raises
    ------
    ConfigError
        If a critic is missing or has no use, responses have nothing to be compared with, or weights are not whole.
    """
    if algorithm.needs_critic != actor.has_critic:
        raise ConfigError(
            "the algorithm needs a critic" if algorithm.needs_critic else "the algorithm has no use for a critic",
            got=f"baseline {algorithm.baseline}",
        )
    if args.responses < 2 and algorithm.baseline in ("normalised", "centred", "leave_one_out", "batch"):
        raise ConfigError(
            "a response is compared with others to its prompt",
            expected="2 responses or more",
            got=str(args.responses),
            remedy="--rollout.responses 4",
        )
    if args.world_size > 1 or is_sharded(args):
        raise ConfigError(
            "a policy learns from rewards in one process that holds all weights",
            got=f"{args.world_size} processes",
            remedy="leave out the launcher, and FSDP",
        )
    if args.compile_layers:
        check_compilable(actor.policy)
