"""Judging scores of single responses by their grades: rank correlation, and for good and bad ones P(good)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from assay.evaluation.intervals import GAP, RESAMPLES, SHARE, Estimate, GroupBootstrap
from assay.evaluation.isotonic import Platt
from assay.evaluation.metrics import brier_terms, nll_terms


@dataclass(frozen=True)
class RatedEvaluation:
    """What `evaluate_rated` found; intervals by bootstrap over split groups.

    Attributes
    ----------
    rank
        Spearman's correlation of scores and grades over all responses.
    rank_within
        Its mean over the prompts that have two grades or more that differ; ``n`` counts prompts. This is what a reward
        model is for: scores of different prompts need not be comparable.
    auroc
        P(a good response scores above a bad one); None unless every grade is 0 or 1.
    accuracy, nll, brier
        Of P(good) by the calibration of single responses; None without one.
    n_responses, n_groups
        Graded responses, and split groups.
    """

    rank: Estimate
    rank_within: Estimate
    n_responses: int
    n_groups: int
    auroc: Estimate | None = None
    accuracy: Estimate | None = None
    nll: Estimate | None = None
    brier: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, for JSON."""
        return {k: v.to_dict() if isinstance(v, Estimate) else v for k, v in vars(self).items()}

    def lines(self) -> list[str]:
        """Return sentences for the terminal and the report."""
        lines = [
            f"scores and grades of {self.n_responses:,} held-out responses: rank correlation {_shown(self.rank)}"
            + (f", within a prompt {_shown(self.rank_within)}" if self.rank_within.n else "")
        ]
        if self.auroc is not None:
            lines.append(f"a good response scores above a bad one with probability {_shown(self.auroc)}")
        if self.nll is not None and self.accuracy is not None:
            lines.append(f"P(good): accuracy {_shown(self.accuracy)}, NLL {_shown(self.nll)}")
        return lines


def _shown(found: Estimate) -> str:
    tail = f" ({found.ci95[0]:.3f} to {found.ci95[1]:.3f})" if found.ci95 else ""
    return f"{found.value:.3f}{tail}"


def evaluate_rated(
    scores: np.ndarray,
    grades: np.ndarray,
    record: np.ndarray,
    group: np.ndarray,
    *,
    platt: Platt | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RatedEvaluation | None:
    """Judge scores by grades that did not train them.

    Parameters
    ----------
    scores, grades
        float ``[N]``; responses whose grade is NaN do not count.
    record, group
        ``[N]``: the prompt and the split group of each response.
    platt
        Fitted on other responses; gives P(good) where grades are probabilities of being good.
    seed, resamples
        Of the bootstrap.

    Returns
    -------
    RatedEvaluation or None
        None where fewer than two responses are graded.
    """
    known = np.isfinite(grades)
    scores, grades, record, group = scores[known].astype(np.float64), grades[known], record[known], group[known]
    if len(grades) < 2:
        return None
    bootstrap = GroupBootstrap(group, resamples, seed)
    within, prompts = _within(scores, grades, record)
    own = GroupBootstrap(group[prompts], resamples, seed)
    result: dict[str, Any] = {
        "rank": bootstrap.resampled(lambda i: _spearman(scores[i], grades[i]), between=GAP),
        "rank_within": own.ratio(within, np.ones(len(within)), between=GAP),
        "n_responses": len(grades),
        "n_groups": bootstrap.n_groups,
    }
    if np.isin(grades, (0.0, 1.0)).all():
        result["auroc"] = bootstrap.resampled(lambda i: _auroc(scores[i], grades[i]), between=SHARE)
    if platt is not None and grades.min() >= 0 and grades.max() <= 1:
        logits, weight = platt.logit(scores), np.ones(len(grades))
        decided = grades != 0.5
        hits = (logits > 0) == (grades > 0.5)
        result["accuracy"] = bootstrap.ratio(hits.astype(float), decided.astype(float), between=SHARE)
        result["nll"] = bootstrap.ratio(nll_terms(logits, grades), weight)
        result["brier"] = bootstrap.ratio(brier_terms(logits, grades), weight)
    return RatedEvaluation(**result)


def _within(scores: np.ndarray, grades: np.ndarray, record: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation within each prompt that has one, and the number of its first response."""
    order = np.argsort(record, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(record[order]) != 0]))
    found, first = [], []
    for members in np.split(order, starts[1:]):
        if len(np.unique(grades[members])) > 1:
            value = _spearman(scores[members], grades[members])
            # equal scores say nothing of the order
            found.append(0.0 if np.isnan(value) else value)
            first.append(members[0])
    return np.array(found), np.array(first, np.int64)


def _spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    if np.ptp(scores) == 0 or np.ptp(grades) == 0:
        return float("nan")
    return float(spearmanr(scores, grades).statistic)


def _auroc(scores: np.ndarray, grades: np.ndarray) -> float:
    return float(roc_auc_score(grades, scores)) if 0 < grades.mean() < 1 else float("nan")
