"""Preference strength: how sure models are of a judgement that none of them was trained on (Wang et al. 2024)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset

from assay.errors import DataError
from assay.evaluation.intervals import SHARE, Estimate, GroupBootstrap
from assay.feedback import Pairs, algebra
from assay.feedback.cross_prompts import CROSS_PROMPT
from assay.scorers import RewardModel
from assay.scorers.encoding import EncodedRecords
from assay.training import PreferenceArguments
from assay.training.objective import Objective
from assay.training.records import TrainingRecords
from assay.workflows.feedback_settings import Ensemble
from assay.workflows.heads import bootstrap_of_groups, record_folds, train_heads, without_bank

SIGNAL = "strength"

#: Deviation of the length that is set apart. Features hold length too; a wide column takes fewer steps of Adam to say
#: the same, so that it and not they come to explain what length can.
LENGTH_SPREAD = 5.0


class StrengthWarning(UserWarning):
    """Strength says little of these judgements."""


@dataclass(frozen=True)
class Strength:
    """Margins of judgements under models that did not see their groups.

    Attributes
    ----------
    margins
        float64 ``[E, members]``: in favour of the response that the judgement prefers; NaN for ties.
    id
        int64 ``[E]``: of the judgements.
    group
        ``[E]``: their split groups.
    """

    margins: np.ndarray
    id: np.ndarray
    group: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Strength, ``[E]``: below 0 the models would have judged the other way."""
        return np.asarray(self.margins.mean(axis=1))

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation over members, ``[E]``."""
        return np.asarray(self.margins.std(axis=1))

    def of(self, given: Pairs) -> np.ndarray:
        """Return the mean strength of some judgements by their ids, NaN where it is not known."""
        order = np.argsort(self.id)
        place = np.minimum(np.searchsorted(self.id[order], given.id), len(order) - 1)
        found = order[place]
        return np.where(self.id[found] == given.id, self.mean[found], np.nan)

    def doubted(self) -> Estimate:
        """Return the share of preferences that the models would have turned round; resampled by split group."""
        known = np.isfinite(self.mean)
        turned = (self.mean[known] < 0).astype(float)
        return GroupBootstrap(self.group[known]).ratio(turned, np.ones_like(turned), between=SHARE)

    def summary(self) -> dict[str, Any]:
        """Return quantiles and a histogram, and the share of judgements that the models would have turned round."""
        known = self.mean[np.isfinite(self.mean)]
        if not len(known):
            return {"judgements": 0}
        levels = (5, 10, 25, 50, 75, 90, 95)
        counts, bounds = np.histogram(known, bins=20)
        doubted = self.doubted()
        return {
            "judgements": len(known),
            "doubted": doubted.value,
            "doubted_ci95": list(doubted.ci95 or (0.0, 1.0)),
            "quantiles": {f"p{level}": float(v) for level, v in zip(levels, np.percentile(known, levels), strict=True)},
            "histogram": {"counts": counts.tolist(), "bounds": bounds.tolist()},
        }


def shares_of_members(groups: Sequence[str], fold_of: np.ndarray, members: int, seed: int) -> np.ndarray:
    """Return what each of ``members`` models per fold learns from, ``[R, folds * members]``; fold by fold.

    Every model sees a bootstrap sample of the groups, the same one in each fold, without those of the fold.
    """
    drawn = bootstrap_of_groups(groups, members, seed)
    folds = int(fold_of.max()) + 1
    return np.concatenate([drawn * (fold_of != fold)[:, None] for fold in range(folds)], axis=1)


def strength_of(records: EncodedRecords, fold_of: np.ndarray, values: np.ndarray, members: int) -> Strength:
    """Return the strength of all judgements from ``[texts, folds * members]`` scores by `shares_of_members`' models.

    Each judgement is scored by the models of its own fold only.
    """
    given = records.pairs
    margins = records.margins(values).reshape(len(given), -1, members)
    own = margins[np.arange(len(given)), fold_of[given.row]]
    sign = np.sign(given.p - 0.5)
    return Strength(np.where(sign[:, None] == 0, np.nan, own * sign[:, None]), given.id, given.group)


def cross_fitted(
    model: RewardModel,
    args: PreferenceArguments,
    data: Dataset,
    learned: TrainingRecords,
    ensemble: Ensemble,
    seed: int,
    objective: Objective,
) -> Strength:
    """Train heads on features, and let each judgement be scored by those that did not see its group.

    A judge who likes length is not found out by heads that learn from his verdicts: they like it too. With
    ``ensemble.length_apart`` the heads see log-lengths beside the features while they learn, and the same length
    for all texts when they judge.

    Parameters
    ----------
    model, args
        As for `assay.workflows.heads.train_heads`.
    data
        The records, for their split groups.
    learned
        The same, with features.
    ensemble
        Parts of the groups, and heads per part.
    seed
        Of the folds and of the bootstrap.
    objective
        What the heads minimise.

    Raises
    ------
    DataError
        If all records are of one group: nothing could be held apart.
    """
    # an answer to another prompt would tell the heads of its own group's fold what was preferred there
    own = learned.records.pairs.source != CROSS_PROMPT
    learned = replace(learned, records=replace(learned.records, pairs=learned.records.pairs.take(own)))
    fold_of = record_folds(data, ensemble.folds, seed)
    if fold_of.max() == 0:
        raise DataError(
            "preferences of one split group cannot be judged by models that did not see it",
            expected="two split groups or more",
            got=f"{len(fold_of)} records of one",
            remedy="--clean.kind none, or --group to say what belongs together",
        )
    share = shares_of_members(data["split_group"], fold_of, ensemble.members, seed)
    assert learned.features is not None
    shown = seen = learned.features
    if ensemble.length_apart:
        lengths = LENGTH_SPREAD * standardised_log_lengths(learned.records)
        seen = np.column_stack([seen, lengths]).astype(np.float32)
        shown = np.column_stack([shown, np.zeros_like(lengths)]).astype(np.float32)
    heads, _ = train_heads(without_bank(model), args, replace(learned, features=seen, share=share), objective)
    values = heads.score_features(shown, learned.records.prompt_of)
    strength = strength_of(learned.records, fold_of, values, ensemble.members)
    warn_of_chance(strength)
    return strength


def warn_of_chance(strength: Strength) -> None:
    """Warn where the models agree with judgements that they did not see no more often than chance."""
    known = np.isfinite(strength.mean)
    if not known.any():
        return
    doubted = strength.doubted()
    low, high = doubted.ci95 or (0.0, 1.0)  # one group leaves nothing to resample
    if high >= 0.5:
        warnings.warn(
            f"the heads would have judged {doubted.value:.1%} of {known.sum():,} preferences the other way "
            f"(95 % interval {low:.1%} to {high:.1%}): they know no more than chance, so their doubts say nothing of "
            "single judgements. More judgements or another --backbone may help; do not clean by them",
            StrengthWarning,
            stacklevel=3,
        )


def standardised_log_lengths(records: EncodedRecords) -> np.ndarray:
    """Return log(1 + characters) of each judged response with mean 0 and deviation 1, float64 ``[texts]``; else 0."""
    given = records.pairs
    lengths = np.full(len(records.lengths), np.nan)
    for side, characters in ((given.a, given.length_a), (given.b, given.length_b)):
        lengths[records.offsets[given.row] + side] = np.log1p(characters)
    known = np.isfinite(lengths)
    spread = lengths[known].std() if known.any() else 0.0
    return np.where(known, (lengths - lengths[known].mean()) / spread, 0.0) if spread > 0 else np.zeros_like(lengths)


def clean(settings: Any, given: Pairs, strength: Strength) -> tuple[Pairs, str]:
    """Change judgements by their strength, as `assay.workflows.feedback_settings.Cleaning` says; say what was done.

    Judgements without a strength, such as ties, stay as they are, and so do answers to other prompts.

    Raises
    ------
    DataError
        If a margin from the strength meets a target from it.
    """
    mu = strength.of(given)
    known = np.flatnonzero(np.isfinite(mu) & (given.source != CROSS_PROMPT))
    ranked = known[np.argsort(mu[known], kind="stable")]
    after, name = _CLEANERS[settings.kind](settings, given, mu, ranked)
    return after, f"clean: {name}"


def _floor(share: float, ranked: np.ndarray) -> int:
    """Return how many judgements a share is: 0.29 of 100 are 29, though the product is a little less."""
    return int(np.floor(share * len(ranked) + 1e-9))


def _flip(settings: Any, given: Pairs, mu: np.ndarray, ranked: np.ndarray) -> tuple[Pairs, str]:
    weakest = ranked[: _floor(settings.share, ranked)]
    return algebra.flip(given, weakest), f"flip the weakest {settings.share:.0%}"


def _soften(settings: Any, given: Pairs, mu: np.ndarray, ranked: np.ndarray) -> tuple[Pairs, str]:
    weakest = ranked[: _floor(settings.share, ranked)]
    return algebra.smooth(given, settings.epsilon, weakest), f"smooth the weakest {settings.share:.0%}"


def _drop(settings: Any, given: Pairs, mu: np.ndarray, ranked: np.ndarray) -> tuple[Pairs, str]:
    band = ranked[_floor(settings.low, ranked) : _floor(settings.high, ranked)]
    if len(band) == len(given):
        raise DataError("cleaning would leave no judgement", got=f"a band from {settings.low:g} to {settings.high:g}")
    return algebra.drop(given, band), f"drop from {settings.low:.0%} to {settings.high:.0%} of the strength"


def _margin(settings: Any, given: Pairs, mu: np.ndarray, ranked: np.ndarray) -> tuple[Pairs, str]:
    m = given.m.copy()
    m[ranked] = settings.factor * mu[ranked] * np.sign(given.p[ranked] - 0.5)
    return algebra.set_m(given, m, SIGNAL, ranked), f"margin, {settings.factor:g} times the strength"


_CLEANERS: dict[str, Callable[..., tuple[Pairs, str]]] = {
    "flip": _flip,
    "soft": _soften,
    "drop": _drop,
    "margin": _margin,
}


def most_suspicious(given: Pairs, strength: Strength, count: int) -> Iterator[dict[str, Any]]:
    """Yield the judgements of least strength, with their texts and who judged them."""
    mu, spread = strength.of(given), replace(strength, margins=strength.std[:, None]).of(given)
    known = np.flatnonzero(np.isfinite(mu))
    for index in known[np.argsort(mu[known], kind="stable")][:count]:
        prompt, a, b = given.texts(int(index))
        preferred, other = (a, b) if given.p[index] > 0.5 else (b, a)
        yield {
            "strength": float(mu[index]),
            "std": float(spread[index]),
            "prompt": prompt,
            "preferred": preferred,
            "other": other,
            "source": given.source[index],
            "annotator": given.annotator[index],
            "row": int(given.row[index]),
        }
