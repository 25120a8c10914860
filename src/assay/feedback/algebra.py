"""The edge algebra: what may be done to judgements. Each function is pure and returns new `Pairs`.

The laws (tested as properties): swap and flip are their own inverse; a swap never changes a loss; smoothing by e1 and
then e2 is smoothing by ``e1 + e2 - 2*e1*e2``, and commutes with swap and flip; a flip leaves the margin as it is, since
that is stated in the order of the pair; the last `set_p` or `set_m` wins; scaling weights is multiplicative, a
factor of 0 equals dropping, and a common factor changes nothing, since losses are divided by the sum of weights.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from assay.errors import DataError
from assay.feedback.pairs import Pairs

Where = np.ndarray | slice
_ALL = slice(None)


class DoubleCountingWarning(UserWarning):
    """Raised as a warning where one gap is in both p and m because the caller insisted."""


def swap(given: Pairs, where: Where = _ALL) -> Pairs:
    """Name the two responses in the other order: (b, a, 1-p, -m, w)."""
    new = {name: getattr(given, name).copy() for name in ("a", "b", "length_a", "length_b", "p", "m")}
    for one, other in (("a", "b"), ("b", "a"), ("length_a", "length_b"), ("length_b", "length_a")):
        new[one][where] = getattr(given, other)[where]
    new["p"][where], new["m"][where] = 1.0 - given.p[where], -given.m[where]
    return replace(given, **new)


def flip(given: Pairs, where: Where = _ALL) -> Pairs:
    """Take the judgement back and say the opposite: p becomes 1-p; m stays, being in the order of the pair."""
    p = given.p.copy()
    p[where] = 1.0 - given.p[where]
    return replace(given, p=p)


def flip_some(given: Pairs, share: float, seed: int) -> Pairs:
    """Flip each judgement with probability ``share``: in expectation `smooth` by that share."""
    return flip(given, np.random.default_rng(seed).random(len(given)) < _share(share, "share"))


def smooth(given: Pairs, epsilon: float | np.ndarray, where: Where = _ALL) -> Pairs:
    """Assume that a share of judgements is wrong: p becomes (1-e)*p + e*(1-p)."""
    e = np.broadcast_to(np.asarray(epsilon, np.float64), given.p.shape)
    if np.any(~((e >= 0) & (e <= 1))):
        raise DataError("smoothing is a share", expected="a number from 0 to 1", got=str(epsilon))
    p = given.p.copy()
    p[where] = ((1.0 - e) * given.p + e * (1.0 - given.p))[where]
    return replace(given, p=p)


def set_p(given: Pairs, p: np.ndarray | float, signal: str, where: Where = _ALL, *, twice: bool = False) -> Pairs:
    """Overwrite the target.

    Parameters
    ----------
    given
        Pairs.
    p
        Targets, a number or one per judgement (``[E]``, also with ``where``).
    signal
        What p was computed from, such as ``"grades"``; remembered, so that the same gap is not used for a margin too.
    where
        Pairs concerned.
    twice
        Allow p and m of one signal, with a warning.

    Raises
    ------
    DataError
        If p is no probability, or the margin comes from the same signal.
    """
    value = np.broadcast_to(np.asarray(p, np.float64), given.p.shape)
    if np.any(~((value[where] >= 0) & (value[where] <= 1))):
        raise DataError("a target is a probability", expected="numbers from 0 to 1", got=str(p))
    target, told = given.p.copy(), given.p_from.copy()
    target[where], told[where] = value[where], signal
    return _counted_once(replace(given, p=target, p_from=told), twice=twice)


def set_m(given: Pairs, m: np.ndarray | float, signal: str, where: Where = _ALL, *, twice: bool = False) -> Pairs:
    """Overwrite the additive margin, in score units and in the order of the pair; otherwise as `set_p`."""
    value = np.broadcast_to(np.asarray(m, np.float64), given.m.shape)
    if not np.all(np.isfinite(value[where])):
        raise DataError("a margin is a finite number", expected="numbers in the unit of the scores", got=str(m))
    margin, told = given.m.copy(), given.m_from.copy()
    margin[where], told[where] = value[where], signal
    return _counted_once(replace(given, m=margin, m_from=told), twice=twice)


def scale_w(given: Pairs, factor: np.ndarray | float, where: Where = _ALL) -> Pairs:
    """Multiply weights by a factor >= 0, a number or one per judgement."""
    value = np.broadcast_to(np.asarray(factor, np.float64), given.w.shape)
    if np.any(~((value[where] >= 0) & np.isfinite(value[where]))):
        raise DataError("a weight factor is a number of 0 or above", got=str(factor))
    w = given.w.copy()
    w[where] = given.w[where] * value[where]
    return replace(given, w=w)


def drop(given: Pairs, where: np.ndarray) -> Pairs:
    """Leave judgements out; those kept and those dropped are a partition of the given ones."""
    keep = np.ones(len(given), bool)
    keep[where] = False
    return given.take(keep)


def append(given: Pairs, extra: Pairs) -> Pairs:
    """Add judgements, under new ids."""
    return given.joined(extra)


def reversed_copy(given: Pairs, d0: np.ndarray, signal: str, where: Where = _ALL) -> Pairs:
    """Append PCRM's constraint of each judgement: the same pair with p reversed and ``m = d0`` (Zhou et al. 2024).

    With the first record at ``p = 1, m = 0`` the optimal margin is ``d0 / 2``. ``d0`` is in the order of preference: it
    bounds the margin of the preferred response over the other, whichever is named first. Ties are left as they are.
    """
    copied = given.take(np.arange(len(given))[where])
    bound = np.broadcast_to(np.asarray(d0, np.float64), given.p.shape)[where]
    first = np.sign(copied.p - 0.5)
    kept = first != 0
    copied, bound, first = copied.take(kept), bound[kept], first[kept]
    extra = replace(
        copied,
        p=1.0 - copied.p,
        m=copied.m + first * bound,
        m_from=np.full(len(copied), signal, object),
        p_from=copied.p_from,
    )
    return append(given, extra)


def merged(given: Pairs) -> Pairs:
    """Merge judgements of one pair with equal m: ``w = w1 + w2``, ``p = (w1*p1 + w2*p2) / w``. Exact for every loss.

    The order of first appearance, its source, annotator and id are kept; pairs named in both orders are one pair.
    """
    turned = given.a > given.b
    ordered = swap(given, turned)
    keys = np.stack([ordered.row, ordered.a, ordered.b], axis=1).astype(np.float64)
    _, first, of = np.unique(np.column_stack([keys, ordered.m]), axis=0, return_index=True, return_inverse=True)
    of = of.ravel()
    w = np.bincount(of, weights=ordered.w)
    p = np.bincount(of, weights=ordered.w * ordered.p) / np.where(w > 0, w, 1.0)
    p = np.where(w > 0, p, ordered.p[first])
    result = replace(ordered.take(first), p=p, w=w)
    order = np.argsort(first, kind="stable")
    result = result.take(order)
    return swap(result, turned[first][order])


def _counted_once(given: Pairs, *, twice: bool) -> Pairs:
    """Refuse one gap in both p and m: the optimum of the loss would be the sum of both."""
    soft = (given.p > 0) & (given.p < 1) & (given.p != 0.5)
    both = soft & (given.m != 0) & (given.p_from == given.m_from)
    if both.any():
        at = int(np.flatnonzero(both)[0])
        told: dict[str, Any] = {
            "where": f"record {given.row[at]}, responses {given.a[at]} and {given.b[at]}; {int(both.sum()) - 1} more",
            "expected": "the gap in the target p, or in the margin m",
            "got": f"p = {given.p[at]:.4g} and m = {given.m[at]:.4g}, both from {given.p_from[at]!r}: the best margin "
            f"would be m + logit(p) = {given.m[at] + np.log(given.p[at] / (1 - given.p[at])):.4g}",
            "remedy": "choose target.kind mmpo (p) or margin (m), not both",
        }
        error = DataError("one gap would count twice", **told)
        if not twice:
            raise error
        warnings.warn(str(error), DoubleCountingWarning, stacklevel=3)
    return given


def _share(value: float, name: str) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"{name} is out of range", expected="a number from 0 to 1", got=str(value))
    return value
