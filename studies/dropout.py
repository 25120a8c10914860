"""Whether it matters what is dropped while all weights of MiniLM train.

Asked because dropping attention weights doubles the time of a step on CPUs, where no fused kernel does it.

Fixed before the run:
  * data: MT-bench human judgements, read and folded as in `main_job`; seed s tests on fold s mod 5, 10 seeds.
  * arms, one epoch each: states and attention weights dropped, as in pretraining (``full_all``); states only
    (``full_hidden``); nothing (``full_none``).
  * contrasts, on accuracy, smallest effect of interest 2 points: states only against all, and nothing against all.
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/dropout.py --data DATA_FOLDER   # resumable
    python studies/dropout.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Study, conduct, on_folds
from main_job import ONE_EPOCH, SETS
from summary import Contrast

CONTRASTS = (
    Contrast("states only do as well as all", "full_hidden", "full_all", 0.02),
    Contrast("nothing does as well as all", "full_none", "full_all", 0.02),
)
NAMES = [f"mt_bench_human.full_{kind}.{seed}" for seed in range(10) for kind in ("all", "hidden", "none")]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm with one seed."""
    name, arm, seed = cell.rsplit(".", 2)
    kind = arm.removeprefix("full_")
    return on_folds(SETS[name], data, arm, [int(seed)], name, max_length_tokens=256, dropout=kind, **ONE_EPOCH)


STUDY = Study("dropout", __doc__ or "", NAMES, CONTRASTS, run_cell, data="mt_bench_human")

if __name__ == "__main__":
    conduct(STUDY)
