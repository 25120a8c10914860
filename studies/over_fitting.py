"""All weights over 10 epochs: do gaps keep a reward model from over-fitting, and is it the gaps or mere softness.

Fixed before the run:
  * data: SummEval with a quarter of its training documents and 128 tokens, and the three data-to-text sets of ratings
    together with half of theirs (so that the study takes about two hours); grades, groups and folds as in
    `graded_feedback`. 5 seeds; seed s tests on fold s.
  * MiniLM, all weights, 10 epochs in fp32, other settings as `assay train` has them; no early stopping. After each
    epoch the test judgements are scored, and a temperature is fitted on a tenth of the training judgements kept apart.
  * arms: plain Bradley-Terry (``bt``), MMPO at the gamma that `graded_feedback` chose for a frozen head on the whole
    training share of the same fold (``mmpo``), and smoothing by the mean of its 1 - p (``smooth``).
  * contrasts, on accuracy (smallest effect 2 points) and calibrated NLL (0.005 nats): after 10 epochs MMPO against
    plain Bradley-Terry; the same against smoothing; and what plain Bradley-Terry loses from epoch 3 to epoch 10 against
    what MMPO loses.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/over_fitting.py --data DATA_FOLDER   # resumable; needs the cells of graded_feedback
    python studies/over_fitting.py --summary            # table and figure from the committed cells only
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct, cut_by_fold, share_out, short_key
from graded_feedback import SETS, chosen_gammas, gaps_of
from over_fitting_summary import write_over_fitting
from transformers import TrainerCallback

from assay.evaluation import fit_temperature
from assay.feedback import split
from assay.feedback.targets import margin_targets
from assay.scorers import create_reward_model
from assay.scorers.encoding import EncodedRecords, encode_records, score_records
from assay.training import PreferenceTrainer
from assay.training.records import TrainingRecords
from assay.workflows.data import Shares
from assay.workflows.feedback_settings import Judged, MarginMatching, Smoothed, Target
from assay.workflows.judging import fit_baselines
from assay.workflows.options import arguments, model_options, resolved
from assay.workflows.prepared import Prepared
from assay.workflows.settings import TrainSettings
from assay.workflows.targets import make_targets

SEEDS, EPOCHS = 5, 10
ARMS = ("bt", "mmpo", "smooth")
TOKENS = {"summeval": 128, "d2t_ratings": 256}
SHARE = {"summeval": 0.25, "d2t_ratings": 0.5}
# by seed: what is finished at any time holds both sets and all arms
NAMES = [f"{name}.{arm}.{seed}" for seed in range(SEEDS) for name in TOKENS for arm in ARMS]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm with one seed on one set."""
    name, arm, number = cell.rsplit(".", 2)
    seed = int(number)
    report, folds = cut_by_fold(SETS[name], data)
    train, test = folds[seed]
    train = split(train, test=SHARE[name], seed=seed)[1]
    shares = share_out(train, test=test, test_share=0, validation_share=0.1, seed=seed)
    target = target_of(arm, shares, chosen_gammas(name)[seed])
    truncation = SETS[name].get("options", {}).get("truncation", "left")
    settings = TrainSettings(
        data="-",
        out="-",
        seed=seed,
        epochs=EPOCHS,
        patience=0,
        precision="fp32",
        token_budget=4096,
        max_length_tokens=TOKENS[name],
        truncation=truncation,
        target=target,
    )
    return {"reading": report.to_dict() | {"source": name, "places": {}}, "runs": [train_and_watch(settings, shares)]}


def target_of(arm: str, shares: Shares, gamma: float) -> Target:
    """Return the settings of an arm's targets."""
    if arm == "bt":
        return Judged()
    if arm == "mmpo":
        return MarginMatching(kind="mmpo", gamma=gamma)
    view, gap = gaps_of(shares.fit)
    p = margin_targets(gap, gamma)[view.p != 0.5]
    return Smoothed(kind="smooth", epsilon=float(np.minimum(p, 1 - p).mean()))


class AfterEachEpoch(TrainerCallback):
    """Keeps the margins of shares that do not train."""

    def __init__(self, model: Any, shares: dict[str, EncodedRecords]) -> None:
        self.model, self.shares = model, shares
        self.when: set[int] = set()
        self.margins: dict[str, list[np.ndarray]] = {name: [] for name in shares}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score, where an epoch ends."""
        if state.global_step in self.when:
            for name, records in self.shares.items():
                self.margins[name].append(records.margins(score_records(self.model, records)))


def train_and_watch(settings: TrainSettings, shares: Shares) -> dict[str, Any]:
    """Train all weights; return margins on the test share after each epoch, and what intervals need."""
    assert shares.validation is not None and shares.test is not None
    started = time.time()
    model = create_reward_model(model_options(settings, settings.seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    fit, validation, test = (encode_records(one, model.encoder) for one in (shares.fit, shares.validation, shares.test))
    taught = make_targets(settings.target, settings.objective, shares.fit, Prepared(fit))
    watch = AfterEachEpoch(model, {"validation": validation, "test": test})
    learned = TrainingRecords(taught.records, model.encoder.pad_id)
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(settings, Path(folder), settings.seed)
        args.save_strategy = "no"
        trainer = PreferenceTrainer(model, args, learned, callbacks=[watch])
        watch.when = set(trainer.plan.epoch_ends)
        trainer.train()
    apart, view = validation.pairs, test.pairs
    sides = zip(view.row, view.a, view.b, strict=True)
    return {
        "seed": settings.seed,
        "train_pairs": len(fit.pairs),
        "gamma": getattr(settings.target, "gamma", None),
        "epsilon": getattr(settings.target, "epsilon", None),
        "seconds": round(time.time() - started, 1),
        "temperatures": [fit_temperature(delta, apart.p, apart.w).value for delta in watch.margins["validation"]],
        "deltas": [np.round(delta, 4).tolist() for delta in watch.margins["test"]],
        "group": [short_key(group) for group in view.group],
        "row": [short_key(f"{shares.test[int(row)]['prompt_id']}/{a}/{b}") for row, a, b in sides],
        "p": view.p.tolist(),
        "w": view.w.tolist(),
        "length": (view.length_a - view.length_b).tolist(),
        "bag_of_words": np.round(fit_baselines(shares.training)["bag_of_words"].delta(view), 4).tolist(),
    }


STUDY = Study(
    "over_fitting",
    __doc__ or "",
    NAMES,
    (),
    run_cell,
    data="summeval and d2t_ratings",
    summarise=write_over_fitting,
)

if __name__ == "__main__":
    conduct(STUDY)
