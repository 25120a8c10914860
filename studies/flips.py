"""Flipped judgements whose truth is known: does strength find them, and does cleaning win back what they cost.

Fixed before the run, after trials on other worlds:
  * texts: the 20,110 comparisons of 1,015 sentences of wmt_da_pairs/gu-en, whose responses get planted scores: a linear
    function of the first 32 principal components of MiniLM's features. Verdicts are drawn from sigmoid(3 * gap), gaps
    of deviation 1.5. Half of the sentences train (8,000 judgements of them), half test. 10 seeds.
  * flips: 10, 20 or 30 % of the training judgements are turned round; at random (``random``), or among those whose
    preferred response is the shorter one, by a judge who likes length (``length``).
  * strength: 5 folds, 10 linear heads each, 10 passes; as it is, and with length set apart. Told of it: AUC in finding
    the flips, beside an oracle's that knows the true gaps (the drawn verdicts err too, so it is not 1).
  * learners, 10 passes: a hidden layer of 256, which can learn judgements by heart (``mlp``), and the linear head that
    fits the truth (``linear``). Told of each: accuracy against the sign of the true gap, where verdicts are as drawn,
    flipped, or flipped but cleaned: the weakest turned round, as many as there are flips; by either strength.
  * claims: (1) strength reaches 95 % of the oracle's AUC; (2) where flips cost 3 points of accuracy or more, cleaning
    wins back half of them. Each for either strength. Smallest effects: 0.01.

    python studies/flips.py --data DATA_FOLDER   # resumable
    python studies/flips.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from flips_summary import write_flips
from planted_world import World
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from assay.feedback import Pairs, algebra, read
from assay.training.objective import PairwiseObjective
from assay.workflows.feedback_settings import Flip
from assay.workflows.strength import Strength, clean, cross_fitted

SEEDS = 10
TRAINED_ON, SLOPE, EPOCHS = 8000, 3.0, 10
SHARES = (0.1, 0.2, 0.3)
LEARNERS = ("mlp", "linear")
NAMES = [f"{kind}.{seed}" for seed in range(SEEDS) for kind in ("random", "length")]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Run one world and one kind of flips."""
    kind, seed = cell.split(".")
    world = World(read(str(data / "wmt_da_pairs/gu-en.jsonl.gz")), int(seed), 1.0)
    some = world.random.permutation(np.flatnonzero(world.training))[:TRAINED_ON]
    verdicts = world.random.random(len(world.gap)) < expit(SLOPE * world.gap)
    drawn = algebra.set_p(world.records.pairs, verdicts.astype(float), "verdict").take(some)
    found: dict[str, Any] = {"as drawn": accuracies(world, drawn)}
    for share in SHARES:
        found[str(share)] = flipped(world, drawn, turned(world, drawn, kind, share))
    return {"found": found}


def turned(world: World, drawn: Pairs, kind: str, share: float) -> np.ndarray:
    """Choose the judgements that are turned round, int64: of those whose shorter response is preferred, or of all."""
    longer = (drawn.length_a - drawn.length_b) * np.sign(drawn.p - 0.5)
    among = np.arange(len(drawn)) if kind == "random" else np.flatnonzero(longer < 0)
    return np.asarray(world.random.permutation(among)[: round(share * len(drawn))])


def flipped(world: World, drawn: Pairs, which: np.ndarray) -> dict[str, Any]:
    """Turn judgements round; return how well they are found, and what is learned from all, cleaned or not."""
    given = algebra.flip(drawn, which)
    is_flip = np.isin(np.arange(len(given)), which)
    true = world.gap[place_of(world, given)] * np.sign(given.p - 0.5)
    found: dict[str, Any] = {"oracle": float(roc_auc_score(is_flip, -true)), "flipped": accuracies(world, given)}
    for name, apart in (("strength", False), ("length apart", True)):
        settings = Flip(kind="flip", share=len(which) / len(given), length_apart=apart)
        strength = strengths(world, given, settings)
        after, _ = clean(settings, given, strength)
        right = is_flip[after.p != given.p].mean()
        auc = float(roc_auc_score(is_flip, -strength.of(given)))
        found[name] = {"auc": auc, "turned_rightly": float(right), "accuracy": accuracies(world, after)}
    return found


def strengths(world: World, given: Pairs, settings: Flip) -> Strength:
    """Return the strength of the judgements, as `assay strength` finds it."""
    world.model.config.head = "linear"
    with tempfile.TemporaryDirectory() as folder:
        args = world.arguments(folder, EPOCHS)
        return cross_fitted(world.model, args, world.data, world.learned(given), settings, 0, PairwiseObjective())


def accuracies(world: World, taught: Pairs) -> dict[str, float]:
    """Return the share of true gaps of the test half that each learner gets right."""
    test = ~world.training
    margins = {head: world.margins(taught, head, EPOCHS)[test] for head in LEARNERS}
    return {head: float(((margin > 0) == (world.gap[test] > 0)).mean()) for head, margin in margins.items()}


def place_of(world: World, given: Pairs) -> np.ndarray:
    """Return the place of judgements among all, int64."""
    order = np.argsort(world.records.pairs.id)
    return np.asarray(order[np.searchsorted(world.records.pairs.id[order], given.id)])


STUDY = Study("flips", __doc__ or "", NAMES, (), run_cell, data="wmt_da_pairs", summarise=write_flips)

if __name__ == "__main__":
    conduct(STUDY)
