"""From finished cells to a study's result file, its page and its figure."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from page import draw, page

from assay.evaluation import brier, calibration_error, nll
from assay.evaluation.metrics import accuracy_terms, brier_terms, decided, hard_labels, nll_terms
from assay.evaluation.verdicts import Effect, hierarchical_effect, minimum_detectable_effect, verdict_on
from assay.output import write_atomic, write_json
from assay.versions import current_versions
from assay.workflows import hardware

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Contrast:
    """One claim, fixed before the run: arm ``better`` beats arm ``worse``.

    On accuracy; or on the calibrated ``nll`` or ``brier`` score of the verdicts, where less is better, and an effect
    above 0 is what ``better`` has less. These leave ties out; ``nll_with_ties`` takes them as half a win of each.
    """

    claim: str
    better: str
    worse: str
    smallest_effect: float
    metric: str = "accuracy"


def cell_path(folder: Path, name: str) -> Path | None:
    """Return the file of a finished cell; None where it has not run."""
    return next((path for suffix in ("json.gz", "json") if (path := folder / f"{name}.{suffix}").exists()), None)


def read_cell(path: Path) -> dict[str, Any]:
    """Return the content of a finished cell."""
    content = path.read_bytes()
    return dict(json.loads(gzip.decompress(content) if path.suffix == ".gz" else content))


def finished_cells(folder: Path) -> list[dict[str, Any]]:
    """Return the content of all finished cells, by name; end the program where there is none."""
    cells = [read_cell(path) for path in sorted(folder.glob("*.json*"))]
    if not cells:
        print(f"no finished cell in {folder}; run the study without --summary first", file=sys.stderr)
        raise SystemExit(2)
    return cells


def machine() -> dict[str, Any]:
    """Return what every cell keeps of where it ran."""
    return {"hardware": hardware.describe(), "versions": current_versions()}


def circumstances(planned: Sequence[str], cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what every result file ends with: the cells that are missing, and the machines that ran the others."""
    done = {cell["cell"] for cell in cells}
    machines: list[dict[str, Any]] = []
    for cell in cells:
        if cell["machine"] not in machines:
            machines.append(cell["machine"])
    return {"cells_missing": [name for name in planned if name not in done], "machines": machines}


class Arm:
    """One arm on one data set: matrices ``[seeds, judgements]`` on a common list of judgements; NaN: not judged."""

    def __init__(self, runs: Sequence[dict[str, Any]], index: dict[str, int], values: str) -> None:
        shape = (len(runs), len(index))
        self.seeds = [run["seed"] for run in runs]
        self.temperature = np.array([run["temperature"] or 1.0 for run in runs])
        self.gammas = Counter(f"{run['gamma']:g}" for run in runs if isinstance(run.get("gamma"), float))
        self.ranks = [run["rank"] for run in runs if run.get("rank") is not None]
        self.delta = np.full(shape, np.nan)
        for row, run in enumerate(runs):
            places = [index[key] for key in keys_of(run)]
            self.delta[row, places] = run[values]


def keys_of(run: dict[str, Any]) -> list[str]:
    """Name each judgement of a run; the same pair judged again is another judgement."""
    seen: Counter[str] = Counter()
    names = []
    for row in run["row"]:
        seen[row] += 1
        names.append(f"{row}#{seen[row]}")
    return names


