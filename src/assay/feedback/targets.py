"""Margin matching (MMPO): quality gaps of graded responses become soft Bradley-Terry targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from assay.errors import DataError

Transform = Literal["identity", "log1p", "rank"]

#: Targets beyond these are as good as 1 or 0, or as one half; a useful gamma leaves most of them between.
SATURATED, FLAT = 0.99, 0.55
_MOST_SATURATED = 0.5
_MOST_FLAT = 0.9


class TargetWarning(UserWarning):
    """Raised as a warning where targets say nearly the same of all judgements."""


def margin_targets(
    gap: np.ndarray | float, gamma: float | None, transform: Transform | Callable[[np.ndarray], np.ndarray] = "identity"
) -> np.ndarray:
    r"""Turn quality gaps into targets, ``p = sigmoid(gamma * T(g))`` (MMPO, Kim et al. 2024).

    Trained to such a target by cross-entropy, the margin of a scorer tends to ``gamma * T(g)`` instead of growing
    without end. ``gamma=None`` is plain Bradley-Terry: 1, 0, or one half for a tie. The released code takes 0 for off
    too; here ``gamma=0`` means what the formula says, one half for all.

    Parameters
    ----------
    gap
        Grade of the first response minus that of the second, in the unit of the grades; a number or an array.
    gamma
        Factor >= 0, in one over that unit.
    transform
        Of the gaps, odd and rising: ``"identity"`` for bounded scales, ``"log1p"`` of the absolute gap with its sign
        for counts, ``"rank"`` (the share of gaps that are no larger, mid-ranks, with the sign) for scales of unknown
        or heavy-tailed unit; or a function of an array.

    Returns
    -------
    numpy.ndarray
        P(first better), float64, shape of ``gap``.

    Raises
    ------
    DataError
        If a gap is not a finite number, ``gamma`` is negative or no number, or the transform is unknown.

    Examples
    --------
    >>> margin_targets([1.5, 0.0, -1.5], gamma=1.1).round(6)
    array([0.838891, 0.5     , 0.161109])
    """
    gaps = _checked_gaps(gap)
    if gamma is None:
        return np.asarray((np.sign(gaps) + 1.0) / 2.0)
    return np.asarray(expit(checked_gamma(gamma) * transformed(gaps, transform)))


def transformed(
    gap: np.ndarray,
    transform: Transform | Callable[[np.ndarray], np.ndarray],
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Return T(g), float64; see `margin_targets`. ``reference``: the gaps that ``"rank"`` ranks among; None: these."""
    gap = _checked_gaps(gap)
    if callable(transform):
        return np.asarray(transform(gap), np.float64)
    if transform == "identity":
        return gap
    if transform == "log1p":
        return np.asarray(np.sign(gap) * np.log1p(np.abs(gap)))
    if transform == "rank":
        among = np.sort(np.abs(gap if reference is None else _checked_gaps(reference)).ravel())
        among = among[among > 0]  # a tie is no gap, so it takes no part in the ranking
        size = np.abs(gap)
        middle = (np.searchsorted(among, size, "left") + np.searchsorted(among, size, "right")) / 2.0
        return np.asarray(np.sign(gap) * middle / max(len(among), 1))
    raise DataError(
        "no such transform of gaps",
        expected="identity, log1p, rank, or a function of an array",
        got=repr(transform),
        remedy="log-ratios of counts are gaps of grades on a log scale: target.scale log",
    )


def checked_gamma(gamma: float) -> float:
    """Return gamma; refuse what is negative or no number, and warn of 0.

    Raises
    ------
    DataError
        With the reason.
    """
    if not np.isfinite(gamma) or gamma < 0:
        raise DataError(
            "gamma must be a number of 0 or above",
            expected="one over the unit of the grades, such as 0.3, 1.1 or 2.2",
            got=f"{gamma}",
            remedy="a negative gamma would prefer the worse response; if low grades are good, negate the grades",
        )
    if gamma == 0:
        warnings.warn(
            "gamma is 0, so every target is one half and nothing is learned; leave gamma out for plain labels",
            TargetWarning,
            stacklevel=3,
        )
    return float(gamma)


def _checked_gaps(gap: Any) -> np.ndarray:
    """Return gaps as float64."""
    try:
        gaps = np.asarray(gap, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            "grades must be numbers",
            expected="differences of grades",
            got=repr(gap if np.ndim(gap) == 0 else next((g for g in gap if not isinstance(g, int | float)), gap)),
            remedy="map words to numbers first, in the order of their worth",
        ) from error
    bad = np.flatnonzero(~np.isfinite(gaps))
    if len(bad):
        raise DataError(
            "a gap is not a finite number",
            where=f"judgement {bad[0]}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""),
            expected="the difference of two grades that are there",
            got=str(gaps.ravel()[bad[0]]),
            remedy="drop judgements of responses without a grade; cap infinite grades",
        )
    return gaps


def target_summary(target: np.ndarray, scaled_gap: np.ndarray) -> dict[str, Any]:
    """Describe targets: quantiles of ``gamma * T(g)`` without its sign, and how many are saturated, flat, or tied.

    Parameters
    ----------
    target, scaled_gap
        ``[E]``: p, and what it is the sigmoid of.

    Returns
    -------
    dict
        ``quantiles`` (name to value), and the shares ``saturated`` (beyond 0.99), ``flat`` (within 0.05 of one half,
        ties left out) and ``tied``.
    """
    if not len(target):
        return {"quantiles": {}, "saturated": 0.0, "flat": 0.0, "tied": 0.0}
    sure = np.maximum(target, 1.0 - target)
    tied = scaled_gap == 0
    levels = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}
    found = np.percentile(np.abs(scaled_gap), list(levels.values()))
    return {
        "quantiles": {name: float(value) for name, value in zip(levels, found, strict=True)},
        "saturated": float((sure > SATURATED).mean()),
        "flat": float(((sure < FLAT) & ~tied).mean()),
        "tied": float(tied.mean()),
    }


def warn_of_extremes(summary: dict[str, Any], gamma: float) -> None:
    """Warn where most targets are as good as certain, or next to one half: the gaps then hardly reach the loss."""
    quantiles = ", ".join(f"{name} {value:.2g}" for name, value in summary["quantiles"].items())
    if summary["saturated"] > _MOST_SATURATED:
        warnings.warn(
            f"gamma {gamma:g} puts {summary['saturated']:.0%} of the targets beyond {SATURATED}: that is plain labels; "
            f"lower gamma. |gamma * gap|: {quantiles}",
            TargetWarning,
            stacklevel=2,
        )
    if summary["flat"] + summary["tied"] > _MOST_FLAT and gamma > 0:
        warnings.warn(
            f"gamma {gamma:g} leaves {summary['flat'] + summary['tied']:.0%} of the targets within {FLAT - 0.5:.2f} of "
            f"one half: hardly anything is learned; raise gamma. |gamma * gap|: {quantiles}",
            TargetWarning,
            stacklevel=2,
        )
