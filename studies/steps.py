"""How many passes a head needs before it uses the length of a response.

Asked after `main_job`, where one epoch of fine-tuning was below the longer response on TL;DR: was it too short?

Fixed before the run:
  * data: TL;DR feedback and MT-bench human judgements, read and folded as in `main_job`.
  * arms: a linear head on the frozen MiniLM after 1, 3, 10 and 30 passes over the training judgements; 10 seeds.
  * contrasts, on accuracy, smallest effect of interest 2 points: 30 passes above one, and one pass above length (where
    longer loses: above always-the-shorter).
  * test: hierarchical bootstrap over seeds and split groups.

    python studies/steps.py --data DATA_FOLDER   # resumable
    python studies/steps.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Study, conduct, on_folds
from main_job import SETS
from summary import Contrast

NAMES = [f"{name}.frozen_{passes}.all" for name in ("tldr_feedback", "mt_bench_human") for passes in (1, 3, 10, 30)]
CONTRASTS = (
    Contrast("thirty passes tell more than one", "frozen_30", "frozen_1", 0.02),
    Contrast("one pass is enough to beat choosing by length", "frozen_1", "length", 0.02),
)


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm on one set with all its seeds."""
    name, arm, _ = cell.rsplit(".", 2)
    epochs = int(arm.removeprefix("frozen_"))
    return on_folds(SETS[name], data, arm, range(10), name, max_length_tokens=256, epochs=epochs)


STUDY = Study("steps", __doc__ or "", NAMES, CONTRASTS, run_cell, data="mt_bench_human and tldr_feedback")

if __name__ == "__main__":
    conduct(STUDY)
