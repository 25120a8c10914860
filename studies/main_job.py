"""Does a small encoder, fine-tuned on a few thousand real judgements, make a reward model worth trusting?

Fixed before the run:
  * data: HH helpful-base and harmless-base (fixed test fifth by first human turn), TL;DR feedback (fixed test fifth by
    post), MT-bench human judgements (grouped 5-fold by question, a seed for each fold).
  * arms: MiniLM fully fine-tuned for one epoch with the defaults of `assay train` at 256 tokens; the same without the prompt
    ("blind"); a linear head on the frozen backbone (10 seeds); beside them always-the-longer and a bag of words.
  * contrasts, on accuracy, smallest effect of interest 2 points: fine-tuned above length (where longer loses: above
    always-the-shorter), fine-tuned above the bag of words, fine-tuned above blind.
  * test: hierarchical bootstrap over seeds and split groups; verdicts as in `assay.evaluation.verdicts`.

    python studies/main_job.py --data DATA_FOLDER            # resumable; cells already done are not repeated
    python studies/main_job.py --data DATA_FOLDER --summary  # tables from the committed cells only
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CELLS = HERE / "results" / "main_job_cells"
SETS = {
    "helpful-base": {"path": "hh_rlhf/helpful-base/test.jsonl.gz", "reading": {"format": "hh"}},
    "harmless-base": {"path": "hh_rlhf/harmless-base/test.jsonl.gz", "reading": {"format": "hh"}},
    "mt_bench_human": {
        "path": "mt_bench_human/pairs.jsonl.gz",
        "folds": 5,
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
    },
}
SEEDS, FROZEN_SEEDS = 5, 10


def cells() -> list[str]:
    """Name all cells; whole rounds of seeds first, so that an interrupted study is balanced."""
    names = []
    for seed in range(SEEDS):
        names += [f"{name}.full.{seed}" for name in SETS]
        if seed == 0:
            names += [f"{name}.frozen.all" for name in SETS]
    return names + [f"{name}.blind.{seed}" for seed in range(SEEDS) for name in SETS]


def run_cell(name: str, data: Path) -> None:
    """Train one arm on one set with one seed, and store its margins on the test judgements."""
    import torch

    torch.set_num_threads(1)
    from datasets import disable_progress_bars
    from transformers.utils import logging

    from assay.feedback import folds, read_with_report, split
    from assay.workflows.data import share_out, without_prompts

    disable_progress_bars()
    logging.disable_progress_bar()
    which, arm, number = name.rsplit(".", 2)
    spec = SETS[which]
    records, report = read_with_report(str(data / spec["path"]), **spec["reading"])
    seeds = range(FROZEN_SEEDS) if number == "all" else [int(number)]
    entries = []
    for seed in seeds:
        if "folds" in spec:
            train, test = folds(records, spec["folds"], seed=0)[seed % spec["folds"]]
        else:
            train, test = split(records, test=0.2, seed=0)
        shares = share_out(train, test=test, test_share=0, validation_share=0 if arm == "frozen" else 0.1, seed=seed)
        if arm == "blind":
            shares = type(shares)(without_prompts(shares.fit), without_prompts(shares.validation), without_prompts(test))
        entries.append(train_and_judge(shares, arm, seed))
    CELLS.mkdir(parents=True, exist_ok=True)
    content = {"cell": name, "reading": report.to_dict() | {"source": which, "places": {}}, "runs": entries}
    path = CELLS / f"{name}.json"
    path.with_suffix(".tmp").write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    path.with_suffix(".tmp").rename(path)


def train_and_judge(shares, arm: str, seed: int) -> dict:  # noqa: ANN001
    """Fit with the library's own workflow; return margins and what intervals need."""
    import tempfile

    from assay.feedback import pairs
    from assay.scorers import create_reward_model
    from assay.workflows.fitting import fit, model_options, resolved
    from assay.workflows.judging import fit_baselines, margins_on
    from assay.workflows.settings import TrainSettings

    settings = TrainSettings(
        data="-", out="-", max_length_tokens=256, seed=seed, epochs=None if arm == "frozen" else 1, patience=0,
        evaluations_per_epoch=1, freeze_backbone=arm == "frozen", token_budget=4096,
    )
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit(settings, shares, Path(folder), model)
    view = pairs(shares.test)
    delta, _ = margins_on(result.model, shares.test, view)
    baselines = {name: b.delta(view) for name, b in fit_baselines(shares.training).items()}
    return {
        "seed": seed,
        "train_pairs": len(pairs(shares.fit)),
        "temperature": result.temperature.value if result.temperature else None,
        "seconds": round(time.time() - started, 1),
        "group": [_short(g) for g in view.group],
        "row": [_short(shares.test[int(r)]["prompt_id"] + f"/{a}/{b}") for r, a, b in zip(view.row, view.a, view.b, strict=True)],
        "p": view.p.tolist(),
        "w": view.w.tolist(),
        "length": (view.length_a - view.length_b).tolist(),
        "delta": np.round(delta, 4).tolist(),
        **{name: np.round(values, 4).tolist() for name, values in baselines.items() if name != "length"},
    }


def _short(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def run_all(data: Path, minutes: float) -> None:
    """Run what is missing, two cells at a time with one thread each, until the time is up."""
    missing = [name for name in cells() if not (CELLS / f"{name}.json").exists()]
    end = time.time() + 60 * minutes

    def one(name: str) -> None:
        if time.time() > end:
            return
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        command = [sys.executable, __file__, "--data", str(data), "--cell", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name} failed:\n{done.stderr[-2000:]}", flush=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, missing))


def main() -> None:
    """Run cells, then write the result file and its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cell")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.cell:
        run_cell(given.cell, given.data)
        return
    if not given.summary:
        run_all(given.data, given.minutes)
    from main_job_summary import write_summary

    write_summary(CELLS, HERE / "results")


if __name__ == "__main__":
    main()
