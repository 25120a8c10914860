"""One reward of a response, given to its tokens: by how each changed the score (R3HF), and what it is compared with."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import torch

from assay.errors import AssayError

#: Numpy arrays or tensors; lists are read as arrays.
Array = TypeVar("Array", np.ndarray, torch.Tensor)
FirstToken = Literal["subtract_prompt", "zero_baseline", "zero_first"]
RULES: tuple[FirstToken, ...] = ("subtract_prompt", "zero_baseline", "zero_first")


class CreditError(AssayError):
    """Raised when a reward cannot be given to tokens: there are none, or a number is none."""


def redistribute(prefix_scores: Any, first_token: FirstToken = "subtract_prompt", mix: float = 1.0) -> Any:
    r"""Give each token what it changed: :math:`z_t = b\,(R_t - R_{t-1}) + (1-b)\,e_t` (R3HF, Li et al. 2024).

    :math:`R_t` is the score of the response up to token t, :math:`R_0` that of the bare prompt, and :math:`e_t` the
    whole score at the last token. The sum is :math:`R - bR_0` with the first rule, R with the second.

    Parameters
    ----------
    prefix_scores
        ``[T + 1]``, T at least 1: list, array or tensor, as `assay.scorers.RewardModel.prefix_scores` gives them.
    first_token
        What the first token gets of b: ``subtract_prompt`` :math:`R_1 - R_0`; ``zero_baseline`` :math:`R_1`;
        ``zero_first`` 0. The last drops what the first token earned, so it changes which policy is best; the others do
        not, where nothing is discounted (potential-based shaping).
    mix
        b in [0, 1]; 0: the whole score at the last token.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        ``[T]``, of the kind and dtype of the scores (whole numbers become float64).

    Raises
    ------
    CreditError
        If there is no token, or b or the rule is out of range.
    """
    scores = _scores(prefix_scores)
    if scores.ndim != 1 or len(scores) < 2:
        raise CreditError(
            "there is no token to give a reward to",
            expected="prefix scores [T + 1] of a response of at least one token, the bare prompt's first",
            got=f"shape {tuple(scores.shape)}",
        )
    if not 0 <= mix <= 1:
        raise CreditError("the mix of both rewards is out of range", expected="0 to 1", got=str(mix))
    credit = scores[1:] - scores[:-1]
    if first_token == "zero_baseline":
        credit[0] = scores[1]
    elif first_token == "zero_first":
        credit[0] = 0.0
    elif first_token != "subtract_prompt":
        raise CreditError("there is no such rule", expected=", ".join(RULES), got=repr(first_token))
    return mix * credit + (1.0 - mix) * terminal(scores[-1], len(credit), like=scores)


def terminal(reward: Any, tokens: int, like: Any = None) -> Any:
    """Give the whole reward to the last of some tokens, ``[T]``; of the kind of ``like``."""
    found = _zeros(tokens, like)
    found[-1] = reward
    return found


def uniform(reward: Any, tokens: int, like: Any = None) -> Any:
    """Give each of some tokens the same share of a reward, ``[T]``: a control."""
    return _zeros(tokens, like) + reward / tokens


def attention_credit(reward: Any, attention: Array, mix: float = 0.5) -> Array:
    r"""Give tokens a reward by what the last one looks at: :math:`b\,a_t R + (1-b)\,R\,[t=T]` (ABC, Chan et al. 2024).

    Parameters
    ----------
    reward
        R.
    attention
        ``[T]``: of the last token in the last layer, mean over heads; its sum is scaled to 1.
    mix
        b.

    Raises
    ------
    CreditError
        If the attention is nowhere, or negative somewhere.
    """
    total = attention.sum()
    if not total > 0 or bool((attention < 0).any()):
        raise CreditError("attention is a share of each token", expected="numbers from 0 up, not all 0")
    return mix * reward * attention / total + (1.0 - mix) * terminal(reward, len(attention), like=attention)


def _scores(given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return given if given.is_floating_point() else given.double()
    found = np.asarray(given)
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _zeros(tokens: int, like: Any) -> Any:
    if tokens < 1:
        raise CreditError("there is no token to give a reward to", expected="at least one", got=str(tokens))
    if isinstance(like, torch.Tensor):
        return like.new_zeros(tokens)
    return np.zeros(tokens, np.float64 if like is None else np.asarray(like).dtype)
