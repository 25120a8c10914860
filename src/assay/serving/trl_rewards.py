"""Our reward models in TRL's loops: a reward function, and a GRPO trainer whose tokens have rewards of their own.

from trl import GRPOConfig
from assay.serving.trl_rewards import TrlReward, token_credit_trainer

reward = TrlReward("runs/reward_model")
trainer = token_credit_trainer()(model, reward_funcs=reward, args=GRPOConfig(...), train_dataset=prompts)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from assay.credit.answers import Answers
from assay.credit.redistribution import FirstToken
from assay.credit.spreading import Redistributed
from assay.errors import ConfigError, ModelError
from assay.scorers import RewardModel
from assay.scorers.prefixes import why_no_prefix_scores
from assay.scorers.served import ServedModel
from assay.serving.client import Failure, known_failure, scored_or, scorer_at


class TrlReward:
    """A reward model in the shape of TRL's ``reward_funcs``: called by keyword, one number per completion.

    Parameters
    ----------
    model
        A model, its folder, run folder or Hub id, or the address of `assay serve`.
    first_token, mix
        Of token credit, which `token_credit_trainer` asks for (`assay.credit.redistribute`).
    failure
        Where the model cannot be asked: raise an error, a number that stands for the scores of the whole call, or None,
        which TRL leaves out of its sum.
    options
        Of `assay.scorers.served.ServedModel`, for an address.
    """

    def __init__(
        self,
        model: RewardModel | str,
        first_token: FirstToken = "subtract_prompt",
        mix: float = 1.0,
        *,
        failure: Failure = "raise",
        **options: Any,
    ) -> None:
        self.failure = known_failure(failure)
        self.model: Any = scorer_at(model, **options)
        self.link = Redistributed("assay", self.model, first_token, mix)
        #: Whether the last call could not ask the model: ``failure`` stood for its scores.
        self.stood_in = False

    @property
    def __name__(self) -> str:
        return "assay"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """Return the raw scores; None where one is no number."""
        given = list(prompts), list(completions)
        found = scored_or(self.failure, lambda: self.model.score(*given), len(given[0]))
        self.stood_in = found is None
        if found is None:
            return [None if self.failure is None else float(self.failure)] * len(given[0])
        return [float(value) if np.isfinite(value) else None for value in found]

    def spent(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        tokenizer: Any,
    ) -> list[np.ndarray]:
        """Return what the tokens before each token of a completion have earned, float64 ``[T]`` each.

        Taken from an advantage of a whole completion, it leaves what its tokens from there on earned. Nothing of a
        completion whose scores are no numbers, and of all where the last call could not ask the model: then all of the
        reward stands at the end, whatever stands for it.
        """
        texts = [
            completion if isinstance(completion, str) else "\n".join(str(turn["content"]) for turn in completion)
            for completion in completions
        ]
        answers = Answers(
            list(prompts),
            texts,
            [np.asarray(ids, np.int64) for ids in completion_ids],
            np.zeros(len(texts), np.int64),
            np.ones(len(texts), bool),
            np.arange(len(texts)),
            tokenizer,
        )
        found = None if self.stood_in else scored_or(self.failure, lambda: self.link(answers), len(texts))
        tokens = np.zeros(int(answers.offsets[-1])) if found is None else found.tokens
        parts = np.split(tokens, answers.offsets[1:-1])
        parts = [part if np.isfinite(part).all() else np.zeros(len(part)) for part in parts]
        return [np.concatenate([[0.0], np.cumsum(part)[:-1]]) for part in parts]


def token_credit_trainer() -> type:
    """Return a subclass of TRL's ``GRPOTrainer`` whose advantages are those of tokens, ``(B, T)``.

    Its first `TrlReward` gives the credit; other reward functions count at the end, as ever. The advantage of token t
    is what its completion earned above the mean of its prompt, minus what the tokens before it earned, over the root of
    the mean square of this (over completions, of the mean over their tokens). With one reward at the end that is TRL's
    own, but for the deviation, which TRL divides by K - 1.

    Raises
    ------
    ConfigError
        If TRL is not installed.
    """
    try:
        from trl import GRPOTrainer
    except ImportError as error:
        raise ConfigError("TRL is not installed", expected="trl >= 1.10", remedy="pip install trl") from error

    class TokenCreditTrainer(GRPOTrainer):
        """GRPO with rewards of tokens."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            found = [k for k, given in enumerate(self.reward_funcs) if isinstance(given, TrlReward)]
            if not found:
                raise ConfigError("token credit needs a TrlReward among the reward functions")
            if self.multi_objective_aggregation != "sum_then_normalize":
                raise ConfigError("token credit needs multi_objective_aggregation='sum_then_normalize'")
            self._credited = found[0]
            credited = self.reward_funcs[self._credited].model
            served = isinstance(credited, ServedModel)  # which says so itself when it is asked
            reason = None if served else why_no_prefix_scores(credited)
            if reason is not None:
                raise ModelError("this reward model cannot tell what each token earned", got=reason)

        def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
            found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            self._told = (prompts, completions, completion_ids_list, found)
            return found

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            output = super()._generate_and_score_completions(inputs)
            prompts, completions, ids, per_function = self._told
            spent = self.reward_funcs[self._credited].spent(prompts, completions, ids, self.processing_class)
            weights = self.reward_weights.to(per_function.device)
            rewards = (per_function * weights).nansum(dim=1)
            # as TRL: what no function scored has no reward, counts in no mean, and moves nothing
            rewards[per_function.isnan().all(dim=1)] = torch.nan
            count = self.num_generations if self.model.training else self.num_generations_eval
            first = self.accelerator.process_index * len(prompts)
            own = slice(first, first + len(prompts))
            means = rewards.view(-1, count).nanmean(dim=1).repeat_interleave(count)
            mask = output["completion_mask"].to(rewards.dtype)
            left = (rewards - means)[own].unsqueeze(1).repeat(1, mask.shape[1])
            for row, earned in enumerate(spent):
                if per_function[first + row, self._credited].isnan():
                    continue  # this model gave nothing, so nothing of it was earned before the end
                left[row, : len(earned)] -= weights[self._credited] * torch.from_numpy(earned).to(left)
            found = left / self._spread_of(left, mask, count).unsqueeze(1)
            output["advantages"] = found.nan_to_num(nan=0.0)
            return output

        def _spread_of(self, left: Any, mask: Any, count: int) -> Any:
            """Return what differences are divided by: never small where they are not (`group_advantages`)."""
            if self.scale_rewards == "none":
                return torch.ones_like(left[:, 0])
            each = (left * mask).square().sum(dim=1) / mask.sum(dim=1).clamp_min(1)
            whole = self.scale_rewards == "batch" or len(each) % count
            if whole:
                many = each.nanmean().expand_as(each)
            else:
                many = each.view(-1, count).nanmean(dim=1).repeat_interleave(count)
            return many.sqrt() + 1e-4

    return TokenCreditTrainer
