"""Which states of an encoder a reward model should read: those of all tokens, of the reply, or of the first token.

And whether their number belongs beside their mean.

Fixed before the run:
  * data, none of it in the study `main_job`: HH helpful-online and the 1 % sample of HH's training data (dialogues),
    UltraFeedback (short prompts, long replies), SummEval (articles and summaries); five fixed folds by prompt, seed s
    on fold s mod 5.
  * arms: a linear head on the frozen MiniLM, on the mean over the reply's tokens (the default where a separator stands
    before the reply), on the same without the number of tokens, on the mean over all tokens, and on the first token;
    256 tokens; 10 seeds.
  * contrasts, on accuracy, smallest effect of interest 2 points: reply above all tokens, reply above first token, with
    above without the number of tokens.
  * test: hierarchical bootstrap over seeds and prompts.

The default was chosen before this study, on the training side of sets that `main_job` uses.

    python studies/pooling.py --data DATA_FOLDER   # resumable
    python studies/pooling.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Study, conduct, on_folds
from summary import Contrast

from assay.scorers import pooling

SETS: dict[str, dict[str, Any]] = {
    "helpful-online": {"path": "hh_rlhf/helpful-online/test.jsonl.gz", "reading": {"format": "hh"}},
    "hh-train-1pct": {"path": "hh_rlhf/train-1pct.jsonl.gz", "reading": {"format": "hh"}},
    "ultrafeedback": {"path": "ultrafeedback_2pct/ub.jsonl.gz", "reading": {"format": "labelled_pair"}},
    "summeval": {
        "path": "summeval/grades.jsonl.gz",
        "reading": {
            "mapping": {"prompt": "prompt", "responses": "response", "grades": "grades", "group": "doc_id"},
        },
        # 120 pairs an article: as many steps as the others take in 30 epochs
        "options": {"truncation": "right", "epochs": 3},
    },
}
ARMS = {"frozen_reply": "reply", "frozen_uncounted": "reply", "frozen_all": "mean", "frozen_first": "cls"}
CONTRASTS = (
    Contrast("the reply's tokens tell more than all tokens", "frozen_reply", "frozen_all", 0.02),
    Contrast("the reply's tokens tell more than the first token", "frozen_reply", "frozen_first", 0.02),
    Contrast("a mean tells more with the number of its tokens", "frozen_reply", "frozen_uncounted", 0.02),
)
NAMES = [f"{name}.{arm}.all" for name in SETS for arm in ARMS]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one arm on one set with all its seeds."""
    name, arm, _ = cell.rsplit(".", 2)
    if arm == "frozen_uncounted":
        pooling.COUNT_SCALE = 0.0
    return on_folds(SETS[name], data, arm, range(10), name, max_length_tokens=256, pooling=ARMS[arm])


STUDY = Study("pooling", __doc__ or "", NAMES, CONTRASTS, run_cell, data="hh_rlhf, ultrafeedback_2pct and summeval")

if __name__ == "__main__":
    conduct(STUDY)
