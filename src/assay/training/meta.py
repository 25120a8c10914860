"""MetaRM: take the gradient of a step where scores of unlabelled responses lie further apart (Wang et al. 2024)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from transformers import Trainer

from assay.errors import ConfigError
from assay.objectives import separation
from assay.training.data import TextSource

_FED = ("rows", "order", "features", "prompts")


class StepRule(Protocol):
    """Where the gradient of a step is taken: whatever it does to the weights is undone before the optimiser moves."""

    def __call__(self, trainer: Trainer, model: nn.Module, step: int) -> AbstractContextManager[None]:
        """Return a context for the forward and backward passes of a step, counted from 1."""
        ...


@dataclass(frozen=True)
class MetaStep:
    r"""Ascend the separation of unlabelled responses, take the loss's gradient there, and apply it here.

    .. math:: \theta' = \theta + \eta \nabla J(\theta), \qquad \theta \leftarrow \theta - \alpha \nabla L(\theta')

    with J the mean of `separation` over prompts. A rate of 0 is plain training. Secrets of RLHF II has the responses
    drawn from the present policy; here they are whatever the source holds.

    Attributes
    ----------
    source
        Makes batches of records, each with the responses to one prompt.
    rate
        eta >= 0, in the unit of a plain gradient step.
    prompts
        Records drawn for each step, by seed and step, so that a resumed run draws the same.
    seed
        Of the draws.
    """

    source: TextSource
    rate: float
    prompts: int = 8
    seed: int = 0

    @contextlib.contextmanager
    def __call__(self, trainer: Trainer, model: nn.Module, step: int) -> Iterator[None]:
        """Move the weights, and put them back.

        Raises
        ------
        ConfigError
            In several processes: each would ascend another way.
        """
        if trainer.args.world_size > 1:
            raise ConfigError("MetaRM's step runs in one process", got=f"{trainer.args.world_size} processes")
        moved = self._ascend(trainer, model, step) if self.rate > 0 else []
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, before in moved:
                    parameter.copy_(before)

    def _ascend(self, trainer: Trainer, model: nn.Module, step: int) -> list[tuple[nn.Parameter, torch.Tensor]]:
        sizes = self.source.data.texts
        drawn = np.sort(np.random.default_rng((self.seed, step)).permutation(len(sizes))[: self.prompts])
        batch = trainer._prepare_inputs(self.source.batch(drawn))
        ends = np.cumsum(sizes[drawn])
        with trainer.compute_loss_context_manager():
            values = model(**{name: batch[name] for name in _FED if name in batch})["values"]
            # the prompt alone, where it is the last text of its record, is no response
            last = int(self.source.data.records.prompts)
            lists = [values[end - size : end - last] for end, size in zip(ends, sizes[drawn], strict=True)]
            gain = torch.stack([separation(scores) for scores in lists]).mean()
        trainer.accelerator.backward(gain)
        moved = []
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    moved.append((parameter, parameter.detach().clone()))
                    parameter.add_(parameter.grad, alpha=self.rate)
                    parameter.grad = None
        return moved
