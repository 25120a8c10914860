"""Peers' label models, called as their documentation says: votes ``[n, m]`` in, P(first better) ``[n]`` out."""

from __future__ import annotations

import numpy as np


def snorkel(votes: np.ndarray) -> np.ndarray:
    """Fit snorkel's LabelModel to votes alone; its abstention is -1, its class 1 the first response."""
    import torch
    from snorkel.labeling.model import LabelModel

    torch.set_num_threads(1)  # on two threads it takes many times as long
    classes = np.where(votes == 0, -1, (votes > 0).astype(int))
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(classes, n_epochs=500, l2=0.5, class_balance=[0.5, 0.5], seed=0, progress_bar=False)
    return np.asarray(model.predict_proba(classes)[:, 1])


def crowd_kit_dawid_skene(votes: np.ndarray) -> np.ndarray:
    """Fit crowd-kit's Dawid-Skene; its columns stand in the order in which classes appeared, so they are named."""
    import pandas
    from crowdkit.aggregation import DawidSkene

    row, function = np.nonzero(votes)
    answers = pandas.DataFrame({"task": row, "worker": function, "label": (votes[row, function] > 0).astype(int)})
    found = DawidSkene(n_iter=100).fit_predict_proba(answers)
    p = np.full(len(votes), 0.5)
    p[found.index.to_numpy()] = found[1].to_numpy()
    return p


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
