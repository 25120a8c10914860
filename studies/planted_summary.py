"""From the finished worlds of `planted` to its result file, page and figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on
from scipy.stats import t
from summary import RESULTS, circumstances, finished_cells

from assay.output import write_atomic, write_json

CHOSEN, CONTROLS = "mmpo 1.1", ("bt", "shuffled", "smooth", "weight")
SMALLEST = 0.005
MEASURES = ("nll", "nll_calibrated", "accuracy", "slope", "correlation")


def estimate(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Return the mean over seeds with its 95 % interval by Student's t."""
    x = np.asarray(values, float)
    reach = t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else float("nan")
    return {"value": float(x.mean()), "ci95": [float(x.mean() - reach), float(x.mean() + reach)], "seeds": len(x)}


def write_planted(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/planted.json``, ``.md`` and ``.svg`` from the finished cells."""
    finished = finished_cells(folder)
    cells = {cell["cell"]: cell["arms"] for cell in finished}
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, arms in cells.items():
        by_kind[name.rsplit(".", 1)[0]].append(arms)
    result: dict[str, Any] = {
        "study": study,
        "verdicts": [row for kind, many in by_kind.items() for row in verdicts_on(kind, many)],
        "graded": {kind: graded(many) for kind, many in by_kind.items()},
        **circumstances(planned, finished),
    }
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", page(study, docstring, result))
    draw(RESULTS / f"{study}.svg", result["graded"])
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def graded(many: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the worlds of one reach and noise."""
    arms = {
        arm: {name: estimate([world[arm][name] for world in many]) for name in MEASURES if name in many[0][arm]}
        for arm in many[0]
    }
    swept = [arm for arm in arms if arm.startswith("mmpo")]
    best = [min(swept, key=lambda arm: world[arm]["nll"]) for world in many]
    lowest = min(swept, key=lambda arm: arms[arm]["nll"]["value"])
    return {"arms": arms, "lowest_nll": lowest, "lowest_by_world": best}


def judged(claim: str, data: str, effect: Sequence[float] | np.ndarray, smallest_effect: float) -> dict[str, Any]:
    """Judge the claim that the mean of an effect over worlds is above 0, as `assay.evaluation.verdicts` does.

    Intervals are Student's: scores, noise and verdicts are drawn anew in each world. The texts are the same ones, or
    most of them, so nothing is said of other texts.
    """
    x = np.asarray(effect, float)
    error = x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else float("nan")
    found = estimate(x)
    above, high90 = found["ci95"][0] > 0, x.mean() + t.ppf(0.95, len(x) - 1) * error
    return {
        "claim": claim,
        "data": data,
        "verdict": "holds" if above else "does not hold" if high90 < smallest_effect else "undecided",
        "effect": found["value"],
        "ci95": found["ci95"],
        "smallest_effect": smallest_effect,
        # 80 % power at the two-sided 5 % level
        "minimum_detectable_effect": float((t.ppf(0.975, len(x) - 1) + t.ppf(0.8, len(x) - 1)) * error),
        "seeds": len(x),
    }


def verdicts_on(kind: str, many: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge the claims in the worlds of one reach and noise."""
    of = {arm: np.array([world[arm]["nll"] for world in many]) for arm in many[0] if arm.startswith("mmpo")}
    chosen = of.pop(CHOSEN)
    if kind == "all.noise-0.0":
        rows = [
            judged("no other gamma has a lower raw NLL than 1.1", kind, np.min([*of.values()], 0) - chosen, SMALLEST)
        ]
    elif kind.startswith("bent"):
        rows = []  # its verdicts have no gamma
    else:
        below = np.stack([nll for arm, nll in of.items() if float(arm.split()[1]) < float(CHOSEN.split()[1])])
        # which of them, the other worlds say: the best of several in the same world would be too good
        best = ((below.sum(axis=1, keepdims=True) - below) / (below.shape[1] - 1)).argmin(axis=0)
        less = chosen - below[best, np.arange(below.shape[1])]
        rows = [judged("a gamma below 1.1 has a lower raw NLL", kind, less, SMALLEST)]
    for control in CONTROLS:
        saved = np.array([world[control]["nll_calibrated"] - world[CHOSEN]["nll_calibrated"] for world in many])
        rows.append(judged(f"MMPO at 1.1 has a lower calibrated NLL than {control}", kind, saved, SMALLEST))
    return rows


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Graded feedback", "", f"![NLL by gamma]({study}.svg)", ""]
    lines += [*verdict_table(result["verdicts"]), ""]
    lines += ["| truth, noise | gamma of least raw NLL | in worlds |", "|---|---|---|"]
    for kind, found in result["graded"].items():
        agreed = sum(name == found["lowest_nll"] for name in found["lowest_by_world"])
        lines.append(f"| {kind} | {found['lowest_nll'].split()[1]} | {agreed} of {len(found['lowest_by_world'])} |")
    for kind, found in result["graded"].items():
        lines += ["", f"### {kind}", "", f"| arm | {' | '.join(MEASURES)} |", "|---|" + "---|" * len(MEASURES)]
        for arm, row in found["arms"].items():
            lines.append(f"| {arm} | {' | '.join(interval(row.get(name)) for name in MEASURES)} |")
    return "\n".join([*lines, "", ran_on(result), ""])


def verdict_table(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Return verdicts as lines of a Markdown table."""
    lines = ["| claim | in | verdict | effect | 95 % interval | detectable | seeds |", "|---|---|---|---|---|---|---|"]
    for row in verdicts:
        numbers = (f"{row['effect']:+.4f}", " to ".join(f"{end:+.4f}" for end in row["ci95"]))
        told = (row["claim"], row["data"], f"**{row['verdict']}**", *numbers)
        lines.append(f"| {' | '.join(told)} | {row['minimum_detectable_effect']:.4f} | {row['seeds']} |")
    return lines


def interval(found: dict[str, Any] | None) -> str:
    """Return an estimate as text."""
    if found is None:
        return "–"
    low, high = found["ci95"]
    return f"{found['value']:.3f} ({low:.3f} to {high:.3f})"


def draw(path: Path, kinds: dict[str, Any]) -> None:
    """Draw NLL over gamma, raw and calibrated, one panel per reach and noise."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "assay", "font.size": 8}
    columns = max(1, (len(kinds) + 1) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(2.6 * columns + 1, 5.2), sharey=True, squeeze=False)
    for axis, (kind, found) in zip(axes.ravel(), sorted(kinds.items()), strict=False):
        swept = {float(arm.split()[1]): row for arm, row in found["arms"].items() if arm.startswith("mmpo")}
        for measure, colour in (("nll", "#b5482a"), ("nll_calibrated", "#1d3f66")):
            rows = [swept[gamma][measure] for gamma in swept]
            low, high = ([row["ci95"][side] for row in rows] for side in (0, 1))
            axis.fill_between(list(swept), low, high, color=colour, alpha=0.2, lw=0)
            axis.plot(list(swept), [row["value"] for row in rows], color=colour, marker="o", ms=3, label=measure)
        axis.axhline(found["arms"]["the truth"]["nll"]["value"], color="#999999", ls=":", label="the truth")
        axis.axhline(found["arms"]["bt"]["nll_calibrated"]["value"], color="#666666", ls="--", label="bt, calibrated")
        axis.set_xscale("log")
        axis.set_xticks(list(swept), [f"{gamma:g}" for gamma in swept])
        axis.minorticks_off()
        axis.set_title(kind)
        axis.set_xlabel("gamma")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
