"""One cycle of a policy's responses: written, scored, given advantages, and cut into what steps learn from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.credit.answers import Answers, Rewards
from assay.objectives.advantages import (
    Baseline,
    generalised_advantages,
    group_advantages,
    group_baseline,
    whitened,
)
from assay.scorers.conversation import Prompt
from assay.scorers.layout import Layout
from assay.scorers.policy import Policy
from assay.scorers.sampling import Sampling, Writer, by_generate, replies
from assay.training.algorithms import Algorithm


def written(
    policy: Policy,
    prompts: Sequence[Prompt],
    columns: dict[str, list[Any]],
    how: Sampling,
    seed: int,
    cycle: int,
    writer: Writer = by_generate,
) -> Answers:
    """Let a policy answer prompts several times each.

    Parameters
    ----------
    policy
        As it is now.
    prompts, columns
        n prompts, and what the data say of each.
    how, seed
        Of the draws.
    cycle
        For links that change with it.
    writer
        The engine.
    """
    found = replies(policy, prompts, how, seed, writer)
    flat = [reply for own in found for reply in own]
    owner = np.repeat(np.arange(len(prompts), dtype=np.int64), how.responses)
    return Answers(
        [prompts[k] for k in owner.tolist()],
        [reply.text for reply in flat],
        [reply.ids for reply in flat],
        np.array([reply.start for reply in flat], np.int64),
        np.array([reply.ended for reply in flat], bool),
        owner,
        policy.encoder.tokenizer,
        {name: [values[k] for k in owner.tolist()] for name, values in columns.items()},
        cycle,
    )


@dataclass(frozen=True)
class Prompts:
    """What is asked.

    Attributes
    ----------
    asked
        Strings or message lists.
    columns
        Name -> what the data say of each, such as ``ground_truth``.
    """

    asked: Sequence[Prompt]
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.asked)

    def chosen(self, rows: np.ndarray) -> Prompts:
        """Return some of them."""
        each = rows.tolist()
        return Prompts([self.asked[k] for k in each], {n: [v[k] for k in each] for n, v in self.columns.items()})


class HalfCopy:
    """A policy's language model in bfloat16, for writing: casting all weights anew for each token would cost more.

    Buffers stay as they are: the frequencies of rotary positions are no longer the same in 16 bits.

    Parameters
    ----------
    policy
        All of whose weights train.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.model = copy.deepcopy(policy.language_model).eval().requires_grad_(False)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)

    @torch.no_grad()
    def __enter__(self) -> None:
        """Copy the weights as they are now, and write with the copy."""
        for kept, now in zip(self.model.parameters(), self.policy.language_model.parameters(), strict=True):
            kept.copy_(now)
        self._whole, self.policy.language_model = self.policy.language_model, self.model

    def __exit__(self, *_: object) -> None:
        """Take the policy's own model back."""
        self.policy.language_model = self._whole


