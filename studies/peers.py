"""Peers' label models, called as their documentation says: votes ``[n, m]`` in, P(first better) ``[n]`` out."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import expit

from assay.feedback.label_models import LabelModel
from assay.feedback.label_models.vote_table import VoteTable


def snorkel(votes: np.ndarray, l2: float = 0.5) -> np.ndarray:
    """Fit snorkel's LabelModel to votes alone; its abstention is -1, its class 1 the first response."""
    import torch
    from snorkel.labeling.model import LabelModel

    torch.set_num_threads(1)  # on two threads it takes many times as long
    classes = np.where(votes == 0, -1, (votes > 0).astype(int))
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(classes, n_epochs=500, l2=l2, class_balance=[0.5, 0.5], seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(classes)[:, 1])


def crowd_kit_dawid_skene(votes: np.ndarray) -> np.ndarray:
    """Fit crowd-kit's Dawid-Skene; its columns stand in the order in which classes appeared, so they are named."""
    return np.asarray(expit(DawidSkene().fit(votes).logits(votes)))


class DawidSkene(LabelModel):
    """crowd-kit's Dawid-Skene as a label model: from votes, and from true labels where there are some."""

    name = "crowd-kit"

    def fit(self, votes: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Fit; labels, +1, -1 or 0, are held fixed while it iterates."""
        import pandas
        from crowdkit.aggregation import DawidSkene as Aggregator

        known = np.zeros(len(votes)) if labels is None else np.asarray(labels) * (votes != 0).any(axis=1)
        row, function = np.nonzero(votes)
        answers = pandas.DataFrame({"task": row, "worker": function, "label": (votes[row, function] > 0).astype(int)})
        at = np.flatnonzero(known)
        given = pandas.Series((known[at] > 0).astype(int), index=at) if len(at) else None
        fitted = Aggregator(n_iter=100).fit(answers, given)
        # of a function that never said so, nothing is known
        cells = pandas.MultiIndex.from_product([range(votes.shape[1]), (0, 1)])
        says = fitted.errors_.reindex(cells).reindex(columns=[0, 1]).fillna(1e-10).to_numpy().reshape(-1, 2, 2)
        odds = np.log(np.clip(says, 1e-10, None))
        self.for_vote = odds[:, :, 1] - odds[:, :, 0]
        priors = np.clip(fitted.priors_.reindex([0, 1]).fillna(0).to_numpy(), 1e-10, None)
        self.prior = float(np.log(priors[1] / priors[0]))
        return self

    def logits(self, votes: np.ndarray) -> np.ndarray:
        """Return the log-odds by its error matrices and class shares."""
        return np.asarray(self.prior + (votes < 0) @ self.for_vote[:, 0] + (votes > 0) @ self.for_vote[:, 1])

    def _functions(self) -> int | None:
        return None

    def _learn(self, table: VoteTable) -> None:
        raise NotImplementedError("it learns from all rows, in fit")

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        return self.logits(rows)


def crowd_kit_bradley_terry(votes: np.ndarray) -> np.ndarray:
    """Fit crowd-kit's noisy Bradley-Terry, every pair with two items of its own; P by the difference of scores."""
    import pandas
    from crowdkit.aggregation import NoisyBradleyTerry

    row, function = np.nonzero(votes)
    answers = pandas.DataFrame({"worker": function, "left": [f"{i}a" for i in row], "right": [f"{i}b" for i in row]})
    answers["label"] = np.where(votes[row, function] > 0, answers["left"], answers["right"])
    scores = NoisyBradleyTerry(n_iter=100).fit_predict(answers)
    sides = (scores.reindex([f"{i}{side}" for i in range(len(votes))]).fillna(0.0).to_numpy() for side in "ab")
    return np.asarray(1 / (1 + np.exp(np.subtract(*reversed(list(sides))))))
