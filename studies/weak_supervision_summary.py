"""From the finished cells of `weak_supervision` to its result files and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from equal_to import Point, equal_to
from page import page_head, ran_on, verdict_table
from sklearn.metrics import f1_score
from summary import RESULTS, Contrast, DataSet, circumstances, describe_arm, finished_cells, verdict_row

from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

NAMES = {
    "baseline": "known judgements alone",
    "steps": "the same, matched steps",
    "soft": "and weak labels, soft",
    "hard": "and weak labels, hard",
    "sure": "and weak labels, hard, above 0.6",
    "majority": "and a majority's labels",
    "by_length": "and the longer one's labels",
    "logistic": "and logistic labels",
    "random": "and random labels",
    "true": "and the true labels",
    "steps_sampled": "known ones alone, steps of the sampled",
    "sampled": "and sampled responses, weak labels",
    "sampled_random": "and sampled responses, random labels",
}
COLUMNS = (
    "accuracy",
    "95 % interval",
    "over matched steps",
    "macro-F1",
    "where longer wins",
    "where shorter wins",
    "NLL",
    "ECE",
    "in null band",
    "equal to",
)


def write_weak_supervision(
    study: str,
    docstring: str,
    folder: Path,
    planned: Sequence[str],
    *,
    contrasts: Sequence[Contrast],
    fades: Contrast | None,
    shares: Mapping[str, Sequence[int]],
) -> None:
    """Write ``results/weak_supervision.json``, ``.md`` and ``.svg`` from the finished cells."""
    cells = finished_cells(folder)
    by_share: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        name, share, _ = cell["cell"].split(".")
        by_share[name, int(share)].append(cell)
    sets = {key: data_set(*key, many) for key, many in sorted(by_share.items())}
    arms = {key: {arm: described(data, arm) for arm in data.arms} for key, data in sets.items()}
    labels = {f"{name}.{share}": told_of(many) for (name, share), many in sorted(by_share.items())}
    points = {name: curve_of(name, sets, labels) for name in dict.fromkeys(name for name, _ in sets)}
    curves = {
        name: {"judgements": [p.judgements for p in own], "accuracy": [p.accuracy for p in own]}
        for name, own in points.items()
    }
    for (name, share), found in arms.items():
        for arm in found:
            if arm in sets[name, share].arms and arm in NAMES:
                found[arm]["equal_to"] = equal_to(points[name], sets[name, share], arm)
    informative = {name: learns(sets.get((name, shares[name][0]))) for name in curves}
    verdicts = []
    for (name, share), data in sets.items():
        told = {"informative": informative[name]}
        if share not in shares[name]:
            continue
        for contrast in contrasts:
            terms = data.paired(contrast.better, contrast.worse, contrast.metric)
            if terms is not None:
                where = f"{name}, {share} %"
                row = verdict_row(contrast.claim, contrast.metric, where, data, terms, contrast.smallest_effect)
                verdicts.append(row | told)
        if fades is None or share != shares[name][0]:
            continue
        terms = difference(data, sets.get((name, shares[name][-1])), fades)
        if terms is not None:
            where = f"{name}, {share} against {shares[name][-1]} %"
            verdicts.append(verdict_row(fades.claim, fades.metric, where, data, terms, fades.smallest_effect) | told)
    result = {
        "study": study,
        "verdicts": verdicts,
        "arms": {f"{name}.{share}": found for (name, share), found in arms.items()},
        "labels": labels,
        "curves": curves,
        "informative": informative,
        "training_seconds": sum(data.seconds for data in sets.values()),
        **circumstances(planned, cells),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    draw(RESULTS / f"{study}.svg", result)
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def data_set(name: str, share: int, cells: Sequence[dict[str, Any]]) -> DataSet:
    """Return the cells of one share as the other studies have them: every run with its test judgements."""
    runs = [
        {"cell": f"{name}.{arm}.{share}", "reading": cell["reading"], "runs": [cell["test"] | run]}
        for cell in cells
        for arm, run in cell["arms"].items()
    ]
    return DataSet(f"{name}, {share} %", runs)


def described(data: DataSet, arm: str) -> dict[str, Any]:
    """Return what is told of an arm: also what it has over the matched steps, and its macro-F1."""
    found = describe_arm(data, arm)
    steps = "steps_sampled" if arm.startswith("sampled") else "steps"
    terms = data.paired(arm, steps)
    if terms is not None and not arm.startswith("steps"):
        found["over_steps"] = hierarchical_effect(terms, data.weight, data.group).to_dict()
    # an F1 needs pairs in either order: which response comes first is drawn
    turned = np.random.default_rng(0).random(len(data.p)) < 0.5
    first = (data.p > 0.5) != turned
    scores = []
    for delta in data.arms[arm].delta:
        there = np.isfinite(delta) & (data.weight > 0)
        scores.append(f1_score(first[there], ((delta > 0) != turned)[there], average="macro"))
    return found | {"macro_f1": float(np.mean(scores))}


def learns(data: DataSet | None) -> bool:
    """Tell whether all true labels gain more on the smallest share than twice their standard error."""
    terms = None if data is None else data.paired("true", "steps")
    if data is None or terms is None:
        return False
    effect = hierarchical_effect(terms, data.weight, data.group)
    return effect.value > 2 * effect.standard_error


def difference(small: DataSet, large: DataSet | None, contrast: Contrast) -> np.ndarray | None:
    """Return by how much more a contrast gains with few judgements, on the test pairs of the seeds that both have."""
    mine, theirs = (gains_by_seed(each, contrast) for each in (small, large))
    seeds = [seed for seed in mine if seed in theirs]
    if large is None or not seeds:
        return None
    shared = [key for key in small.index if key in large.index]
    here, there = (np.array([each.index[key] for key in shared]) for each in (small, large))
    found = np.full((len(seeds), len(small.index)), np.nan)
    found[:, here] = [mine[seed][here] - theirs[seed][there] for seed in seeds]
    return found


def gains_by_seed(data: DataSet | None, contrast: Contrast) -> dict[int, np.ndarray]:
    """Return a contrast's paired differences on each seed's judgements."""
    terms = None if data is None else data.paired(contrast.better, contrast.worse, contrast.metric)
    if data is None or terms is None:
        return {}
    worse = data.arms[contrast.worse].seeds
    return dict(zip((seed for seed in data.arms[contrast.better].seeds if seed in worse), terms, strict=True))


def told_of(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the means over seeds of what was told of the weak labels."""
    keys = {key for cell in cells for key in cell["told"]}
    return {key: float(np.mean([cell["told"][key] for cell in cells if key in cell["told"]])) for key in sorted(keys)}


