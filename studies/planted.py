"""Graded feedback whose truth is known: planted scores over real texts, in and partly beyond the scorer's reach.

Fixed before the run:
  * texts: 2,000 of the 2,343 prompts of helpful-base (hh_rlhf), whose responses get planted scores: a linear function
    of the first 32 principal components of MiniLM's features over all of them, which are what the head gets (``all``),
    or half of the variance from a number per text that no feature knows (``half``). So nothing but the truth is in the
    features: with more of them the best gamma would be smaller. Gaps have deviation 1.5. Split in half by group: one
    trains, one tests.
  * grades are scores with noise of deviation 0, 0.5 or 1 of the gaps' own; verdicts for testing are drawn from
    sigmoid(1.1 * gap). 10 seeds of texts, scores, noise and verdicts.
  * a world of another kind (``bent``, added later): half of the score is a sum of squares of the features, which a
    linear head cannot learn; each response is graded from 1 to 5, with noise of half the gaps' deviation, rounded, so
    there are ties; verdicts are drawn from the normal distribution function of the gap.
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
from scipy.special import expit, logit
from scipy.stats import norm

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
NAMES += [f"bent.noise-0.5.{seed}" for seed in range(SEEDS)]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Run one world."""
    reach, noise, seed = cell.split(".noise-")[0], *cell.split(".noise-")[1].rsplit(".", 1)
    records = read(str(data / "hh_rlhf/helpful-base/test.jsonl.gz"), "hh")
    world = World(records, int(seed), REACH.get(reach, 1.0), at_most=2000, bent=reach == "bent")
    size = float(noise) * SPREAD
    if reach == "bent":
        noisy = world.scores + size / np.sqrt(2) * world.random.normal(size=len(world.scores))
        grades = np.clip(np.round(3 + noisy), 1, 5)
        return {"arms": graded(world, world.records.margins(grades), np.clip(norm.cdf(world.gap), 1e-6, 1 - 1e-6))}
    told = world.gap + size * world.random.normal(size=len(world.gap))
    return {"arms": graded(world, told, expit(GAMMA * world.gap))}


def graded(world: World, told: np.ndarray, chance: np.ndarray) -> dict[str, Any]:
    """Train on gaps as they are told in every way; return what came of each, on verdicts of that chance."""
    view, random = world.records.pairs, world.random
    given = algebra.set_p(view, (np.sign(told) + 1) / 2, "sign")
    some = np.flatnonzero(world.training)[:TRAINED_ON]
    decided = some[told[some] != 0]
    p = margin_targets(told, GAMMA)
    soft = np.minimum(p, 1 - p)[decided].mean()
    moved = np.abs(told).copy()
    moved[decided] = random.permutation(moved[decided])
    taught = {"bt": given}
    taught |= {f"mmpo {gamma:g}": algebra.set_p(view, margin_targets(told, gamma), "gap") for gamma in GAMMAS}
    taught["shuffled"] = algebra.set_p(view, margin_targets(np.sign(told) * moved, GAMMA), "gap")
    taught["smooth"] = algebra.smooth(given, soft)
    taught["weight"] = algebra.scale_w(given, np.abs(told) / np.abs(told)[some].mean())
    verdicts = (random.random(len(view)) < chance).astype(float)
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
    found["the truth"] = {"nll": nll(logit(chance[judged]), verdicts[judged])}
    return found


STUDY = Study("planted", __doc__ or "", NAMES, (), run_cell, data="hh_rlhf", summarise=write_planted)

if __name__ == "__main__":
    conduct(STUDY)
