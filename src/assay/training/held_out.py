"""How well the records that are held out are judged, while training goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from assay.scorers.encoding import scores_in
from assay.training.data import Verdicts
from assay.training.objective import Objective, PairwiseObjective
from assay.training.records import TrainingRecords


def held_out_metrics(
    held_out: TrainingRecords, values: np.ndarray, objective: Objective | None = None
) -> dict[str, float]:
    """Return the loss (without margins and added terms, devices of training) and the accuracy of scores, ties left out.

    Equal scores are half right. Of several members, both are means. Without a judgement the accuracy is NaN.

    Parameters
    ----------
    held_out
        Records that do not train.
    values
        Score of each text, ``[texts]`` or ``[texts, members]``, or evidence, as `score_records` gives it.
    objective
        What is minimised; None: the pairwise one.
    """
    objective = objective or PairwiseObjective()
    if isinstance(objective, PairwiseObjective):
        objective = replace(objective, terms=(), text=None)
    margins = torch.from_numpy(held_out.records.margins(values))
    batch = Verdicts(held_out).batch(np.arange(len(held_out.texts)))
    target, weight = batch["target"], batch["weight"]
    batch["margin"] = torch.zeros_like(target)
    total = torch.from_numpy(np.asarray(objective.items(held_out)[1].sum(axis=0)))
    loss = (
        objective({"margins": margins, "values": torch.from_numpy(scores_in(values).astype(np.float64))}, batch) / total
    )
    counts = weight > 0 if weight.dim() == 1 else (weight > 0).any(dim=1)
    judged = (target != 0.5) & counts
    better = target > 0.5 if margins.dim() == 1 else (target > 0.5).unsqueeze(1)
    right = torch.where(margins == 0, 0.5, ((margins > 0) == better).double())
    return {
        "loss": float(loss.mean()),
        "accuracy": float(right[judged].mean()) if bool(judged.any()) else float("nan"),
    }
