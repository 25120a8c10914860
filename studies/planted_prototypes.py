"""Proto-RM where the truth is a mixture of prototypes, where it is radial, and where it is linear.

Fixed before the run:
  * 5,000 pairs of vectors of 16 dimensions, no texts; a fifth tests. Each world draws the score of a vector h:
    ``mixture``: h lies around one of 32 centres (deviation 0.4, centres 1); each centre has a normal value, and a score
    is the mean of these values weighted by softmax(-distance^2 / (2 * 0.4^2));
    ``radial``: h is normal; minus the squared length of its part in 4 of the dimensions;
    ``linear``: h is normal; its product with a normal direction.
    Differences are scaled to a deviation of 4 and judged by Bradley-Terry.
  * methods: Bradley-Terry on the same vectors (``bt``), an MLP with as many weights as Proto-RM (``mlp``), Gaussian
    kernels around landmarks, their width learned (``kernel``), ``prototypes``. These vectors are shorter than those
    that the usual rates were chosen for, so each method has four settings (`SETTINGS`; found by looking at other
    worlds), and in each training that with the least NLL out of fold counts: the test takes no part.
  * 10, 50 and 100 % of the training judgements (radial, linear: 10 and 100 %); 10 worlds of each kind; 1,500 steps.
  * contrasts, accuracy on the drawn verdicts, smallest effect 2 points. Mixture: Proto-RM above the MLP and above the
    kernels with all labels; with half of the labels above either with all. Linear: not 2 points below linear
    Bradley-Terry, with all labels and with 10 %. Radial worlds are shown, nothing is claimed of them.
  * test: hierarchical bootstrap over worlds and pairs.

    python studies/planted_prototypes.py            # resumable
    python studies/planted_prototypes.py --summary  # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from datasets import Dataset
from page import page_head, ran_on, verdict_table
from scipy.special import expit, softmax
from summary import RESULTS, circumstances, finished_cells

from assay.config import build
from assay.evaluation.metrics import accuracy_terms
from assay.evaluation.verdicts import hierarchical_effect, minimum_detectable_effect, verdict_on
from assay.feedback import pairs
from assay.feedback.records import COMPARISONS, message
from assay.feedback.splitting import fold_of_rows
from assay.output import write_atomic, write_json
from assay.scorers import RewardModel
from assay.scorers.encoding import EncodedRecords
from assay.workflows.fitting_frozen import Vectors
from assay.workflows.settings import TrainSettings
from assay.workflows.study_bench import Bench
from assay.workflows.study_cells import run_cell as run_fraction
from assay.workflows.study_methods import Method

WORLDS, SEEDS, FOLDS, STEPS = ("mixture", "radial", "linear"), 10, 5, 1500
#: Worlds with smaller numbers were looked at to find settings.
FIRST = 11
FRACTIONS = {"mixture": (0.1, 0.5, 1.0), "radial": (0.1, 1.0), "linear": (0.1, 1.0)}
#: A bank of single responses that is full from the start, with the class term.
FULL = {"per_class": 140, "builders": 1, "class_weight": 1.0}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
#: Of each method: its head, and the rate.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "bt": [{"head": {"kind": "linear", "normalise": True}, "head_learning_rate": rate} for rate in RATES],
    "mlp": [{"head": {"kind": "mlp", "hidden": 286, "normalise": True}, "head_learning_rate": rate} for rate in RATES],
    "kernel": [
        {"head": {"kind": "kernel", "per_class": count, "builders": 1}, "head_learning_rate": rate}
        for count in (18, 140)
        for rate in (1e-2, 3e-2)
    ],
    "prototypes": [
        {"head": {"kind": "prototypes", "omega_schedule": "learned", **bank}, "head_learning_rate": rate}
        for bank, rate in (({}, 3e-3), ({"trained": False}, 3e-3), (FULL, 3e-3), (FULL, 1e-2))
    ],
}
PAIRS, WIDTH, CENTRES, AROUND, SPREAD, SMALLEST = 5000, 16, 32, 0.4, 4.0, 0.02
NAMES = [f"{world}.{seed}" for seed in range(FIRST, FIRST + SEEDS) for world in WORLDS]
#: World, claim, method and fraction, what it is compared with, and what it may lie below.
CLAIMS = (
    ("mixture", "Proto-RM above an MLP of its size", ("prototypes", 1.0), ("mlp", 1.0), 0.0),
    ("mixture", "Proto-RM above kernels", ("prototypes", 1.0), ("kernel", 1.0), 0.0),
    ("mixture", "half of the labels: above the MLP with all", ("prototypes", 0.5), ("mlp", 1.0), 0.0),
    ("mixture", "half of the labels: above kernels with all", ("prototypes", 0.5), ("kernel", 1.0), 0.0),
    ("linear", "Proto-RM not below linear BT", ("prototypes", 1.0), ("bt", 1.0), SMALLEST),
    ("linear", "Proto-RM not below linear BT, 10 %", ("prototypes", 0.1), ("bt", 0.1), SMALLEST),
)


def draw(world: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw vectors ``[2 * PAIRS, WIDTH]`` and their scores, as the docstring of the study says."""
    h = random.normal(size=(2 * PAIRS, WIDTH))
    if world == "linear":
        return h, h @ random.normal(size=WIDTH)
    if world == "radial":
        return h, -np.square(h[:, :4]).sum(axis=1)
    centres = random.normal(size=(CENTRES, WIDTH))
    h = centres[random.integers(0, CENTRES, len(h))] + AROUND * h
    squares = np.square(h[:, None] - centres).sum(axis=-1)
    return h, softmax(-squares / (2 * AROUND**2), axis=1) @ random.normal(size=CENTRES)