class DataSet:
    """All cells of one data set."""

    def __init__(self, name: str, cells: Sequence[dict[str, Any]]) -> None:
        self.name, self.cells = name, cells
        by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for cell in cells:
            by_arm[cell["cell"].rsplit(".", 2)[1]] += cell["runs"]
        runs = [run for many in by_arm.values() for run in many]
        self.index = {key: place for place, key in enumerate(sorted({k for run in runs for k in keys_of(run)}))}
        count = len(self.index)
        self.p, self.w, self.length = np.full(count, 0.5), np.zeros(count), np.zeros(count)
        self.group = np.full(count, "", dtype=object)
        for run in runs:
            places = [self.index[key] for key in keys_of(run)]
            for target, source in ((self.p, "p"), (self.w, "w"), (self.length, "length"), (self.group, "group")):
                target[places] = run[source]
        self.arms = {
            arm: Arm(sorted(many, key=lambda r: r["seed"]), self.index, "delta") for arm, many in by_arm.items()
        }
        reference = by_arm.get("full") or next(iter(by_arm.values()))
        self.arms["bag_of_words"] = Arm(sorted(reference, key=lambda r: r["seed"]), self.index, "bag_of_words")
        judged = np.isfinite(self.arms["bag_of_words"].delta)
        length = Arm(reference, self.index, "length")
        # the better of the two rules, so that nothing is gained by naming the weaker one
        longer = np.nansum(self.hits(self.length[None]) * self.w * decided(self.p)) / (self.w * decided(self.p)).sum()
        self.longer_wins = float(longer)
        length.delta = np.where(judged, self.length[None] * (1 if longer >= 0.5 else -1), np.nan)
        self.arms["length"] = length
        self.seconds = sum(run["seconds"] for run in runs)

    def hits(self, delta: np.ndarray) -> np.ndarray:
        """Return 1, 1/2 or 0 per judgement; NaN where not judged."""
        safe = np.where(np.isfinite(delta), delta, 0.0)
        return np.where(np.isfinite(delta), np.stack([accuracy_terms(row, self.p) for row in safe]), np.nan)

    @property
    def weight(self) -> np.ndarray:
        """Weight of each decided judgement."""
        return self.w * decided(self.p)

    def weight_for(self, metric: str) -> np.ndarray:
        """Return the weight of each judgement in a metric."""
        return self.w if metric == "nll_with_ties" else self.weight

    def terms(self, arm: Arm, rows: Sequence[int], metric: str) -> np.ndarray:
        """Return what an arm gains per judgement, ``[rows, judgements]``: hits, or minus the loss of calibrated P."""
        if metric == "accuracy":
            return self.hits(arm.delta[list(rows)])
        loss, labels = brier_terms if metric == "brier" else nll_terms, hard_labels(self.p)
        with np.errstate(invalid="ignore"):  # NaN: not judged with this seed
            return -np.stack([loss(arm.delta[row] / arm.temperature[row], labels) for row in rows])

    def paired(self, better: str, worse: str, metric: str = "accuracy") -> np.ndarray | None:
        """Return differences of hits, or of losses, for the seeds that both arms have."""
        if better not in self.arms or worse not in self.arms:
            return None
        a, b = self.arms[better], self.arms[worse]
        common = [seed for seed in a.seeds if seed in b.seeds]
        if not common:
            return None
        rows = [(a.seeds.index(seed), b.seeds.index(seed)) for seed in common]
        left, right = ([pair[side] for pair in rows] for side in (0, 1))
        return self.terms(a, left, metric) - self.terms(b, right, metric)


def describe_arm(data: DataSet, name: str) -> dict[str, Any]:
    """Return accuracy with its interval, and means over seeds of the probability metrics."""
    arm = data.arms[name]
    hits = data.hits(arm.delta)
    found: dict[str, Any] = {
        "seeds": arm.seeds,
        "accuracy": hierarchical_effect(hits, data.weight, data.group).to_dict(),
        "accuracy_by_seed": [float(np.nansum(h * data.weight) / data.weight[np.isfinite(h)].sum()) for h in hits],
    }
    for side, chosen in (
        ("longer_wins", data.length * (data.p - 0.5) > 0),
        ("shorter_wins", data.length * (data.p - 0.5) < 0),
    ):
        if chosen.any():
            found[f"accuracy_{side}"] = hierarchical_effect(
                hits[:, chosen], data.weight[chosen], data.group[chosen]
            ).value
    if name in ("length", "bag_of_words"):
        return found
    metrics = defaultdict(list)
    for row, temperature in zip(arm.delta, arm.temperature, strict=True):
        there = np.isfinite(row)
        delta, p, w = row[there], data.p[there], data.w[there]
        for state, scaled in (("raw", delta), ("calibrated", delta / temperature)):
            error = calibration_error(scaled, p, w)
            metrics[f"nll_{state}"].append(nll(scaled, p, w))
            metrics[f"brier_{state}"].append(brier(scaled, p, w))
            metrics[f"ece_{state}"].append(error.value)
            metrics[f"ece_debiased_{state}"].append(error.debiased)
            metrics[f"ece_in_null_band_{state}"].append(float(error.value <= error.null_band95[1]))
    if arm.gammas:
        found["gammas"] = dict(arm.gammas)
    if arm.ranks:
        found["rank"] = float(np.mean(arm.ranks))
    return found | {name: float(np.mean(values)) for name, values in metrics.items()}


