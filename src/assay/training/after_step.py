"""What moves after each optimiser step beside the weights: banks of heads, and references that follow a policy."""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from transformers import TrainerCallback

from assay.scorers.heads import Head
from assay.scorers.policy import Policy
from assay.training.references import FollowingReference


class _EndStep(TrainerCallback):
    """Lets a head do what it does after each step."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.head.end_step()


class _Follow(TrainerCallback):
    """Lets a reference follow the policy after each step."""

    def __init__(self, reference: FollowingReference) -> None:
        self.reference = reference

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.reference.after_step(cast(Policy, given["model"]), given["optimizer"], state.global_step)


def after_each_step(model: nn.Module) -> list[TrainerCallback]:
    """Return the callbacks of what moves beside the weights; most models have none."""
    head, reference = getattr(model, "head", None), getattr(model, "reference", None)
    found: list[TrainerCallback] = []
    if isinstance(head, Head) and type(head).end_step is not Head.end_step:
        found.append(_EndStep(head))
    if hasattr(reference, "after_step"):
        found.append(_Follow(cast(FollowingReference, reference)))
    return found
