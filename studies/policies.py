"""What gaps buy where policies learn from comparisons: MMPO against DPO, IPO and what only softens.

Fixed before the run:
  * data: ``d2t_ratings``, rated descriptions of data (mean of three dimensions, 1 to 6; pairs of one prompt; 5 folds by
    the prompt without its slot values, seed s tests on fold s mod 5), with a Llama of 0.9M weights trained on the
    references of the training share from scratch; ``stories``, two continuations of story openings by a 0.26M story
    model, graded by a planted gold score (how glad they are, by MiniLM vectors) with noise, a quarter of the openings
    held out. On both the verdict is which grade is higher. 5 seeds.
  * arms: ``sft`` (where the others begin), ``dpo``, ``ipo``, ``mmpo_0.3``, ``mmpo_1``, ``mmpo_2.2`` (gamma on the gap
    of grades), ``cdpo`` (DPO with verdicts smoothed by MMPO's mean of 1 - p at gamma 1), ``shuffled`` (the gaps of MMPO
    at gamma 1 in random order). beta 0.1, all weights, learning rate 2e-4, 1, 3 and 9 passes, no early stopping; a
    tenth of the groups calibrates all alike.
  * contrasts, after 3 passes: MMPO at gamma 1 against DPO, against cDPO and against shuffled gaps, on accuracy of
    implicit margins (smallest effect 2 points) and on their calibrated NLL (0.01 nats); over-fitting: the rise of NLL
    from 3 to 9 passes of DPO minus that of MMPO (0.01 nats); win rate against ``sft`` of MMPO minus that of DPO,
    sampled at temperature 1 on held-out prompts, by a reward model of the held-out ratings, and by gold (2 points).
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/policies.py --data DATA_FOLDER   # resumable
    python studies/policies.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct, short_key
from datasets import Dataset
from policies_summary import write_policies
from policies_work import SETS, World, run, settings_of

from assay.evaluation import Temperature
from assay.feedback import Pairs, as_chat, pairs, split
from assay.feedback.changes import with_pairs
from assay.feedback.grades import grade_table
from assay.feedback.targets import margin_targets
from assay.scorers import Policy, create_policy
from assay.scorers.encoding import encode_records, score_records
from assay.scorers.sampling import Sampling, replies
from assay.workflows.data import Shares
from assay.workflows.options import policy_options

SEEDS, PASSES, CHOSEN, RATE = 5, (1, 3, 9), 3, 2e-4
GAMMAS = (0.3, 1.0, 2.2)
ARMS = ("dpo", "ipo", "cdpo", *(f"mmpo_{gamma:g}" for gamma in GAMMAS), "shuffled")
CELLS = [f"{name}.{seed}" for seed in range(SEEDS) for name in SETS]


def arm_of(arm: str, train: Dataset, seed: int) -> tuple[dict[str, Any], Dataset]:
    """Return the settings of an arm, and what it learns from."""
    if arm in ("dpo", "ipo"):
        return {"method": arm}, train
    view, table = pairs(train), grade_table(train)
    gap = table.gaps(view)
    if arm == "cdpo":
        p = margin_targets(gap, 1.0)[view.p != 0.5]
        return {"target": {"kind": "smooth", "epsilon": float(np.minimum(p, 1 - p).mean())}}, train
    if arm != "shuffled":
        return {"target": {"kind": "mmpo", "gamma": float(arm.split("_")[1])}}, train
    moved, decided = np.abs(gap), view.p != 0.5
    # among what was decided: a tie has no sign to give a gap to
    moved[decided] = np.random.default_rng(seed).permutation(moved[decided])
    shuffled = with_pairs(train, Pairs(**{**vars(view), "confidence": moved}))
    return {"target": {"kind": "mmpo", "gamma": 1.0, "signal": "confidence"}}, shuffled


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all arms of one set with one seed."""
    name, number = cell.rsplit(".", 1)
    seed, runs, written = int(number), {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        world = SETS[name](data, seed, folder)
        fit_share, held_out = split(world.train, test=0.1, seed=seed)
        common = {"backbone": world.begin, "template": world.template}
        for arm in ARMS:
            options, learned = arm_of(arm, fit_share, seed)
            for passes in PASSES:
                started = time.time()
                settings = settings_of(seed, epochs=passes, learning_rate=RATE, **common, **options)
                policy, calibration = run(settings, Shares(learned, held_out, world.test), folder / f"{arm}-{passes}")
                run_of_arm = judged(policy, calibration, world.test, seed)
                runs[f"{arm}@{passes}"] = run_of_arm | {"seconds": round(time.time() - started, 1)}
                if passes == CHOSEN:
                    written[arm] = said(policy, world, seed)
        written["sft"] = said(create_policy(policy_options(settings_of(seed, **common))), world, seed)
    reading = {"records": len(world.train) + len(world.test), "edges": len(pairs(world.train)), "dropped": {}}
    return {"reading": reading, "arms": runs, "wins": wins(written, world)}


def judged(policy: Policy, calibration: Any, test: Dataset, seed: int) -> dict[str, Any]:
    """Return implicit margins of the held-out judgements, with what intervals need."""
    records, view = encode_records(test, policy.encoder), pairs(test)
    delta = records.margins(score_records(policy, records), view)
    sides = zip(view.row, view.a, view.b, strict=True)
    return {
        "seed": seed,
        "temperature": calibration.value if isinstance(calibration, Temperature) else None,
        "group": [short_key(group) for group in view.group],
        "row": [short_key(f"{test[int(row)]['prompt_id']}/{a}/{b}") for row, a, b in sides],
        "p": view.p.tolist(),
        "w": view.w.tolist(),
        "length": (view.length_a - view.length_b).tolist(),
        "delta": np.round(delta, 4).tolist(),
        "bag_of_words": np.zeros(len(delta)).tolist(),
    }


def said(policy: Policy, world: World, seed: int) -> list[str]:
    """Return one response of a policy to each held-out prompt."""
    asked = [as_chat(row) for row in world.test["prompt"]]
    return [own[0].text for own in replies(policy, asked, Sampling(1, world.new), seed)]


def wins(written: dict[str, list[str]], world: World) -> dict[str, Any]:
    """Return who is preferred to where learning began, prompt by prompt: 1, 0, or one half for the same."""
    asked = [as_chat(row) for row in world.test["prompt"]]
    scores = {arm: np.asarray(world.judge.score(asked, texts), np.float64) for arm, texts in written.items()}
    began = scores.pop("sft")
    lengths = {arm: [len(text) for text in texts] for arm, texts in written.items()}
    return {
        "group": [short_key(group) for group in world.test["split_group"]],
        "preferred": {arm: (0.5 + 0.5 * np.sign(own - began)).tolist() for arm, own in scores.items()},
        "length": lengths,
    }


STUDY = Study(
    "policies",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="d2t_ratings and stories260K",
    summarise=write_policies,
)

if __name__ == "__main__":
    conduct(STUDY)
