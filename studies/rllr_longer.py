"""Whether policies of `rllr` gain little since PPO is short: the same rewards with four times as many cycles.

Named after the first cells of `rllr`, where a verifier, which never errs, gained little itself. One cell (``words``,
``trec``, seed 1) was looked at before the claims were fixed, and is left out:
  * ``words`` on ``trec`` (4 seeds) and ``sst2`` (5), and ``minilm`` on ``trec``, 2 seeds (3 were planned; one takes
    half an hour); tasks, policies, ``sft``, ``sft_more`` and reward models are those of `rllr`. Cut: ``esnli``, where
    neither policy nor reward model knows more than chance, ``minilm`` on ``sst2`` (hours), and the mixed rewards.
  * ``rlhf``, ``rllr`` and ``verifier`` with 96 cycles of PPO in the place of 24, all else as there; gains over ``sft``
    stand beside those of 24 cycles, which the cells of `rllr` hold.
  * contrasts: accuracy of the likeliest answers: ``rllr`` against ``sft``, ``sft_more`` and ``rlhf``, ``verifier``
    against ``sft`` and ``rllr`` (smallest effect 1 point).
  * test: hierarchical bootstrap over seeds and examples.

    python studies/rllr_longer.py --data DATA_FOLDER   # resumable
    python studies/rllr_longer.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from page import page_head, ran_on, verdict_table
from rllr import classify, curve, stages, told_of
from rllr_summary import SMALLEST, Cells, by_policy, gap, in_all, over_all, right_of
from summary import RESULTS, circumstances, finished_cells, judged

from assay.output import write_atomic, write_json

CYCLES = 96
SEEDS = {"trec.words": (2, 3, 4, 5), "sst2.words": (1, 2, 3, 4, 5), "trec.minilm": (1, 2)}
ARMS = ("rlhf", "rllr", "verifier")
JUDGED = ("sft", "sft_more", *ARMS)
CONTRASTS = (("rllr", "sft"), ("rllr", "sft_more"), ("rllr", "rlhf"), ("verifier", "sft"), ("verifier", "rllr"))
CELLS = [f"{which}.{seed}" for which, many in SEEDS.items() for seed in many]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Teach the policy and its reward models as `rllr` does, and let it learn for longer."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        stages(place, cell, data, seconds, {"sft": "teach"}, ARMS, CYCLES)
        found = told_of(place, classify(place, cell, ("sft_more", *ARMS)))
        curves = {name: curve(place / name / "history.jsonl") for name in ARMS}
    return {"seconds": seconds, **found, "curves": curves}


def write_longer(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/rllr_longer.json`` and its page."""
    cells = finished_cells(folder)
    short = {cell["cell"]: cell for cell in finished_cells(RESULTS / "rllr_cells")}
    verdicts, tables = [], {}
    for kind, tasks in by_policy(cells).items():
        for one, other in CONTRASTS:
            claim, shared = f"{one} above {other}", in_all(tasks)
            if len(shared) > 1 and all(shared.values()):
                both = f"{kind}, {' and '.join(shared)}"
                verdicts.append(judged(claim, "accuracy", both, over_all(shared, one, other), SMALLEST))
            for task, many in tasks.items():
                verdicts.append(judged(claim, "accuracy", f"{kind}, {task}", gap(many, one, other), SMALLEST))
        tables[kind] = {task: _told(many, short) for task, many in tasks.items()}
    result = {"study": study, "verdicts": verdicts, "policies": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _told(many: Cells, short: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return accuracies, and of both lengths gains over ``sft``, rewards and divergences, in the seeds of both."""
    both = [(cell, short[cell["cell"]]) for cell in many if cell["cell"] in short]
    return {
        "seeds": len(many),
        "accuracy": {arm: float(right_of(many, arm).mean()) for arm in JUDGED},
        "unread": {arm: float(np.mean([cell["arms"][arm]["unread"] for cell in many])) for arm in JUDGED},
        "in both": {
            "seeds": len(both),
            "begin alike": all(long["right"]["sft"] == cell["right"]["sft"] for long, cell in both),
            "by cycles": {"24": _of([cell for _, cell in both]), str(CYCLES): _of([long for long, _ in both])},
        },
    }


def _of(cells: Cells) -> dict[str, dict[str, float]]:
    if not cells:
        return {}
    return {
        arm: {
            "gain": float((right_of(cells, arm) - right_of(cells, "sft")).mean()),
            "reward_first": float(np.mean([row["reward"] for cell in cells for row in cell["curves"][arm][:4]])),
            "reward_last": float(np.mean([row["reward"] for cell in cells for row in cell["curves"][arm][-4:]])),
            "divergence": float(np.mean([cell["curves"][arm][-1]["divergence"] for cell in cells])),
        }
        for arm in ARMS
    }


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += ["## Accuracy after 96 cycles (answers without a label), %", ""]
    lines += [f"| policy, task | seeds | {' | '.join(JUDGED)} |", "|---" * (len(JUDGED) + 2) + "|"]
    each = [(f"{kind}, {task}", own) for kind, tasks in result["policies"].items() for task, own in tasks.items()]
    for name, own in each:
        shares = " | ".join(f"{100 * own['accuracy'][arm]:.1f} ({100 * own['unread'][arm]:.1f})" for arm in JUDGED)
        lines.append(f"| {name} | {own['seeds']} | {shares} |")
    lines += ["", "## 24 and 96 cycles, the same seeds", ""]
    lines += ["| policy, task, seeds | arm | cycles | points over `sft` | reward, first and last 4 cycles | nats |"]
    lines.append("|---" * 6 + "|")
    for name, own in each:
        shared = own["in both"]
        for arm in ARMS:
            for cycles, arms_then in shared["by cycles"].items():
                told = arms_then.get(arm)
                if told is not None:
                    rewards = f"{told['reward_first']:.2f}, {told['reward_last']:.2f}"
                    row = [f"{name}, {shared['seeds']}", arm, cycles, f"{100 * told['gain']:+.1f}", rewards]
                    lines.append(f"| {' | '.join(row)} | {told['divergence']:.2f} |")
    alike = all(own["in both"]["begin alike"] for _, own in each)
    same = "the same answers as in" if alike else "other answers in some cells than in"
    return "\n".join([*lines, "", f"`sft` gives {same} `rllr`.", "", ran_on(result), ""])


STUDY = Study("rllr_longer", __doc__ or "", CELLS, (), run_cell, data="sentiment and trec", summarise=write_longer)

if __name__ == "__main__":
    conduct(STUDY)
