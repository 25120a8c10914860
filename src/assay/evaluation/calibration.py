"""Temperature: the one number that turns margins into calibrated probabilities without changing any order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from assay.errors import DataError
from assay.evaluation.metrics import checked, decided, nll

FEW_JUDGEMENTS = 20
_FLATTEST = 1e-3  # the margins' root mean square is divided by at most 1000 ...
_STEEPEST = 1e4  # ... and multiplied by at most 10,000

#: What each flag of a fitted temperature means, in words for reports.
FLAG_MEANINGS = {
    "few_judgements": f"fewer than {FEW_JUDGEMENTS} decided judgements: the temperature is hardly known",
    "separated": "every judgement agrees with the margin's sign: likelihood alone would make every margin certain, "
    "so the targets were smoothed to (n+1)/(n+2)",
    "no_signal": "the margins do not predict these judgements: all probabilities were pulled to one half",
    "constant": "all margins are 0: there is nothing to scale",
    "all_ties": "all judgements are ties: there is nothing to fit",
    "few_for_isotonic": "fewer than 200 decided judgements: the steps follow chance; a temperature needs fewer",
    "at_bound": "the likelihood still rises at the largest scale that is allowed",
}


@dataclass(frozen=True)
class Temperature:
    """P(a better) = sigmoid(delta / value).

    Attributes
    ----------
    value
        Temperature > 0 in units of the margin; above 1 the raw margins were over-confident.
    n
        Judgements it was fitted on.
    nll_before, nll_after
        Mean negative log-likelihood in nats at temperature 1 and at ``value``, on those same judgements.
    flags
        Reasons for caution, explained in ``FLAG_MEANINGS``; empty when the fit is sound.
    """

    value: float
    n: int
    nll_before: float
    nll_after: float
    flags: tuple[str, ...] = ()

    def apply(self, delta: np.ndarray) -> np.ndarray:
        """Return the calibrated margins ``delta / value``, float64, same shape."""
        return np.asarray(delta, dtype=np.float64) / self.value

    def probability(self, delta: np.ndarray) -> np.ndarray:
        """Return the calibrated P(a better), float64 in [0, 1], same shape."""
        return np.asarray(expit(self.apply(delta)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {**asdict(self), "flags": list(self.flags)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Temperature:
        """Rebuild from ``to_dict``."""
        return cls(**{**values, "flags": tuple(values.get("flags", ()))})


def _slope(scale: float, delta: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """Return d NLL / d scale at P = sigmoid(scale * delta), up to the factor sum(w); it rises with the scale."""
    return float(np.sum(w * (expit(scale * delta) - p) * delta))


def _best_scale(delta: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[float, str | None]:
    """Return the scale (1 / temperature) of least NLL for margins of root mean square 1, and a flag."""
    if _slope(_FLATTEST, delta, p, w) >= 0:
        return _FLATTEST, "no_signal"
    flag = None
    wrong_mass = np.where(delta > 0, 1 - p, p) * np.abs(delta) * w
    if not np.any(wrong_mass > 0):
        # Platt (1999): the posterior mean of a rate under a uniform prior after n successes keeps the optimum finite.
        n = int(np.count_nonzero(w * delta))
        p = p + (1 - 2 * p) / (n + 2)
        flag = "separated"
    if _slope(_STEEPEST, delta, p, w) <= 0:
        return _STEEPEST, flag or "at_bound"
    return float(brentq(_slope, _FLATTEST, _STEEPEST, args=(delta, p, w), xtol=1e-12, rtol=1e-12)), flag


def fit_temperature(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> Temperature:
    """Fit a temperature by maximum likelihood: the NLL is convex in 1 / temperature, so the optimum is unique.

    Parameters
    ----------
    delta, p, w
        Margins, targets (soft ones and ties included) and weights, float [E].

    Raises
    ------
    DataError
        If there is no judgement of positive weight.
    """
    delta, p, w = checked(delta, p, w)
    if not np.any(w > 0):
        raise DataError(
            "there are no judgements to fit a temperature on",
            expected="at least one judgement with weight above 0",
            got=f"{len(p)} judgements, none of weight above 0",
            remedy="hold out a larger share for calibration",
        )
    flags = ["few_judgements"] if np.count_nonzero(decided(p) & (w > 0)) < FEW_JUDGEMENTS else []
    size = float(np.sqrt(np.sum(w * delta**2) / np.sum(w)))
    scale = 1.0
    if size == 0.0:
        flags.append("constant")
    elif not np.any(decided(p) & (w > 0)):
        flags.append("all_ties")
    else:
        relative, flag = _best_scale(delta / size, p, w)
        scale = relative / size
        flags += [flag] if flag else []
    return Temperature(1.0 / scale, len(p), nll(delta, p, w), nll(delta * scale, p, w), tuple(flags))
