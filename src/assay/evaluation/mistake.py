"""The most confident mistakes of a scorer, with their texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from assay.evaluation.calibrators import Calibration
from assay.evaluation.metrics import decided
from assay.feedback.pairs import Pairs
from assay.feedback.records import Message


@dataclass(frozen=True)
class Mistake:
    """One judgement on which the scorer prefers the other side.

    Attributes
    ----------
    prompt
        The conversation before the responses.
    better, worse
        Texts of the responses that the judge preferred and did not.
    margin
        Score of the worse response minus score of the better one, raw, above 0.
    probability
        P(worse is better) according to the scorer, calibrated where it can be.
    target
        Judged P(better is better), in (0.5, 1].
    source
        Who judged.
    row
        Row of the data.
    """

    prompt: list[Message]
    better: str
    worse: str
    margin: float
    probability: float
    target: float
    source: str
    row: int

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        return asdict(self)


def mistakes(pairs: Pairs, delta: np.ndarray, k: int = 10, *, calibration: Calibration | None = None) -> list[Mistake]:
    """Return the ``k`` wrong judgements of largest |delta|, at most one for any record, most confident first.

    Parameters
    ----------
    delta
        Raw margins of a over b, float [E]. Judged ties, weight 0 and margins of exactly 0 are no mistakes.
    calibration
        Of the stated probabilities.
    """
    delta = np.asarray(delta, dtype=np.float64)
    side = np.sign(pairs.p - 0.5)
    wrong = np.flatnonzero(decided(pairs.p) & (delta * side < 0) & (pairs.w > 0))
    ranked = wrong[np.argsort(-np.abs(delta[wrong]), kind="stable")]
    found: list[Mistake] = []
    rows: set[int] = set()
    for index in ranked:
        if len(found) == k:
            break
        row = int(pairs.row[index])
        if row in rows:
            continue
        rows.add(row)
        prompt, first, second = pairs.texts(int(index))
        better, worse = (first, second) if side[index] > 0 else (second, first)
        margin = float(abs(delta[index]))
        target = float(max(pairs.p[index], 1 - pairs.p[index]))
        probability = float(expit(calibration.apply(np.array(margin)) if calibration else margin))
        found.append(Mistake(prompt, better, worse, margin, probability, target, str(pairs.source[index]), row))
    return found
