"""Graded feedback whose truth is known: planted scores over real texts, in and partly beyond the scorer's reach.

Fixed before the run:
  * texts: 2,000 of the 2,343 prompts of helpful-base (hh_rlhf), whose responses get planted scores: a linear function
    of the first 32 principal components of MiniLM's features over all of them, which are what the head gets (``all``),
    or half of the variance from a number per text that no feature knows (``half``). So nothing but the truth is in the
    features: with more of them the best gamma would be smaller. Gaps have deviation 1.5. Split in half by group: one
    trains, one tests.
  * grades are scores with noise of deviation 0, 0.5 or 1 of the gaps' own; verdicts for testing are drawn from
    sigmoid(1.1 * gap). 10 seeds of texts, scores, noise and verdicts.
  * arms, a linear head on the frozen features, 300 training judgements: the sign of the noisy gap (``bt``); MMPO with
    gamma 0.3, 0.6, 1.1, 1.6, 2.2 and 5; and at gamma 1.1 the controls: gaps shuffled, smoothing by the mean of 1 - p,
    weight by gap.
  * told of each: NLL of the drawn verdicts, raw and after a temperature fitted on other judgements; accuracy against
    the sign of the true gap; slope and correlation of margins on true gaps.
  * claims: (1) of MMPO's gammas the one of least raw NLL is 1.1 where the truth is in reach and grades are exact, and
    smaller otherwise; (2) MMPO at 1.1 has a lower calibrated NLL than each control.
    The smallest effect of interest, 0.005 nats, was named after the run.

    python studies/planted.py --data DATA_FOLDER   # resumable
    python studies/planted.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from planted_summary import write_planted
from planted_world import SPREAD, World
from scipy.special import expit

from assay.evaluation import fit_temperature, nll
from assay.feedback import algebra, read
from assay.feedback.targets import margin_targets

SEEDS = 10
TRAINED_ON = 300
GAMMA = 1.1
GAMMAS = (0.3, 0.6, 1.1, 1.6, 2.2, 5.0)
REACH = {"all": 1.0, "half": 0.5}
NOISE = (0.0, 0.5, 1.0)
NAMES = [f"{reach}.noise-{noise}.{seed}" for seed in range(SEEDS) for reach in REACH for noise in NOISE]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Run one world."""
    reach, noise, seed = cell.split(".noise-")[0], *cell.split(".noise-")[1].rsplit(".", 1)
    records = read(str(data / "hh_rlhf/helpful-base/test.jsonl.gz"), "hh")
    return {"arms": graded(World(records, int(seed), REACH[reach], at_most=2000), float(noise))}


def graded(world: World, noise: float) -> dict[str, Any]:
    """Train on graded judgements in every way; return what came of each."""
    view, random = world.records.pairs, world.random
    told = world.gap + noise * SPREAD * random.normal(size=len(view))
    given = algebra.set_p(view, (np.sign(told) + 1) / 2, "sign")
    some = np.flatnonzero(world.training)[:TRAINED_ON]
    p = margin_targets(told, GAMMA)
    soft = np.minimum(p, 1 - p)[some].mean()
    moved = np.abs(told).copy()
    moved[some] = random.permutation(moved[some])
    taught = {"bt": given}
    taught |= {f"mmpo {gamma:g}": algebra.set_p(view, margin_targets(told, gamma), "gap") for gamma in GAMMAS}
    taught["shuffled"] = algebra.set_p(view, margin_targets(np.sign(told) * moved, GAMMA), "gap")
    taught["smooth"] = algebra.smooth(given, soft)
    taught["weight"] = algebra.scale_w(given, np.abs(told) / np.abs(told)[some].mean())
    verdicts = (random.random(len(view)) < expit(GAMMA * world.gap)).astype(float)
    test = np.flatnonzero(~world.training)
    fitting, judged = test[: len(test) // 2], test[len(test) // 2 :]
    found = {}
    for name, targets in taught.items():
        margins = world.margins(targets.take(some))
        temperature = fit_temperature(margins[fitting], verdicts[fitting])
        true = world.gap[judged]
        found[name] = {
            "nll": nll(margins[judged], verdicts[judged]),
            "nll_calibrated": nll(temperature.apply(margins[judged]), verdicts[judged]),
            "accuracy": float(((margins[judged] > 0) == (true > 0)).mean()),
            "slope": float(margins[judged] @ true / (true @ true)),
            "correlation": float(np.corrcoef(margins[judged], true)[0, 1]),
        }
    found["the truth"] = {"nll": nll(GAMMA * world.gap[judged], verdicts[judged])}
    return found


STUDY = Study("planted", __doc__ or "", NAMES, (), run_cell, data="hh_rlhf", summarise=write_planted)

if __name__ == "__main__":
    conduct(STUDY)