def curve_of(name: str, sets: dict[tuple[str, int], DataSet], told: dict[str, dict[str, float]]) -> list[Point]:
    """Return the points of the curve of true judgements, all with as many steps: how many, on which set, which arm."""
    shares = sorted(share for other, share in sets if other == name)
    points = [Point(told[f"{name}.{share}"]["known"], sets[name, share], "steps") for share in shares]
    first = next((share for share in shares if "true" in sets[name, share].arms), None)
    if first is not None:
        counts = told[f"{name}.{first}"]
        points.append(Point(counts["known"] + counts["rest"], sets[name, first], "true"))
    return points


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), "", f"![accuracy by share]({study}.svg)", ""]
    for key, arms in result["arms"].items():
        if "soft" not in arms:
            continue
        name, share = key.split(".")
        told = result["labels"][key]
        lines += [f"## {name}, {share} % known", ""]
        lines += [
            f"{told['known']:,.0f} judgements known, {told['rest']:,.0f} labelled. Of the weak labels "
            f"{told['weak_accuracy']:.1%} are right (a majority's {told['majority_accuracy']:.1%}, the longer one's "
            f"{told['length_accuracy']:.1%}); their calibration error is inside the band of a perfect predictor in "
            f"{told['weak_in_null_band']:.0%} of seeds. Equal to: so many true judgements alone buy this accuracy with "
            "as many steps (95 % interval over seeds and prompts of curve and arm together)."
            + ("" if result["informative"][name] else " **All true labels gain next to nothing here: uninformative.**"),
            "",
            f"| arm | {' | '.join(COLUMNS)} |",
            "|---" * (len(COLUMNS) + 1) + "|",
        ]
        for arm in (each for each in NAMES if each in arms):
            found = arms[arm]
            low, high = found["accuracy"]["ci95"]
            value = found["accuracy"]["value"]
            told_row = [
                f"{100 * value:.1f} %",
                f"{100 * low:.1f} to {100 * high:.1f}",
                _gain(found.get("over_steps")),
                f"{100 * found['macro_f1']:.1f} %",
                *(f"{100 * found[f'accuracy_{side}_wins']:.1f} %" for side in ("longer", "shorter")),
                f"{found['nll_calibrated']:.4f}",
                f"{found['ece_calibrated']:.3f}",
                f"{100 * found['ece_in_null_band_calibrated']:.0f} %",
                found["equal_to"],
            ]
            lines.append(f"| {NAMES[arm]} | {' | '.join(told_row)} |")
        lines.append("")
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, f"{took}, on {ran_on(result)}", ""])


def _gain(effect: dict[str, Any] | None) -> str:
    if effect is None:
        return "–"
    low, high = effect["ci95"]
    return f"{100 * effect['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def draw(path: Path, result: dict[str, Any]) -> None:
    """Draw accuracy against the share of known judgements, a panel for each set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "assay"
    import matplotlib.pyplot as plt

    names = list(result["curves"])
    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        shares = sorted(int(key.split(".")[1]) for key in result["arms"] if key.startswith(f"{name}."))
        for arm in ("baseline", "steps", "soft", "majority", "random", "true"):
            found = [(s, result["arms"][f"{name}.{s}"][arm]) for s in shares if arm in result["arms"][f"{name}.{s}"]]
            value = [100 * each["accuracy"]["value"] for _, each in found]
            low, high = (np.array([100 * each["accuracy"]["ci95"][k] for _, each in found]) for k in (0, 1))
            error = np.abs(np.stack([value - low, high - value]))
            panel.errorbar([s for s, _ in found], value, error, marker="o", capsize=2, label=NAMES[arm])
        panel.set(title=name, xlabel="judgements known (%)", ylabel="accuracy (%)", xscale="log", xticks=shares)
        panel.set_xticks(shares, [str(share) for share in shares])
        panel.minorticks_off()
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
