"""How a model's margins go with targets of the kind that it learned, on judgements that are held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset

from assay.evaluation import Calibration, brier, nll
from assay.evaluation.reliability import ece
from assay.feedback import Pairs
from assay.scorers.encoding import EncodedRecords
from assay.workflows.feedback_settings import MarginMatching
from assay.workflows.prepared import Prepared
from assay.workflows.targets import make_targets


def against_targets(
    target: Any,
    objective: Any,
    taught: Prepared | None,
    test: Dataset,
    records: EncodedRecords,
    margins: Mapping[int, float],
    calibration: Calibration | None,
) -> dict[str, Any] | None:
    """Measure margins against soft targets, raw and calibrated.

    The evaluation asks who was preferred; this asks how sure one could be, which is what margin matching teaches.
    ECE counts correct with probability p.

    Parameters
    ----------
    target, objective
        `assay.workflows.feedback_settings`; None comes of targets other than those of margin matching.
    taught
        The training share: gamma and the scale of gaps are its own.
    test, records
        The share that is held out, and the same encoded.
    margins
        By the ids of judgements.
    calibration
        As stored with the model.
    """
    if not isinstance(target, MarginMatching) or objective.kind != "pairwise" or taught is None:
        return None
    made = make_targets(target, objective, test, Prepared(records), like=taught).records.pairs
    made = made.take(np.flatnonzero(np.isin(made.id, list(margins)) & (made.w > 0)))
    if not len(made):
        return None
    delta = np.array([margins[int(number)] for number in made.id])
    found = {"judgements": len(made), "least_nll": _entropy(made), "raw": _measured(delta, made)}
    return found | ({"calibrated": _measured(calibration.apply(delta), made)} if calibration is not None else {})


def line_of(found: Mapping[str, Any]) -> str:
    """Return the same as a sentence."""
    told = [
        f"{state} NLL {row['nll']:.4f}, Brier {row['brier']:.4f}, ECE {row['ece']:.4f}"
        for state in ("raw", "calibrated")
        if (row := found.get(state)) is not None
    ]
    least = f"no scorer can have an NLL below {found['least_nll']:.4f}"
    return f"against the soft targets of {found['judgements']:,} held-out judgements: {'; '.join(told)} ({least})"


def _measured(delta: np.ndarray, made: Pairs) -> dict[str, float]:
    return {
        "nll": nll(delta, made.p, made.w),
        "brier": brier(delta, made.p, made.w),
        "ece": ece(delta, made.p, made.w, soft=True),
    }


def _entropy(made: Pairs) -> float:
    """Return the mean entropy of the targets: the NLL of a scorer that knows them, in nats."""
    p = np.clip(made.p, np.finfo(float).tiny, 1.0)
    q = np.clip(1.0 - made.p, np.finfo(float).tiny, 1.0)
    return float(np.average(-(made.p * np.log(p) + (1.0 - made.p) * np.log(q)), weights=made.w))
