"""Our reward models in verl's loop: a reward manager that fills the tensor of token rewards, and a score function.

The manager is made with a model's folder (``reward_model.reward_kwargs.model=runs/reward_model``). Prompts come as
messages: set ``data.return_raw_chat=True``. GAE, REINFORCE++ and ReMax use rewards of tokens; GRPO, RLOO, OPO and GPG
add up each row first, and there redistribution is lost.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from assay.credit.answers import Answers, Rewards
from assay.credit.functions import by_model
from assay.credit.links import Link
from assay.credit.spreading import Redistributed
from assay.errors import ConfigError, DataError
from assay.scorers import RewardModel
from assay.scorers.served import ServedModel, is_address
from assay.serving.client import Failure, OneAtATime, known_failure, scored_or, scorer_at

#: verl's estimators of advantages that add up each row first.
SUMMED = ("grpo", "rloo", "opo", "gpg", "reinforce_plus_plus_baseline")


class RewardManager:
    """Called with a batch of verl's, it returns float32 ``(batch, response_length)``.

    Parameters
    ----------
    tokenizer
        Of the policy.
    num_examine, compute_score, reward_fn_key
        As verl passes them; not used.
    model
        A model, its folder, run folder or Hub id, or the address of `assay serve`.
    credit
        ``redistributed``: each token gets what it changed; ``terminal``: the last one gets the score.
    failure
        Where the model cannot be asked: raise an error, or a number that stands at the end of every response of the
        batch.
    timeout, tries
        Of an address: see `assay.scorers.served.ServedModel`.
    estimator
        verl's name of how advantages are worked out; where that adds up rows, a redistributed reward is warned of.

    Raises
    ------
    ConfigError
        If the credit is unknown.
    """

    def __init__(
        self,
        tokenizer: Any,
        num_examine: int = 0,
        compute_score: Any = None,
        reward_fn_key: str = "data_source",
        *,
        model: RewardModel | str,
        credit: str = "redistributed",
        estimator: str | None = None,
        failure: Failure = "raise",
        timeout: float = 60.0,
        tries: int = 5,
        **_: Any,
    ) -> None:
        del num_examine, compute_score, reward_fn_key
        self.failure = known_failure(failure, number=True)
        loaded = scorer_at(model, **({"timeout": timeout, "tries": tries} if is_address(model) else {}))
        if credit not in ("redistributed", "terminal"):
            raise ConfigError("there is no such credit", expected="redistributed or terminal", got=credit)
        if credit == "redistributed" and estimator in SUMMED:
            warnings.warn(
                f"{estimator} adds up the rewards of a response before it compares responses: redistribution is lost",
                stacklevel=2,
            )
        self.tokenizer = tokenizer
        self.link: Link = Redistributed("assay", loaded) if credit == "redistributed" else by_model(loaded, "assay")

    def __call__(self, data: Any, return_dict: bool = False) -> Any:
        """Return the rewards, or with ``return_dict`` also what each response's score is.

        Raises
        ------
        DataError
            If prompts do not come as messages, or a response has no token.
        """
        if "rm_scores" in data.batch:  # rewards of tokens that are there already are used as they are
            there = data.batch["rm_scores"]
            return {"reward_tensor": there, "reward_extra_info": {}} if return_dict else there
        raw = data.non_tensor_batch.get("raw_prompt")
        if raw is None:
            raise DataError(
                "prompts did not come as messages",
                expected="the column raw_prompt",
                remedy="data.return_raw_chat=True in verl's configuration",
            )
        prompts, responses, mask = (data.batch[name] for name in ("prompts", "responses", "attention_mask"))
        width = prompts.shape[1]
        lengths = mask[:, width:].sum(dim=1).to(torch.int64)
        if bool((lengths < 1).any()):
            raise DataError("a response has no token", got=f"{int((lengths < 1).sum())} of {len(lengths)}")
        ids = [responses[row, : int(length)].cpu().numpy() for row, length in enumerate(lengths)]
        answers = Answers(
            [list(prompt) for prompt in raw],
            [self.tokenizer.decode(own, skip_special_tokens=True) for own in ids],
            [own.astype(np.int64) for own in ids],
            np.zeros(len(ids), np.int64),
            np.ones(len(ids), bool),
            np.arange(len(ids)),
            self.tokenizer,
        )
        found = scored_or(self.failure, lambda: self.link(answers), len(answers))
        if found is None:
            values = np.full(len(answers), float(self.failure or 0.0))
            found = Rewards(answers.at_the_end(values), {"assay": values})
        rewards = torch.zeros(responses.shape, dtype=torch.float32)
        for row, own in enumerate(np.split(found.tokens, answers.offsets[1:-1])):
            rewards[row, : len(own)] = torch.from_numpy(own).float()
        rewards = rewards.to(responses.device)
        if not return_dict:
            return rewards
        return {"reward_tensor": rewards, "reward_extra_info": {"score": found.parts["assay"].tolist()}}


def score_function(model: RewardModel | str, *, failure: Failure = "raise", **options: Any) -> Any:
    """Return verl's ``compute_score``, which reads the prompt from ``extra_info["prompt"]``.

    Every call gives the same keys, since verl takes their names from the first one: ``score``, and, as 0 or 1,
    ``truncated`` and ``failed``.

    Parameters
    ----------
    model
        A model, its folder, run folder or Hub id, or the address of `assay serve`, which scores calls of many workers
        together.
    failure
        Where the model cannot be asked: raise an error, or a number that stands for the score.
    options
        Of `assay.scorers.served.ServedModel`, for an address.

    Raises
    ------
    DataError
        In the call, if the prompt is not there: verl passes the response alone.
    """
    known_failure(failure, number=True)
    scorer = OneAtATime(scorer_at(model, **options))

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any = None, extra_info: Any = None, **_: Any
    ) -> dict[str, float]:
        del data_source, ground_truth
        prompt = (extra_info or {}).get("prompt")
        if prompt is None:
            raise DataError("the prompt is not there", expected='extra_info["prompt"], a text or messages')
        found = scored_or(failure, lambda: scorer(lambda own: _one(own, prompt, solution_str)), 1)
        if found is None:
            return {"score": float(failure or 0.0), "truncated": 0.0, "failed": 1.0}
        return {"score": found[0], "truncated": found[1], "failed": 0.0}

    return compute_score


def _one(scorer: Any, prompt: Any, response: str) -> tuple[float, float]:
    """Return the score of a response, and whether it was truncated."""
    if isinstance(scorer, ServedModel):
        values, cut = scorer.asked([prompt], [response])
        return float(values[0]), float(cut[0])
    encoded = scorer.encoder.encode([prompt], [response])
    value = scorer.score_conversations(encoded, [prompt])[0]
    return float(value), float(bool(encoded[0].cut_prompt or encoded[0].cut_reply))