class PlantedBench(Bench):
    """A bench whose vectors are drawn, not computed from texts."""

    planted: Vectors

    def vectors_for(self, settings: TrainSettings, model: RewardModel) -> Vectors:
        """Return the drawn vectors."""
        return self.planted


def bench_of(h: np.ndarray, p: np.ndarray) -> PlantedBench:
    """Return pairs of vectors and their verdicts in five parts."""
    edge = {"a": 0, "b": 1, "m": 0.0, "w": 1.0, "source": "planted", "annotator": None, "confidence": None}
    rows = [
        {
            "prompt": [message("user", f"{number}")],
            "responses": [f"{number} a", f"{number} b"],
            "response_messages": None,
            "grades": None,
            "edges": [{**edge, "p": float(share), "round": None}],
            "prompt_id": f"{number}",
            "split_group": f"{number}",
            "meta": None,
        }
        for number, share in enumerate(p)
    ]
    data = Dataset.from_list(rows, features=COMPARISONS)
    ids = Dataset.from_dict({"ids": [[[0], [1]]] * len(p)})
    records = EncodedRecords(ids, pairs(data), 2 * np.arange(len(p) + 1), np.ones(2 * len(p), np.int64), 0, 0, 0)
    bench = PlantedBench(data, fold_of_rows(data, FOLDS, 0), FOLDS, 0)
    # the last column is where a mean over tokens keeps their number
    features = np.concatenate([h, np.zeros((len(h), 1))], axis=1).astype(np.float32)
    bench.planted = Vectors(data, records, features)
    return bench


