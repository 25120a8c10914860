"""A trained model and how it came about: what every way of training hands on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.credit.mixing import QUANTILES
from assay.evaluation import Calibration, stored_form
from assay.scorers import RewardModel
from assay.scorers.encoding import EncodedRecords
from assay.scorers.preference import PreferenceHead
from assay.training import PreferenceTrainer
from assay.training.checkpoints import newest_complete, step_of
from assay.training.progress import TerminalProgress
from assay.workflows.prepared import Prepared


@dataclass
class Fit:
    """A trained model and how it came about.

    Attributes
    ----------
    model
        A `RewardModel` or a `Policy`, with score statistics and calibration stored.
    train_loss, validation_loss
        (step, loss in nats) as logged.
    seconds
        Of training alone.
    pairs, tokens
        Judgements and tokens that training went through in those seconds, all epochs.
    counts
        What truncation cut and what was dropped.
    calibration
        As stored with the model, or None.
    feedback
        What was done to the judgements before they were learned from.
    told
        The same in lines of text.
    target
        The settings of the targets that it learned, of a sweep those that were chosen.
    taught
        What it learned from: a share that is held out takes gamma and the scale of gaps over.
    bank
        Of heads with prototypes or landmarks: what became of them; else empty.
    """

    model: Any
    train_loss: list[tuple[float, float]] = field(default_factory=list)
    validation_loss: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    pairs: int = 0
    tokens: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    feedback: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    target: Any = None
    taught: Prepared | None = None
    bank: dict[str, Any] = field(default_factory=dict)

    def throughput(self) -> dict[str, float]:
        """Return judgements and tokens per second of training."""
        seconds = max(self.seconds, 1e-9)
        return {
            "pairs_per_second": self.pairs / seconds,
            "tokens_per_second": self.tokens / seconds,
            "training_seconds": self.seconds,
        }


def result_of(model: Any, trainer: PreferenceTrainer, taught: Prepared, since: int = 0) -> Fit:
    """Gather what was logged; ``since`` is the step that a resumed run began at, whose work took other seconds."""
    records = taught.records
    history = trainer.state.log_history
    done = trainer.plan.epoch(trainer.state.global_step) - trainer.plan.epoch(since)
    return Fit(
        model=model,
        train_loss=[(entry["step"], entry["loss"]) for entry in history if "loss" in entry],
        validation_loss=[(entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry],
        seconds=trainer.seconds,
        pairs=math.floor(done * len(records.pairs)),
        tokens=math.floor(done * int(records.lengths.sum())),
        counts={
            "texts_cut_in_the_prompt": records.cut_prompt,
            "texts_cut_in_the_response": records.cut_reply,
            "pairs_equal_after_tokenising": records.dropped_identical,
        },
        feedback=taught.report(),
        told=taught.lines(),
        # features are large, and nothing looks at them any more
        taught=replace(taught, features=None),
    )


def trained(
    trainer: PreferenceTrainer, shown: TerminalProgress, folder: Path, fresh: Callable[[], Any], *, resume: bool
) -> tuple[Any, int]:
    """Train, or go on from the newest whole checkpoint below ``folder``.

    Returns
    -------
    tuple
        The whole model (None: another process has the weights), and the step that this run began at.
    """
    whole = newest_complete(folder / "checkpoints") if resume else None
    try:
        trainer.train(resume_from_checkpoint=resume)
    finally:
        # an interrupted run must give the terminal its cursor back
        shown.on_train_end(trainer.args, trainer.state, trainer.control)
    return trainer.gathered(fresh), step_of(whole) if whole else 0


def store(
    result: Fit, values: np.ndarray, method: str | None, sides: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    """Keep score statistics and calibration with the model.

    Parameters
    ----------
    result
        Whose model learns of them.
    values
        Scores ``[n]``, or of several members ``[n, members]``.
    method
        What calibration was fitted on; None: on nothing.
    sides
        Scores of responses that held-out judgements prefer, and of the others (`sides_of`): quantiles of both are kept.
        None: of none.
    """
    members = values.astype(np.float64).reshape(len(values), -1)
    mean = members.mean(axis=1)
    result.model.record.score = {"mean": float(mean.mean()), "std": float(mean.std())}
    if members.shape[1] > 1:
        result.model.record.score["members"] = members.mean(axis=0).tolist()
    store_sides(result.model, sides or ())
    if result.calibration is not None and method:
        result.model.record.calibration = stored_form(result.calibration, method)


def store_sides(model: Any, sides: Sequence[np.ndarray]) -> None:
    """Keep quantiles of what held-out preferred and rejected responses score (`sides_of`), where there are any."""
    for name, scores in zip(("preferred", "rejected"), sides, strict=False):
        if len(scores):
            model.record.score = {**(model.record.score or {}), name: np.quantile(scores, QUANTILES).tolist()}


def sides_of(records: EncodedRecords, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of responses that a judgement prefers, and of those that judgements only reject, each once.

    Parameters
    ----------
    records
        Held out from training.
    values
        ``[texts]``; of several members ``[texts, members]``, whose mean is taken.
    """
    view = records.pairs
    means, decided = values.reshape(len(values), -1).mean(axis=1), view.p != 0.5
    won, lost = (
        np.unique((records.offsets[view.row] + np.where(first, view.a, view.b))[decided])
        for first in (view.p > 0.5, view.p < 0.5)
    )
    return means[won], means[np.setdiff1d(lost, won)]


def compare_with(model: RewardModel, states: Callable[[], torch.Tensor]) -> None:
    """Store what responses are compared with where the head knows margins only."""
    if isinstance(model.head, PreferenceHead):
        model.head.compare_with(states().to(model.head.anchor.device))
