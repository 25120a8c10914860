"""Calibration maps beside temperature: isotonic for pairs, and Platt's line for single responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.isotonic import IsotonicRegression

from assay.errors import DataError
from assay.evaluation.metrics import checked, decided, nll

FEW_FOR_ISOTONIC = 200


@dataclass(frozen=True)
class Isotonic:
    """P(a better) as a rising function of the margin, by linear interpolation between steps.

    Odd about one half, so that naming the responses in the other order gives the complement.

    Attributes
    ----------
    margin, level
        Margins, rising, and P there; ``[steps]``. Beyond them P is constant.
    n
        Judgements it was fitted on.
    nll_before, nll_after
        Mean negative log-likelihood in nats of the raw margins and of these probabilities, on those same judgements.
    flags
        Reasons for caution, explained in ``FLAG_MEANINGS``.
    """

    margin: tuple[float, ...]
    level: tuple[float, ...]
    n: int
    nll_before: float
    nll_after: float
    flags: tuple[str, ...] = ()

    def probability(self, delta: np.ndarray) -> np.ndarray:
        """Return the calibrated P(a better), float64, same shape."""
        return np.asarray(np.interp(np.asarray(delta, np.float64), self.margin, self.level))

    def apply(self, delta: np.ndarray) -> np.ndarray:
        """Return the calibrated margins, whose sigmoid is `probability`."""
        return np.asarray(logit(self.probability(delta)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Isotonic:
        """Rebuild from ``to_dict``."""
        lists = {name: tuple(values.get(name, ())) for name in ("margin", "level", "flags")}
        return cls(**{**values, **lists})


def fit_isotonic(delta: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> Isotonic:
    """Fit an isotonic calibration: the rising steps of least squared error, by pooled adjacent violators.

    Each judgement enters in both orders, which makes the result odd. P is kept ``1 / (n + 2)`` away from 0 and 1, where
    a single surprise would cost without end. It needs many more judgements than a temperature: hundreds, rather than
    tens.

    Parameters
    ----------
    delta, p, w
        Margins of models that did not see the judgements, targets, and weights, float ``[E]``.

    Raises
    ------
    DataError
        If there is no judgement of positive weight.
    """
    delta, p, w = checked(delta, p, w)
    used = w > 0
    if not used.any():
        raise DataError(
            "there are no judgements to fit a calibration on",
            expected="at least one judgement with weight above 0",
            got=f"{len(p)} judgements, none of weight above 0",
        )
    x, y = np.concatenate([delta[used], -delta[used]]), np.concatenate([p[used], 1.0 - p[used]])
    least = 1.0 / (int(used.sum()) + 2)
    model = IsotonicRegression(y_min=least, y_max=1.0 - least, out_of_bounds="clip")
    model.fit(x, y, sample_weight=np.concatenate([w[used], w[used]]))
    margin, level = model.X_thresholds_, model.y_thresholds_
    # odd to the last bit, which pooling in floating point is not
    level = (level + 1.0 - np.interp(-margin, margin, level)) / 2.0
    after = logit(np.interp(delta, margin, level))
    flags = ("few_for_isotonic",) if np.count_nonzero(decided(p) & used) < FEW_FOR_ISOTONIC else ()
    return Isotonic(tuple(margin.tolist()), tuple(level.tolist()), len(p), nll(delta, p, w), nll(after, p, w), flags)


@dataclass(frozen=True)
class Platt:
    """P(good) = sigmoid(slope * score + offset), for single responses (Platt 1999).

    Of two responses, ``sigmoid(slope * margin)`` is then P(a is the good one), given that just one of them is good; so
    the pair needs no offset.

    Attributes
    ----------
    slope, offset
        Of the line, in one over the unit of the scores, and in log-odds.
    n
        Responses it was fitted on.
    nll_before, nll_after
        Mean negative log-likelihood in nats of the raw scores and of the line, on those same responses.
    flags
        Reasons for caution, explained in ``FLAG_MEANINGS``.
    """

    slope: float
    offset: float
    n: int
    nll_before: float
    nll_after: float
    flags: tuple[str, ...] = ()

    def logit(self, scores: np.ndarray) -> np.ndarray:
        """Return the log-odds of being good, float64, same shape."""
        return self.slope * np.asarray(scores, np.float64) + self.offset

    def good(self, scores: np.ndarray) -> np.ndarray:
        """Return P(good) of single responses, float64, same shape."""
        return np.asarray(expit(self.logit(scores)))

    def apply(self, delta: np.ndarray) -> np.ndarray:
        """Return the calibrated margins of pairs."""
        return self.slope * np.asarray(delta, np.float64)

    def probability(self, delta: np.ndarray) -> np.ndarray:
        """Return P(a is the good one) of pairs of which one is good."""
        return np.asarray(expit(self.apply(delta)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {**vars(self), "flags": list(self.flags)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Platt:
        """Rebuild from ``to_dict``."""
        return cls(**{**values, "flags": tuple(values.get("flags", ()))})


def fit_platt(scores: np.ndarray, good: np.ndarray, w: np.ndarray | None = None) -> Platt:
    """Fit slope and offset by maximum likelihood, with Platt's targets: 1 becomes ``(n1 + 1) / (n1 + 2)``, 0 alike.

    So they stay finite where the scores separate good from bad.

    Parameters
    ----------
    scores, good, w
        Scores of models that did not see the responses, P(good) in [0, 1], and weights, float ``[N]``.

    Raises
    ------
    DataError
        If nothing is good, or nothing bad.
    """
    scores, good, w = checked(scores, good, w)
    many, few = float((w * good).sum()), float((w * (1 - good)).sum())
    if not (many > 0 and few > 0):
        raise DataError(
            "all responses are judged alike, so no threshold can be told",
            expected="good ones and bad ones",
            got=f"a weight of {many:g} good and {few:g} bad",
        )
    target = good * (many + 1) / (many + 2) + (1 - good) / (few + 2)
    size = float(np.sqrt(np.average(np.square(scores), weights=w))) or 1.0

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * scores / size + line[1]
        value = -np.sum(w * (target * log_expit(z) + (1 - target) * log_expit(-z)))
        slope = w * (expit(z) - target)
        return float(value), np.array([np.sum(slope * scores / size), np.sum(slope)])

    found = minimize(loss, np.array([0.0, float(logit(many / (many + few)))]), jac=True, method="BFGS", tol=1e-10)
    slope, offset = float(found.x[0] / size), float(found.x[1])
    if slope <= 0:  # never the wrong way round: then the scores say nothing
        slope, offset = 0.0, float(logit(np.average(target, weights=w)))
    before, after = nll(scores, good, w), nll(slope * scores + offset, good, w)
    flags = ("no_signal",) if slope <= 0 else ()
    return Platt(slope, offset, len(scores), before, after, flags)