def padded(flat: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Put values of tokens ``[tokens]`` into rows ``[n, T]``; return the mask too."""
    mask = torch.arange(int(lengths.max(initial=0))) < torch.from_numpy(lengths).unsqueeze(1)
    rows = torch.zeros(mask.shape, dtype=torch.float64)
    rows[mask] = torch.from_numpy(np.asarray(flat, np.float64))
    return rows, mask


def advantages_of(
    algorithm: Algorithm, answers: Answers, rewards: np.ndarray, values: np.ndarray | None, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return advantages of tokens ``[tokens]``, and what the critic learns, in float64.

    Parameters
    ----------
    algorithm
        Its baseline, discount and whitening.
    answers
        Responses.
    rewards
        ``[tokens]``: with the divergence taken off, where it is part of the reward.
    values
        ``[tokens]``: of the states before them, where there is a critic.
    kept
        bool ``[n]``: the responses that count; others get 0, and are no part of any group.
    """
    rows = np.flatnonzero(kept)
    found, learned = np.zeros(len(rewards)), None if values is None else np.zeros(len(rewards))
    if not len(rows):
        return found, learned
    places = np.concatenate([np.arange(answers.offsets[row], answers.offsets[row + 1]) for row in rows])
    each, mask = padded(rewards[places], answers.lengths[rows])
    if algorithm.baseline == "critic":
        assert values is not None and learned is not None
        former, _ = padded(values[places], answers.lengths[rows])
        advantages, returns = generalised_advantages(each, former, mask, algorithm.discount, algorithm.trace)
        learned[places] = returns[mask].numpy()
    else:
        groups = torch.from_numpy(np.unique(answers.groups[rows], return_inverse=True)[1].astype(np.int64))
        advantages = group_advantages(each, mask, groups, algorithm.baseline, algorithm.discount)
    if algorithm.whiten:
        advantages = whitened(advantages, mask)
    found[places] = advantages[mask].numpy()
    return found, learned


def strength_of(answers: Answers, rewards: np.ndarray, kept: np.ndarray, baseline: Baseline) -> np.ndarray:
    """Return how far each response is preferred to the others of its prompt, ``[n]``; their sum is 0 (GPO)."""
    found, rows = np.zeros(len(answers)), np.flatnonzero(kept)
    if len(rows):
        totals = torch.from_numpy(answers.sums(rewards)[rows])
        groups = torch.from_numpy(np.unique(answers.groups[rows], return_inverse=True)[1].astype(np.int64))
        taken, spread = group_baseline(totals, groups, baseline)
        found[rows] = ((totals - taken) / spread).numpy()
    return found


def that_teach(algorithm: Algorithm, answers: Answers, rewards: Rewards) -> tuple[np.ndarray, dict[str, int]]:
    """Say which responses count, bool ``[n]``, and count those that do not.

    A response without a reward never counts, nor does one that is left alone where those of a prompt are compared. With
    ``drop_equal`` prompts are left out whose rewards are all equal, with ``band`` those whose mean reward lies outside.
    """
    known = rewards.known(answers)
    totals = answers.sums(rewards.tokens)
    kept, told = known.copy(), {"without reward": int((~known).sum())}
    equal = outside = alone = 0
    compared = algorithm.baseline not in ("critic", "none") or algorithm.surrogate == "regression"
    for group in np.unique(answers.groups[known]):
        own = np.flatnonzero((answers.groups == group) & known)
        spread = float(np.ptp(totals[own]))
        if compared and len(own) < 2:
            kept[own], alone = False, alone + 1
        elif algorithm.drop_equal and spread <= 1e-9 * max(1.0, float(np.abs(totals[own]).max())):
            kept[own], equal = False, equal + 1
        elif algorithm.band is not None and not algorithm.band[0] <= totals[own].mean() <= algorithm.band[1]:
            kept[own], outside = False, outside + 1
    told |= {"prompts of equal rewards": equal, "prompts outside the band": outside}
    return kept, told | {"responses with nothing to compare": alone}


@dataclass(frozen=True)
class Cycle:
    """All that the steps of one cycle learn from.

    Attributes
    ----------
    answers
        Responses.
    kept
        bool ``[n]``: those that count.
    of_tokens
        Name -> float32 ``[tokens]``: ``old``, ``advantages``, and where they are needed ``reference``, ``former``,
        ``returns``.
    strength
        float32 ``[n]``, where log-ratios are regressed on it; else None.
    """

    answers: Answers
    kept: np.ndarray
    of_tokens: dict[str, np.ndarray]
    strength: np.ndarray | None = None

    def minibatches(self, count: int, seed: int) -> list[np.ndarray]:
        """Deal the responses that count into some parts, those to one prompt together, in random order."""
        groups = np.random.default_rng(seed).permutation(np.unique(self.answers.groups[self.kept]))
        rows = [
            np.flatnonzero(np.isin(self.answers.groups, part) & self.kept) for part in np.array_split(groups, count)
        ]
        return rows

    def batches(self, rows: np.ndarray, layout: Layout, token_budget: int, pad_id: int) -> list[dict[str, Any]]:
        """Return micro-batches that fit the budget; advantages are known, so a prompt's responses may be parted."""
        made: list[list[int]] = []
        used, former = 0, -1
        for row in sorted((int(row) for row in rows), key=lambda row: int(self.answers.groups[row])):
            group, whole = int(self.answers.groups[row]), len(self.answers.sequences[row])
            more = int(self.answers.lengths[row]) if layout.shares and group == former else whole
            if not made or used + more > token_budget:
                made.append([])
                used, more = 0, whole
            made[-1].append(row)
            used, former = used + more, group
        return [self._batch(own, layout, token_budget, pad_id) for own in made]

    def _batch(self, rows: list[int], layout: Layout, token_budget: int, pad_id: int) -> dict[str, Any]:
        answers = self.answers
        texts = [answers.sequences[row] for row in rows]
        starts = answers.starts[rows]
        blocks, order = layout.lay(texts, layout.trees(texts, token_budget), token_budget, pad_id, starts)
        lengths = answers.lengths[rows]
        batch: dict[str, Any] = {"rows": blocks, "order": order}
        batch["mask"] = torch.arange(int(lengths.max())) < torch.from_numpy(lengths).unsqueeze(1)
        for name, values in self.of_tokens.items():
            own = np.concatenate([values[answers.offsets[row] : answers.offsets[row + 1]] for row in rows])
            batch[name] = padded(own, lengths)[0].float()
        if self.strength is not None:
            batch["strength"] = torch.from_numpy(self.strength[rows].astype(np.float32))
        return batch