def informative(data: DataSet) -> dict[str, Any]:
    """Tell whether a plain head learns from more labels here: its gain from 10 % to all, against twice its error."""
    few = next((arm for arm in data.arms if arm.endswith("_tenth")), None)
    terms = data.paired(few.removesuffix("_tenth"), few) if few else None
    if terms is None:
        return {"verdict": "not measured yet"}
    effect = hierarchical_effect(terms, data.weight, data.group)
    return {"verdict": "yes" if effect.value > 2 * effect.standard_error else "no", "gain": effect.to_dict()}


def write_summary(
    study: str, docstring: str, folder: Path, contrasts: Sequence[Contrast], planned: Sequence[str]
) -> None:
    """Write ``results/STUDY.json``, ``STUDY.md`` and ``STUDY.svg`` from the finished cells."""
    cells = finished_cells(folder)
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_set[cell["cell"].rsplit(".", 2)[0]].append(cell)
    sets = {name: DataSet(name, many) for name, many in by_set.items()}
    uninformative = {name for name, data in sets.items() if informative(data)["verdict"] == "no"}
    arms = {name: {arm: describe_arm(data, arm) for arm in data.arms} for name, data in sets.items()}
    verdicts = []
    for name, data in sets.items():
        for contrast in contrasts:
            terms = data.paired(contrast.better, contrast.worse, contrast.metric)
            if terms is None:
                continue
            claim, metric, smallest = contrast.claim, contrast.metric, contrast.smallest_effect
            row = verdict_row(claim, metric, name, data, terms, smallest)
            # where the plain head learns nothing from more labels, little can be told of the arms
            verdicts.append(row | {"informative": name not in uninformative})
    result = {
        "study": study,
        "verdicts": verdicts,
        "arms": arms,
        "data": {name: about(data) for name, data in sets.items()},
        "training_seconds": sum(data.seconds for data in sets.values()),
        **circumstances(planned, cells),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    draw(RESULTS / f"{study}.svg", arms)
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def verdict_row(
    claim: str, metric: str, name: str, data: DataSet, terms: np.ndarray, smallest_effect: float
) -> dict[str, Any]:
    """Judge one claim from the paired differences of `DataSet.paired`."""
    effect = hierarchical_effect(terms, data.weight_for(metric), data.group)
    return judged(claim, metric, name, effect, smallest_effect)


def judged(claim: str, metric: str, name: str, effect: Effect, smallest_effect: float) -> dict[str, Any]:
    """Judge one claim from an effect that is above 0 where it is true; one seed on one group decides nothing."""
    alone = effect.seeds * effect.groups < 2
    return {
        "claim": claim,
        "metric": metric,
        "data": name,
        "verdict": "undecided" if alone else verdict_on(effect, smallest_effect),
        "negligible": not alone and max(abs(end) for end in effect.ci90) < smallest_effect,
        "effect": effect.value,
        "ci95": list(effect.ci95),
        "smallest_effect": smallest_effect,
        "minimum_detectable_effect": minimum_detectable_effect(effect),
        "seeds": effect.seeds,
        "groups": effect.groups,
    }


def about(data: DataSet) -> dict[str, Any]:
    """Describe a data set and what reading it did."""
    reading = data.cells[0]["reading"]
    return {
        "records": reading["records"],
        "judgements": reading["edges"],
        "dropped": reading["dropped"],
        "test_judgements": len(data.index),
        "test_groups": len(set(data.group)),
        "longer_wins": data.longer_wins,
        "informative": informative(data),
    }
