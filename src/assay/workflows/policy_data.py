"""What is made of the training share before a policy learns from it: assumed orders, bridges, worse versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.feedback.assumed import with_assumed_order
from assay.feedback.bridging import Editor, bridged
from assay.feedback.corruption import with_degraded
from assay.feedback.records import prompt_text
from assay.scorers.policy_loading import policy_from
from assay.scorers.sampling import Sampling, leave_room, replies
from assay.workflows import hardware
from assay.workflows.policy_settings import AlignSettings

_EDIT = """Edit response B as little as possible, so that it becomes as good as response A.

[Request]
{prompt}
[End of request]

[Response A]
{better}
[End of response A]

[Response B]
{worse}
[End of response B]

Write the edited response B and nothing else."""


def enriched(settings: AlignSettings, data: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """Return the training share with what the settings ask for, and counts of what was done, which are said."""
    told: dict[str, Any] = {}
    if settings.assumed_order:
        data, told["assumed_order"] = with_assumed_order(data, settings.assumed_order)
    if settings.bridge is not None:
        data, told["bridge"] = bridged(data, editor(settings.bridge.model, settings.bridge.max_new_tokens))
    if settings.degraded is not None:
        data, told["degraded"] = with_degraded(data, settings.degraded.levels, settings.degraded.weight)
    for name, counts in told.items():
        say(f"{name.replace('_', ' ')}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}")
    return data, told


def editor(name: str, new: int) -> Editor:
    """Return a causal language model as an editor of responses; what is too long for it is not edited."""
    policy = policy_from(name).to(hardware.best_device())

    def edit(prompts: Sequence[Any], better: Sequence[str], worse: Sequence[str]) -> list[str]:
        sides = zip(prompts, better, worse, strict=True)
        asked = [_EDIT.format(prompt=_shown(p), better=b, worse=w) for p, b, w in sides]
        short = np.flatnonzero(leave_room(policy, asked, new)).tolist()
        found = [""] * len(asked)
        written = replies(policy, [asked[place] for place in short], Sampling(1, new, 0.0), 0) if short else []
        for place, (reply,) in zip(short, written, strict=True):
            found[place] = reply.text.strip() if reply.ended else ""
        return found

    return edit


def _shown(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else prompt_text(prompt)
