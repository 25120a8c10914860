"""Two rewards as one: RLLR's cap, and a cost that a multiplier holds within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from assay.credit.redistribution import CreditError


def capped_mix(label_reward: Any, rationale_reward: Any, cap: float) -> Any:
    """Return ``min(label reward, cap) + rationale reward`` (RLLR-mixed, Liao et al. 2024).

    Up to the cap the label decides; from there on more of it earns nothing, and the rationale decides.

    Parameters
    ----------
    label_reward, rationale_reward
        Numbers, arrays or tensors, both of one kind and shape.
    cap
        In units of the label reward: a quantile of it on correct held-out answers (`label_cap`), for a number in raw
        units means nothing once the model is trained anew. ``inf``: the plain sum.

    Returns
    -------
    float, numpy.ndarray or torch.Tensor
        As the rewards are.

    Raises
    ------
    CreditError
        If the cap is no number, or minus infinity.
    """
    if not cap > -np.inf:
        raise CreditError("the cap is no number", expected="a number, or inf for none", got=str(cap))
    if isinstance(label_reward, torch.Tensor):
        return label_reward.clamp_max(cap) + rationale_reward
    found = np.minimum(label_reward, cap) + rationale_reward
    return found if isinstance(label_reward, np.ndarray) else float(found)


def label_cap(rewards_of_correct: Any, quantile: float = 0.5) -> float:
    """Return the cap of `capped_mix`: a quantile of the label rewards of correct held-out answers, or of `QUANTILES`.

    Raises
    ------
    CreditError
        If there is no finite reward, or the quantile is out of range.
    """
    values = np.asarray(rewards_of_correct, np.float64)
    if not len(values) or not np.isfinite(values).all() or not 0 <= quantile <= 1:
        raise CreditError(
            "a cap is a quantile of the rewards of correct answers",
            expected="finite rewards, at least one, and a quantile from 0 to 1",
            got=f"{len(values)} rewards, quantile {quantile}",
        )
    return float(np.quantile(values, quantile))


#: Quantiles of held-out right answers' rewards that are stored with a reward model.
QUANTILES = np.linspace(0.0, 1.0, 21)


def safe_mix(reward: Any, cost: Any, multiplier: float) -> Any:
    r"""Return :math:`(r - \mu c) / (1 + \mu)` of rewards and costs, of tokens or of responses; higher costs are worse.

    Dai et al. 2024 (Safe RLHF), here for tokens too. The published weight of the cost has two signs; here it counts
    against the reward.

    Raises
    ------
    CreditError
        If the multiplier is negative.
    """
    if multiplier < 0:
        raise CreditError("a multiplier is never negative", expected="0 or more", got=str(multiplier))
    return (reward - multiplier * cost) / (1.0 + multiplier)


@dataclass
class Multiplier:
    r"""Lagrangian multiplier of a cost: :math:`\mu \leftarrow \max(0, \mu + \eta(\bar c - b))`.

    Attributes
    ----------
    budget
        b: the mean cost of a response that is allowed.
    rate
        :math:`\eta` above 0.
    value
        :math:`\mu`, 0 or more.
    """

    budget: float
    rate: float = 0.1
    value: float = 0.0

    def update(self, costs: Any) -> float:
        """Move by the mean of some responses' costs; return the new value."""
        self.value = max(0.0, self.value + self.rate * (float(np.mean(np.asarray(costs, np.float64))) - self.budget))
        return self.value
