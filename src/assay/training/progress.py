"""Training progress on the terminal: a bar, and a line at every validation."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from assay.console import Progress, say


class TerminalProgress(TrainerCallback):
    """Shows steps as a bar (a line now and then where there is no terminal) and validation results as lines."""

    def __init__(self) -> None:
        self._bar: Progress[int] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; a resumed run starts where it stopped."""
        if state.is_world_process_zero:
            self._bar = Progress(state.max_steps, "training: steps").__enter__()
            self._bar.advance(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count a step."""
        if self._bar:
            self._bar.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say what a validation found."""
        if self._bar and logs and "eval_loss" in logs:
            share = logs["eval_accuracy"]
            # without judgements there is none
            right = "" if math.isnan(share) else f", accuracy {100 * share:.1f} %"
            say(f"step {state.global_step} of {state.max_steps}: validation loss {logs['eval_loss']:.4f}{right}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar:
            self._bar.__exit__(None, None, None)
            self._bar = None
