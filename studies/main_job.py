"""A small encoder, fine-tuned on a few thousand real judgements: is it a reward model worth trusting.

Fixed before the run:
  * data: HH helpful-base and harmless-base, TL;DR feedback, MT-bench human judgements; each in five fixed folds grouped
    by prompt (first human turn, post, question), so that every judgement is tested once. Seed s tests on fold s mod 5.
  * arms: MiniLM fully fine-tuned for one epoch with the defaults of `assay train` at 256 tokens (5 seeds); the same
    without the prompt ("blind", 5 seeds); a linear head on the frozen backbone, on all labels and on a tenth of them
    (10 seeds each); beside them always-the-longer and a bag of words.
  * contrasts, on accuracy, smallest effect of interest 2 points: fine-tuned above length (where longer loses: above
    always-the-shorter), fine-tuned above the bag of words, fine-tuned above blind.
  * test: hierarchical bootstrap over seeds and split groups; verdicts as in `assay.evaluation.verdicts`.

An earlier round tested on one fixed fifth of each set. It was stopped after one seed: 440 judgements settle little, and
on TL;DR length alone was right in 68 % of that fifth and in 62 % of the rest.

    python studies/main_job.py --data DATA_FOLDER   # resumable: finished cells are not repeated
    python studies/main_job.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Study, conduct, on_folds
from summary import Contrast

SETS: dict[str, dict[str, Any]] = {
    "helpful-base": {"path": "hh_rlhf/helpful-base/test.jsonl.gz", "reading": {"format": "hh"}},
    "harmless-base": {"path": "hh_rlhf/harmless-base/test.jsonl.gz", "reading": {"format": "hh"}},
    "mt_bench_human": {
        "path": "mt_bench_human/pairs.jsonl.gz",
        "reading": {
            "mapping": {
                "prompt": "first_question",
                "responses": ["first_answer_0", "first_answer_1"],
                "choice": "label",
                "votes": "votes",
                "group": "first_question",
                "drop": ["first_answer_0 is null", "first_answer_1 is null"],
            }
        },
    },
    "tldr_feedback": {
        "path": "tldr_feedback",
        "reading": {
            "mapping": {
                "prompt": "prompt",
                "responses": "responses",
                "choice": "choice",
                "confidence": "confidence",
                "group": "post_id",
                "annotator": "worker",
            }
        },
        # a post to be summarised says what it is about at its beginning
        "options": {"truncation": "right"},
    },
}
ONE_EPOCH = {"epochs": 1, "patience": 0, "evaluations_per_epoch": 1}
SEEDS = {"full": 5, "blind": 5, "frozen": 10, "frozen_tenth": 10}


def cells() -> list[str]:
    """Name all cells; whole rounds of seeds first, so that an interrupted study is balanced."""
    names = []
    for seed in range(SEEDS["full"]):
        names += [f"{name}.full.{seed}" for name in SETS]
        if seed == 0:
            names += [f"{name}.{arm}.all" for arm in ("frozen", "frozen_tenth") for name in SETS]
    return names + [f"{name}.blind.{seed}" for seed in range(SEEDS["blind"]) for name in SETS]


CONTRASTS = (
    Contrast("fine-tuned MiniLM beats choosing by length", "full", "length", 0.02),
    Contrast("fine-tuned MiniLM beats a bag of words", "full", "bag_of_words", 0.02),
    Contrast("reading the prompt helps: fine-tuned MiniLM beats itself without prompts", "full", "blind", 0.02),
)


def run_cell(name: str, data: Path) -> dict[str, Any]:
    """Train one arm on one set with one seed (a frozen arm: all its seeds)."""
    which, arm, number = name.rsplit(".", 2)
    seeds = range(SEEDS[arm]) if number == "all" else [int(number)]
    options = {} if arm.startswith("frozen") else {**ONE_EPOCH, "dropout": "all"}
    return on_folds(SETS[which], data, arm, seeds, which, max_length_tokens=256, **options)


STUDY = Study("main_job", __doc__ or "", cells(), CONTRASTS, run_cell, data="hh_rlhf, mt_bench_human and tldr_feedback")

if __name__ == "__main__":
    conduct(STUDY)
