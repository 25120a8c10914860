"""Few labels where all weights train: Proto-RM and ensembles on MiniLM, GRM on a small story model.

Fixed before the run:
  * data: HH helpful-base and harmless-base and wmt_da_pairs, as in `few_labels`; 5, 20 and 100 % of the training
    judgements, each fraction within the next; 5 seeds, each tested on a fifth of the groups.
  * MiniLM, all weights, texts of up to 128 tokens, at most three passes, in about 120 steps or one pass; a tenth of the
    judgements held out for early stopping and calibration where that is 20 or more: ``bt`` (linear head),
    ``prototypes``, ``ensemble`` (three linear heads on bootstrap samples).
  * stories260K (a causal model of 0.26M weights that knows stories), the same: an MLP of 1,024 hidden units
    (``causal``), and with GRM's regularisers: ``grm`` (-log sigmoid(beta log pi), share 0.01), ``grm_sft``,
    ``grm_dpo`` and ``grm_dpo_reference``; helpful-base only.
  * contrasts, accuracy, smallest effect 2 points: prototypes above bt at 5 %, and comparable at 20 % with bt at 100 %
    (not 2 points below); ensemble above bt at 5 %; grm above causal at 5 and at 100 %.
  * test: hierarchical bootstrap over seeds and split groups.
  * cut: passes, steps and lengths, for a budget of hours on two cores; five seeds.

    python studies/few_labels_tuned.py --data DATA_FOLDER   # resumable
    python studies/few_labels_tuned.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from common import Study, conduct
from few_labels import bench_of, cell_of, read_set
from few_labels_summary import Claim, write_methods

from assay.config import build
from assay.workflows.settings import TrainSettings
from assay.workflows.study_cells import run_cell as run_fraction
from assay.workflows.study_methods import Method

SEEDS, STEPS, FRACTIONS = 5, 120, (0.05, 0.2, 1.0)
SETS = ("helpful-base", "harmless-base", "wmt")
MINILM: dict[str, dict[str, Any]] = {
    "bt": {},
    "prototypes": {"head": {"kind": "prototypes"}},
    "ensemble": {"ensemble": {"members": 3}},
}
CAUSAL: dict[str, dict[str, Any]] = {
    "causal": {},
    "grm": {"grm": {"kind": "sigmoid"}},
    "grm_sft": {"grm": {"kind": "sft"}},
    "grm_dpo": {"grm": {"kind": "dpo"}},
    "grm_dpo_reference": {"grm": {"kind": "dpo", "reference": True}},
}
# whole rounds of seeds first, so that an interrupted study is balanced
CELLS = [
    *(f"{name}.{method}.{seed}" for seed in range(SEEDS) for method in MINILM for name in SETS),
    *(f"helpful-base.{method}.{seed}" for seed in range(SEEDS) for method in CAUSAL),
]
CLAIMS: tuple[Claim, ...] = (
    ("Proto-RM with 20 % of the labels is comparable with BT with all", ("prototypes", 0.2), ("bt", 1.0), 0.02),
    ("Proto-RM above BT at 5 %", ("prototypes", 0.05), ("bt", 0.05), 0.0),
    ("an ensemble above BT at 5 %", ("ensemble", 0.05), ("bt", 0.05), 0.0),
    ("GRM above the same head without it at 5 %", ("grm", 0.05), ("causal", 0.05), 0.0),
    ("GRM above the same head without it, all labels", ("grm", 1.0), ("causal", 1.0), 0.0),
)


def method_of(name: str, options: dict[str, Any], data: Path) -> Method:
    """Return one method."""
    common: dict[str, Any] = {"data": "-", "out": "-", "max_length_tokens": 128, "token_budget": 4096, **options}
    given = MINILM[name] if name in MINILM else CAUSAL[name]
    if name in CAUSAL:
        common |= {"backbone": str(data / "stories260K" / "hf"), "head": {"kind": "mlp", "hidden": 1024}}
    return Method(name, given, build(TrainSettings, common | given))


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train one method on all fractions of a set with one seed."""
    name, method, number = cell.split(".")
    seed = int(number)
    bench = bench_of(name, data)
    given = method_of(method, read_set(name, data)[1], data)
    found = [run_fraction(bench, given, fraction, range(seed, seed + 1), STEPS) for fraction in FRACTIONS]
    return cell_of(bench, found, with_test=cell in (f"{name}.bt.0", f"{name}.causal.0"))


def joined(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the seeds of a method on a fraction together; only those seeds that all methods have."""
    runs: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        for each in cell["cells"]:
            runs[each["method"], each["fraction"]] += each["runs"]
    common = set.intersection(*({run["seed"] for run in many} for many in runs.values()))
    return [
        {
            "method": method,
            "fraction": fraction,
            "runs": sorted((run for run in many if run["seed"] in common), key=lambda run: run["seed"]),
        }
        for (method, fraction), many in runs.items()
    ]


def set_of(cell: str) -> tuple[str, str]:
    """Return what a cell is compared within, and the baseline there."""
    name, method, _ = cell.split(".")
    return (f"{name}, stories260K", "causal") if method in CAUSAL else (name, "bt")


STUDY = Study(
    "few_labels_tuned",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="hh_rlhf, wmt_da_pairs and stories260K",
    summarise=partial(write_methods, claims=CLAIMS, set_of=set_of, joined=joined, seeds=SEEDS),
)

if __name__ == "__main__":
    conduct(STUDY)
