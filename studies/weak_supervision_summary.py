"""From the finished cells of `weak_supervision` to its result files and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import ran_on, verdict_table
from summary import RESULTS, Contrast, DataSet, circumstances, describe_arm, finished_cells, verdict_row

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
}
COLUMNS = (
    "accuracy",
    "95 % interval",
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
    shares: Sequence[int],
) -> None:
    """Write ``results/weak_supervision.json``, ``.md`` and ``.svg`` from the finished cells."""
    cells = finished_cells(folder)
    by_share: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        name, share, _ = cell["cell"].split(".")
        by_share[name, int(share)].append(cell)
    sets = {key: data_set(*key, many) for key, many in sorted(by_share.items())}
    arms = {key: {arm: describe_arm(data, arm) for arm in data.arms} for key, data in sets.items()}
    curves = {name: curve_of(name, by_share, arms) for name in dict.fromkeys(name for name, _ in sets)}
    verdicts = []
    for (name, share), data in sets.items():
        for contrast in contrasts:
            terms = data.paired(contrast.better, contrast.worse, contrast.metric)
            if terms is not None and share in shares:
                where = f"{name}, {share} %"
                verdicts.append(
                    verdict_row(contrast.claim, contrast.metric, where, data, terms, contrast.smallest_effect)
                )
    result = {
        "study": study,
        "verdicts": verdicts,
        "arms": {f"{name}.{share}": found for (name, share), found in arms.items()},
        "labels": {f"{name}.{share}": told_of(many) for (name, share), many in sorted(by_share.items())},
        "curves": curves,
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
    # a run of the reference arm from every cell comes first: baselines are read from it
    runs.sort(key=lambda cell: "baseline" not in cell["cell"])
    return DataSet(f"{name}, {share} %", runs)


def told_of(cells: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the means over seeds of what was told of the weak labels."""
    keys = {key for cell in cells for key in cell["told"]}
    return {key: float(np.mean([cell["told"][key] for cell in cells if key in cell["told"]])) for key in sorted(keys)}


def curve_of(
    name: str, by_share: dict[tuple[str, int], list[dict[str, Any]]], arms: dict[tuple[str, int], dict[str, Any]]
) -> dict[str, list[float]]:
    """Return numbers of true judgements and the accuracy that they buy, rising in number."""
    points = [
        (told_of(many)["known"], arms[key]["baseline"]["accuracy"]["value"])
        for key, many in by_share.items()
        if key[0] == name
    ]
    first = min((key for key in by_share if key[0] == name and "true" in arms[key]), default=None)
    if first is not None:
        told = told_of(by_share[first])
        points.append((told["known"] + told["rest"], arms[first]["true"]["accuracy"]["value"]))
    points.sort()
    return {"judgements": [n for n, _ in points], "accuracy": [a for _, a in points]}


def equal_number(curve: dict[str, list[float]], accuracy: float) -> str:
    """Tell how many true judgements buy this accuracy, along the rising hull of the curve on a logarithmic scale."""
    number, level = np.array(curve["judgements"]), np.maximum.accumulate(curve["accuracy"])
    if len(number) < 2 or accuracy < level[0]:
        return f"below {number[0]:,.0f}"
    if accuracy > level[-1]:
        return f"above {number[-1]:,.0f}"
    rising = np.append(True, np.diff(level) > 0)
    return f"{np.exp(np.interp(accuracy, level[rising], np.log(number[rising]))):,.0f}"


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = [f"# Study: {study.replace('_', ' ')}", "", "```text", docstring.strip(), "```", ""]
    if result["cells_missing"]:
        lines += [f"**Not finished:** {len(result['cells_missing'])} planned cells have not run.", ""]
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"]), "", f"![accuracy by share]({study}.svg)", ""]
    for key, arms in result["arms"].items():
        if "soft" not in arms:
            continue
        name, share = key.split(".")
        told, curve = result["labels"][key], result["curves"][name]
        lines += [f"## {name}, {share} % known", ""]
        lines += [
            f"{told['known']:,.0f} judgements known, {told['rest']:,.0f} labelled. Of the weak labels "
            f"{told['weak_accuracy']:.1%} are right (a majority's {told['majority_accuracy']:.1%}, the longer one's "
            f"{told['length_accuracy']:.1%}); their calibration error is inside the band of a perfect predictor in "
            f"{told['weak_in_null_band']:.0%} of seeds. Equal to: so many true judgements alone buy this accuracy.",
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
                *(f"{100 * found[f'accuracy_{side}_wins']:.1f} %" for side in ("longer", "shorter")),
                f"{found['nll_calibrated']:.4f}",
                f"{found['ece_calibrated']:.3f}",
                f"{100 * found['ece_in_null_band_calibrated']:.0f} %",
                equal_number(curve, value),
            ]
            lines.append(f"| {NAMES[arm]} | {' | '.join(told_row)} |")
        lines.append("")
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, f"{took}, on {ran_on(result)}", ""])


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
