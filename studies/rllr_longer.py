"""Whether policies of `rllr` gain little since PPO is short: the same rewards with four times as many cycles.

Named after the first cells of `rllr`, where a verifier, which never errs, gained little itself, so no verdicts:
  * ``words`` on ``sst2`` and ``trec``, the first 3 seeds: task, policy, ``sft`` and reward model are those of `rllr`.
  * ``rllr`` and ``verifier`` with 96 cycles of PPO in the place of 24, all else as there; the gains over ``sft`` stand
    beside those of 24 cycles, which the cells of `rllr` hold.

    python studies/rllr_longer.py --data DATA_FOLDER   # resumable
    python studies/rllr_longer.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from page import page_head, ran_on
from rllr import HOW, begin, classify, curve, reinforce, reward_model, teach, timed, told_of
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.verdicts import Effect, hierarchical_effect
from assay.output import write_atomic, write_json

CYCLES, POLICY = 96, "words"
ARMS = ("rllr", "verifier")
CELLS = [f"{task}.{POLICY}.{seed}" for seed in range(1, 4) for task in ("trec", "sst2")]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Teach the policy and its reward model as `rllr` does, and let it learn for longer."""
    task, kind, number = cell.split(".")
    seed, (rate, of_rewards, _, epochs) = int(number), HOW[kind]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        begin(place, task, kind, seed, data)
        teach(place, "teach", "sft", "base", seed, rate, epochs)
        reward_model(place, "label", seed, of_rewards)
        for name in ARMS:
            with timed(seconds, name):
                reinforce(place, name, kind, seed, CYCLES)
        found = told_of(place, classify(place, seed, ARMS))
        curves = {name: curve(place / name / "history.jsonl") for name in ARMS}
    return {"seconds": seconds, **found, "curves": curves}


def write_longer(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/rllr_longer.json`` and its page."""
    short = {cell["cell"]: cell for cell in finished_cells(RESULTS / "rllr_cells")}
    # without a cell of `rllr` there is nothing to compare one with
    cells = [cell for cell in finished_cells(folder) if cell["cell"] in short]
    each: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        each[cell["cell"].split(".")[0]].append(cell)
    found: dict[str, Any] = {}
    for task, many in each.items():
        before = [short[cell["cell"]] for cell in many]
        same = [a["right"]["sft"] == b["right"]["sft"] for a, b in zip(many, before, strict=True)]
        found[task] = {
            "seeds": len(many),
            "begins_alike": all(same),
            "sft": float(_right(many, "sft").mean()),
            "arms": {arm: {"24": _told(before, arm), "96": _told(many, arm)} for arm in ARMS},
        }
    result = {"study": study, "tasks": found, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _right(many: list[dict[str, Any]], arm: str) -> np.ndarray:
    return np.array([cell["right"][arm] for cell in many], np.float64)


def _told(many: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    """Return an arm's gain over ``sft``, its mean reward in the first and the last cycles, and how far it went."""
    groups = np.array(many[0]["groups"], object)
    gain: Effect = hierarchical_effect(_right(many, arm) - _right(many, "sft"), np.ones(len(groups)), groups)
    rewards = [[row["reward"] for row in cell["curves"][arm]] for cell in many]
    return {
        "gain": gain.to_dict(),
        "reward_first": float(np.mean([np.mean(own[:4]) for own in rewards])),
        "reward_last": float(np.mean([np.mean(own[-4:]) for own in rewards])),
        "divergence": float(np.mean([cell["curves"][arm][-1]["divergence"] for cell in many])),
    }


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = page_head(study, docstring, result)
    lines += ["| task, seeds | arm | cycles | points over `sft` | reward, first and last 4 cycles | divergence |"]
    lines.append("|---" * 6 + "|")
    for task, own in result["tasks"].items():
        for arm, by_cycles in own["arms"].items():
            for cycles, told in by_cycles.items():
                low, high = told["gain"]["ci95"]
                gain = f"{100 * told['gain']['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
                rewards = f"{told['reward_first']:.2f}, {told['reward_last']:.2f}"
                where = f"{task} ({100 * own['sft']:.1f} %), {own['seeds']}"
                lines.append(f"| {where} | {arm} | {cycles} | {gain} | {rewards} | {told['divergence']:.2f} |")
    alike = all(own["begins_alike"] for own in result["tasks"].values())
    same = "the same answers as those of" if alike else "other answers than some of"
    return "\n".join([*lines, "", f"`sft` gives {same} `rllr`, seed by seed.", "", ran_on(result), ""])


STUDY = Study("rllr_longer", __doc__ or "", CELLS, (), run_cell, data="sentiment and trec", summarise=write_longer)

if __name__ == "__main__":
    conduct(STUDY)
