"""Our reward models in OpenRLHF's loop: the file that ``--reward.remote_url FILE.py`` names, and a hook for tokens.

from assay.serving.openrlhf_reward import CreditHook, write_reward_file
write_reward_file("runs/reward_model", "reward.py")
hook = CreditHook("runs/reward_model", tokenizer)  # in an experience maker: rewards + hook(experience)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.credit.redistribution import redistribute
from assay.errors import DataError, ModelError
from assay.output import check_new, write_atomic
from assay.scorers import RewardModel
from assay.scorers.conversation import Encoded
from assay.scorers.loading import load_reward_model
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.served import is_address
from assay.serving.client import Failure, OneAtATime, known_failure, scored_or, scorer_at
from assay.workflows import hardware

_FILE = '''"""Rewards for OpenRLHF by a model of assay."""

from assay.serving.openrlhf_reward import reward_function

reward_func = reward_function({model})
'''


def reward_function(
    model: RewardModel | str, *, failure: Failure = "raise", **options: Any
) -> Callable[..., dict[str, Any]]:
    """Return ``reward_func(queries, prompts, labels, **_)``.

    Queries are templated texts, prompt and response together with their special tokens, as OpenRLHF sends them; they
    are scored as they are (`RewardModel.score_text`). Rewards are raw scores, as float32 tensors; ``scores``, from 0 to
    1, which OpenRLHF filters by, are their logistic function.

    Parameters
    ----------
    model
        A model, its folder, run folder or Hub id, or the address of `assay serve`.
    failure
        Where the model cannot be asked: raise an error, or a number that stands for the rewards of the whole call.
    options
        Of `assay.scorers.served.ServedModel`, for an address.
    """
    known_failure(failure, number=True)
    scorer = OneAtATime(scorer_at(model, **options))  # OpenRLHF calls from several threads

    def reward_func(
        queries: Sequence[str], prompts: Sequence[str] | None = None, labels: Sequence[Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        del prompts, labels
        given = list(queries)
        scored: np.ndarray | None = np.zeros(0, np.float32)
        if given:
            scored = scored_or(failure, lambda: scorer(lambda own: own.score_text(given)), len(given))
        found = torch.full((len(given),), float(failure or 0.0)) if scored is None else torch.from_numpy(scored)
        scores = torch.sigmoid(found)
        return {"rewards": found, "scores": scores, "extra_logs": {"assay": found}}

    return reward_func


class CreditHook:
    """Moves a score from the last token to those that earned it (R3HF), in an experience of OpenRLHF's.

    Called with an experience (``sequences``, ``attention_mask`` ``(B, S)``, ``action_mask`` ``(B, A)``, whose columns
    are the last A tokens), it returns float32 ``(B, A)`` to be added to what ``compute_reward`` makes of the same
    model's raw scores: each action's change of the score, minus the whole score at the last action. Tokens between
    actions, which an environment wrote, change the score for the action before them. The sum of a row is minus the
    score of its bare prompt. Whole rewards that were standardised or compared within groups first have other
    units: use it where OpenRLHF takes them as they are (GAE, REINFORCE).

    Parameters
    ----------
    model
        A causal `RewardModel`, or a folder, run folder or Hub id.
    tokenizer
        Of the policy, whose tokens must be the reward model's.
    mix
        Share that is moved.

    Raises
    ------
    ModelError
        If the model has no scores of prefixes, or reads other tokens.
    """

    def __init__(self, model: RewardModel | str, tokenizer: Any, mix: float = 1.0) -> None:
        loaded: RewardModel = load_reward_model(model) if isinstance(model, str) else model
        reason = why_no_prefix_scores(loaded)
        if reason is not None:
            raise ModelError("this reward model cannot tell what each token earned", got=reason)
        if loaded.encoder.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ModelError(
                "the policy has other tokens than the reward model",
                expected="one tokenizer: an experience holds tokens, and no text",
                remedy="train the reward model on the policy's backbone, or with assay align --credit redistributed",
            )
        self.model, self.mix = loaded.to(hardware.best_device()), mix

    def __call__(self, experience: Any) -> torch.Tensor:
        """Return what to add to the rewards of actions.

        Raises
        ------
        DataError
            If a sequence has no token before its first action, or no action.
        """
        actions = experience.action_mask.bool().cpu()
        sequences, seen = experience.sequences.cpu(), experience.attention_mask.bool().cpu()
        acted = torch.zeros_like(seen)
        acted[:, -actions.shape[1] :] = actions
        found = torch.zeros(actions.shape, dtype=torch.float32)
        encoded, places = [], []
        for row in range(len(sequences)):
            own = np.flatnonzero(acted[row][seen[row]].numpy())
            if not len(own) or own[0] == 0:
                got = f"{len(own)} actions" + (", the first token among them" if len(own) else "")
                raise DataError("a sequence has no prompt or no action", where=f"row {row}", got=got)
            encoded.append(Encoded(sequences[row][seen[row]].tolist(), int(own[0])))
            places.append(own - own[0])
        for row, values in enumerate(self.model.prefix_scores_encoded(encoded)):
            # what stands between actions is the environment's: what it changes came of the action before it
            at = np.append(values[places[row]], values[-1]).astype(np.float64)
            moved = np.asarray(redistribute(at, mix=self.mix))
            moved[-1] -= values[-1]
            found[row, actions[row]] = torch.from_numpy(moved).float()
        return found.to(experience.action_mask.device)


def write_reward_file(model: str, path: str, *, overwrite: bool = False) -> None:
    """Write the file that OpenRLHF loads, for a model's folder, which is named in it by its whole path, or an address.

    Raises
    ------
    OutputError
        If the file exists.
    """
    check_new(path, overwrite=overwrite)
    place = Path(model).expanduser()
    named = str(place.resolve()) if not is_address(model) and place.exists() else model
    write_atomic(path, _FILE.format(model=json.dumps(named)))
