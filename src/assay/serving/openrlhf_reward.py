"""Our reward models in OpenRLHF's loop: the file that ``--reward.remote_url FILE.py`` names.

from assay.serving.openrlhf_reward import write_reward_file
write_reward_file("runs/reward_model", "reward.py")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from assay.output import check_new, write_atomic
from assay.scorers import RewardModel
from assay.scorers.loading import load_reward_model
from assay.workflows import hardware

_FILE = '''"""Rewards for OpenRLHF by a model of assay."""

from assay.serving.openrlhf_reward import reward_function

reward_func = reward_function({model})
'''


def reward_function(model: RewardModel | str) -> Callable[..., dict[str, Any]]:
    """Return ``reward_func(queries, prompts, labels, **_)``.

    Queries are templated texts, prompt and response together with their special tokens, as OpenRLHF sends them; they
    are scored as they are (`RewardModel.score_text`). Rewards are raw scores, as float32 tensors; ``scores``, from 0 to
    1, which OpenRLHF filters by, are their logistic function.
    """
    loaded: RewardModel = load_reward_model(model) if isinstance(model, str) else model
    loaded.to(hardware.best_device())

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str] | None = None, labels: Sequence[Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        del prompts, labels
        found = torch.from_numpy(loaded.score_text(list(queries))) if len(queries) else torch.zeros(0)
        scores = torch.sigmoid(found)
        return {"rewards": found, "scores": scores, "extra_logs": {"assay": found}}

    return reward_func


def write_reward_file(model: str, path: str, *, overwrite: bool = False) -> None:
    """Write the file that OpenRLHF loads; the model's folder is named in it by its whole path.

    Raises
    ------
    OutputError
        If the file exists.
    """
    check_new(path, overwrite=overwrite)
    place = Path(model).expanduser()
    write_atomic(path, _FILE.format(model=json.dumps(str(place.resolve()) if place.exists() else model)))