def methods() -> dict[str, list[Method]]:
    """Return the settings of each method."""
    common = {"data": "-", "out": "-", "freeze_backbone": True, "calibration_folds": 3}
    return {
        name: [Method(name, given, build(TrainSettings, common | given)) for given in several]
        for name, several in SETTINGS.items()
    }


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Plant one world, and train all methods on all fractions of its judgements."""
    world, number = cell.split(".")
    seed = int(number)
    random = np.random.default_rng([seed, WORLDS.index(world)])
    h, scores = draw(world, random)
    gap = scores[0::2] - scores[1::2]
    gap *= SPREAD / gap.std()
    bench = bench_of(h, (random.random(len(gap)) < expit(gap)).astype(float))
    runs = []
    for name, several in methods().items():
        for fraction in FRACTIONS[world]:
            tried = [run_fraction(bench, one, fraction, range(seed, seed + 1), STEPS)["runs"][0] for one in several]
            best = int(np.argmin([run["nll"] for run in tried]))
            seconds = sum(run["seconds"] for run in tried)
            runs.append({"method": name, "fraction": fraction, **tried[best], "chosen": best, "seconds": seconds})
    tested = bench.tested(seed)
    return {
        "reading": {"records": PAIRS, "edges": PAIRS, "dropped": {}},
        "seed": seed,
        "best_accuracy": float(np.maximum(expit(gap), expit(-gap)).mean()),
        "p": pairs(bench.data.select(tested)).p.tolist(),
        "place": tested.tolist(),
        "group": [str(row) for row in tested],
        "runs": runs,
    }


def write_planted_prototypes(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/planted_prototypes.json`` and ``.md``."""
    cells = finished_cells(folder)
    by_world: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_world[cell["cell"].split(".")[0]].append(cell)
    verdicts: list[dict[str, Any]] = []
    worlds: dict[str, Any] = {}
    for world, many in by_world.items():
        many.sort(key=lambda cell: cell["seed"])
        hits, groups = _hits(many)
        weight = np.ones(len(groups))
        effect = partial(hierarchical_effect, weight=weight, groups=groups)
        worlds[world] = {
            "best_accuracy": float(np.mean([cell["best_accuracy"] for cell in many])),
            "worlds": len(many),
            "accuracy": {
                method: [effect(hits[method, fraction]).to_dict() for fraction in FRACTIONS[world]]
                for method in SETTINGS
            },
        }
        for own, claim, of, over, below in CLAIMS:
            if own == world:
                found = effect(hits[of] - hits[over] + below)
                told = found.value - below, [end - below for end in found.ci95]
                verdict = verdict_on(found, SMALLEST if below == 0 else 0.0)
                verdicts.append(
                    {"claim": claim, "metric": "accuracy", "data": world, "verdict": verdict, "negligible": False}
                    | {"effect": told[0], "ci95": told[1], "smallest_effect": SMALLEST, "seeds": len(many)}
                    | {"minimum_detectable_effect": minimum_detectable_effect(found)}
                )
    seconds = sum(run["seconds"] for cell in cells for run in cell["runs"])
    result = {"study": study, "verdicts": verdicts, "worlds": worlds, "training_seconds": seconds}
    result |= circumstances(planned, cells)
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _hits(cells: list[dict[str, Any]]) -> tuple[dict[tuple[str, float], np.ndarray], np.ndarray]:
    """Return by method and fraction which judgements each world's model is right on, ``[worlds, E]``, and groups."""
    count = 1 + max(max(cell["place"]) for cell in cells)
    groups = np.full(count, "", dtype=object)
    keys = {(run["method"], run["fraction"]) for cell in cells for run in cell["runs"]}
    hits = {key: np.full((len(cells), count), np.nan) for key in keys}
    for row, cell in enumerate(cells):
        groups[cell["place"]] = cell["group"]
        for run in cell["runs"]:
            right = accuracy_terms(np.array(run["margins"]), np.array(cell["p"]))
            hits[run["method"], run["fraction"]][row, cell["place"]] = right
    return hits, groups.astype(str)


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    for world, found in result["worlds"].items():
        shares = [f"{100 * fraction:g} %" for fraction in FRACTIONS[world]]
        lines += [f"## {world}", "", f"The truth itself would be right on {100 * found['best_accuracy']:.1f} %.", ""]
        lines += [f"| method | {' | '.join(shares)} |", "|" + "---|" * (1 + len(shares))]
        for method, each in found["accuracy"].items():
            cells = [f"{100 * a['value']:.1f} ({100 * a['ci95'][0]:.1f} to {100 * a['ci95'][1]:.1f})" for a in each]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, f"{took}, on {ran_on(result)}", ""])


STUDY = Study("planted_prototypes", __doc__ or "", NAMES, (), run_cell, summarise=write_planted_prototypes)

if __name__ == "__main__":
    conduct(STUDY)
