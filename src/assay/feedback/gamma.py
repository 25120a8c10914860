"""The factor of margin matching, fitted by likelihood on judgements that are independent of the grade."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

from assay.errors import DataError
from assay.feedback.pairs import Pairs
from assay.feedback.targets import Transform, transformed

FEWEST_ITEMS = 10
_LARGEST = 1e3  # times the root mean square gap: beyond it every target is 0 or 1


@dataclass(frozen=True)
class Gamma:
    """A fitted factor.

    Attributes
    ----------
    value
        Maximum-likelihood gamma >= 0, in one over the unit of the transformed gaps.
    ci95
        Percentile interval over resampled items.
    items, judgements
        How many items (pairs of responses), and how many ordered pairs of gap and verdict.
    nll, nll_without
        Mean negative log-likelihood of the verdicts in nats, at ``value`` and at gamma 0 (log 2).
    """

    value: float
    ci95: tuple[float, float]
    items: int
    judgements: int
    nll: float
    nll_without: float

    @property
    def usable(self) -> bool:
        """Whether the interval lies above 0: else the data does not show that the grade says anything."""
        return self.ci95[0] > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {**asdict(self), "ci95": list(self.ci95), "usable": self.usable}


def fit_gamma(
    gap: np.ndarray,
    better: np.ndarray,
    item: np.ndarray,
    *,
    transform: Transform = "identity",
    grade: str = "the grade",
    resamples: int = 2000,
    seed: int = 0,
) -> Gamma:
    """Fit ``P(better) = sigmoid(gamma * T(gap))`` by maximum likelihood, without an intercept, so order is no matter.

    Parameters
    ----------
    gap
        ``[J]``: gap of grades, first minus second.
    better
        ``[J]``: 1 where an independent judgement preferred the first response, 0 where the second, 0.5 where neither.
    item
        ``[J]``: what was judged; items are resampled whole.
    transform
        As in `margin_targets`.
    grade
        Name of the column of the grade, for messages.
    resamples, seed
        Of the bootstrap.

    Raises
    ------
    DataError
        If the verdicts are the signs of the gaps, so that they are no independent judgement and the likelihood rises
        with gamma without end; or if there are too few items.
    """
    scaled = transformed(gap, transform)
    better = np.asarray(better, np.float64)
    names, of = np.unique(np.asarray(item), return_inverse=True)
    used = scaled != 0
    if len(names) < FEWEST_ITEMS or not used.any():
        raise DataError(
            "too few independent judgements to fit gamma",
            expected=f"at least {FEWEST_ITEMS} pairs that were graded and then judged again, or by someone else",
            got=f"{len(names)} pairs, {int(used.sum())} judgements of them with a gap",
            remedy="give target.gamma a number, or a list of numbers to sweep on the validation share",
        )
    if np.all((better[used] - 0.5) * scaled[used] > 0):
        raise DataError(
            f"the verdicts repeat the sign of {grade} in every one of {int(used.sum())} judgements",
            expected="verdicts that are independent of the grade: the item judged again, or a second annotator",
            got=f"verdicts that follow from {grade}, whose likelihood rises with gamma without end",
            remedy="give target.gamma a number, or a list of numbers to sweep on the validation share",
        )
    size = float(np.sqrt(np.mean(scaled[used] ** 2)))
    best = _best(scaled / size, better, np.ones(len(scaled)))
    random = np.random.default_rng(seed)
    drawn = (random.multinomial(len(names), np.full(len(names), 1 / len(names))) for _ in range(resamples))
    found = [_best(scaled / size, better, times[of].astype(np.float64)) for times in drawn]
    low, high = np.quantile(found, [0.025, 0.975]) / size
    value = best / size
    return Gamma(
        value=value,
        ci95=(float(low), float(high)),
        items=len(names),
        judgements=len(scaled),
        nll=float(-_likelihood(value, scaled, better).mean()),
        nll_without=float(np.log(2.0)),
    )


def repeated_gaps(given: Pairs, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair each judgement's gap with every other judgement of the same two responses.

    Where annotators are known, with those of other annotators only: a row that was copied says nothing new.

    Parameters
    ----------
    given
        Judgements.
    gap
        ``[E]``: how far each says that a is better than b; NaN where it does not say.

    Returns
    -------
    tuple
        ``gap``, ``better`` and ``item`` for `fit_gamma`, in favour of the response that comes first in the record.
        Empty where no pair was judged twice.
    """
    turned = given.a > given.b
    p, signed = np.where(turned, 1.0 - given.p, given.p), np.where(turned, -gap, gap)
    item = pair_numbers(given)
    order = np.argsort(item, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(item[order]) != 0])) if len(item) else np.zeros(0, np.int64)
    gaps, verdicts, items = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        members = order[start:end]
        grader, judge = (index.ravel() for index in np.meshgrid(members, members, indexing="ij"))
        one_person = (given.annotator[grader] == given.annotator[judge]) & (given.annotator[grader] != None)  # noqa: E711
        apart = (grader != judge) & np.isfinite(signed[grader]) & ~one_person.astype(bool)
        gaps.append(signed[grader[apart]])
        verdicts.append((np.sign(p[judge[apart]] - 0.5) + 1.0) / 2.0)
        items.append(item[judge[apart]])
    return np.concatenate(gaps), np.concatenate(verdicts), np.concatenate(items)


def pair_numbers(given: Pairs) -> np.ndarray:
    """Return a number for each pair of responses that is judged, whichever is named first, int64 ``[E]``."""
    low, high = np.minimum(given.a, given.b), np.maximum(given.a, given.b)
    return np.unique(np.stack([given.row, low, high], axis=1), axis=0, return_inverse=True)[1].ravel()


def _likelihood(gamma: float, gap: np.ndarray, better: np.ndarray) -> np.ndarray:
    return np.asarray(better * log_expit(gamma * gap) + (1.0 - better) * log_expit(-gamma * gap))


def _best(gap: np.ndarray, better: np.ndarray, times: np.ndarray) -> float:
    """Return the gamma of most likelihood, 0 where the verdicts contradict the gaps; the NLL is convex in gamma."""
    if np.sum(times * (0.5 - better) * gap) >= 0:
        return 0.0
    if np.sum(times * (expit(_LARGEST * gap) - better) * gap) <= 0:
        return _LARGEST
    found = minimize_scalar(
        lambda log: -float(np.sum(times * _likelihood(np.exp(log), gap, better))),
        bounds=(np.log(1e-4), np.log(_LARGEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
