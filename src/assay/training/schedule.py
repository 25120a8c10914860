"""When to evaluate, and when to stop: decided from the plan and from what is logged, so that a resumed run agrees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class PlannedEvaluation(TrainerCallback):
    """Asks for an evaluation after given steps."""

    def __init__(self, steps: Iterable[int]) -> None:
        self.steps = frozenset(steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask, if it is time."""
        if state.global_step in self.steps:
            control.should_evaluate = True


def held_out_losses(state: TrainerState) -> list[float]:
    """Return the held-out losses logged so far, also those before a resumption."""
    return [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]


def evaluations_since_best(losses: list[float]) -> int:
    """Return how many evaluations came after the first one with the lowest loss; 0: the last is the best so far."""
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


class StopAfter(TrainerCallback):
    """Saves and stops after a step; a trainer of the same plan goes on from there to the very same end."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop, if it is time."""
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True
