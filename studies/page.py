"""A study's page: its verdicts and arms as Markdown tables, and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = {
    "full": "fine-tuned",
    "frozen": "frozen backbone",
    "frozen_tenth": "frozen, 10 % of the labels",
    "blind": "fine-tuned, prompt hidden",
    "frozen_reply": "frozen, mean over the reply",
    "frozen_uncounted": "frozen, mean over the reply, uncounted",
    "frozen_all": "frozen, mean over all tokens",
    "frozen_first": "frozen, first token",
    "frozen_1": "frozen, 1 pass",
    "frozen_3": "frozen, 3 passes",
    "frozen_10": "frozen, 10 passes",
    "frozen_30": "frozen, 30 passes",
    "full_all": "fine-tuned, states and attention weights dropped",
    "full_hidden": "fine-tuned, states dropped",
    "full_none": "fine-tuned, nothing dropped",
    "bt": "Bradley-Terry",
    "margin": "additive margin",
    "mmpo": "MMPO",
    "mmpo_fit": "MMPO, gamma from repeats",
    "shuffled": "MMPO, gaps shuffled",
    "smooth": "smoothing, matched",
    "weight": "weight by gap",
    "pcrm": "PCRM",
    "cleaned": "cleaned",
    "listnet": "ListNet",
    "regression": "regression",
    "bt_tenth": "Bradley-Terry, 10 % of the labels",
    "ties_kept": "Bradley-Terry, ties as one half",
    "ties_kept_tenth": "Bradley-Terry, ties as one half, 10 % of the labels",
    "ties_dropped": "Bradley-Terry, ties left out",
    "listmle": "ListMLE",
    "length": "by length",
    "bag_of_words": "bag of words",
}


PROBABILITIES = ("nll_raw", "nll_calibrated", "brier_calibrated", "ece_raw", "ece_calibrated")


def page_head(study: str, docstring: str, result: dict[str, Any]) -> list[str]:
    """Return what every page begins with: what was fixed before the run, and what has not run."""
    lines = [f"# Study: {study.replace('_', ' ')}", "", "```text", docstring.strip(), "```", ""]
    missing = result["cells_missing"]
    if missing:
        lines += [f"**Not finished:** {len(missing)} planned cells have not run: {', '.join(missing)}.", ""]
    return lines


def verdict_table(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Return the verdicts as lines of a Markdown table."""
    lines = [
        "| claim | on | data | verdict | effect | 95 % interval | detectable | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        low, high = v["ci95"]
        # points of accuracy; thousandths of a nat, or of the Brier score
        scale, unit = (100, "points") if v["metric"] == "accuracy" else (1000, "thousandths")
        if "unit" in v:
            scale, unit = 1, v["unit"]
        digits = ".2f" if scale == 1 else ".1f"
        # an effect may be above zero for certain, and too small to matter for certain
        word = f"**{v['verdict']}**" + (", negligible" if v["verdict"] == "holds" and v["negligible"] else "")
        word += "" if v.get("informative", True) else ", but on an uninformative set"
        lines.append(
            f"| {v['claim']} | {v['metric']}, {unit} | {v['data']} | {word} | {scale * v['effect']:+{digits}} | "
            f"{scale * low:+{digits}} to {scale * high:+{digits}} | "
            f"{scale * v['minimum_detectable_effect']:{digits}} | {v['seeds']} |"
        )
    return lines


def page(study: str, docstring: str, result: dict[str, Any]) -> str:
    """Return the study's page as Markdown."""
    lines = page_head(study, docstring, result)
    lines += ["## Verdicts", "", *verdict_table(result["verdicts"])]
    lines += ["", f"![accuracy of each arm]({study}.svg)", ""]
    for name, arms in result["arms"].items():
        about = result["data"][name]
        lines += [
            f"## {name}",
            "",
            f"{about['judgements']:,} judgements, {about['test_judgements']:,} of them tested on, from "
            f"{about['test_groups']:,} groups. The longer response wins {100 * about['longer_wins']:.1f} %. "
            f"Informative (a plain head gains from more labels): {about['informative']['verdict']}. "
            "NLL, Brier and ECE count a tie as half a win of each; verdicts on NLL leave ties out.",
            "",
            "| arm | accuracy | 95 % interval | where longer wins | where shorter wins | NLL raw | NLL calibrated | "
            "Brier calibrated | ECE raw | ECE calibrated | in null band | rank within a prompt | seeds |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        order = [arm for arm in NAMES if arm in arms]
        for arm in order:
            a = arms[arm]
            low, high = a["accuracy"]["ci95"]
            cells = [
                NAMES[arm],
                _percent(a["accuracy"]["value"]),
                f"{100 * low:.1f} to {100 * high:.1f}",
                _percent(a.get("accuracy_longer_wins")),
                _percent(a.get("accuracy_shorter_wins")),
                *(_number(a.get(key)) for key in PROBABILITIES),
                _percent(a.get("ece_in_null_band_calibrated"), 0),
                _number(a.get("rank")),
                str(len(a["seeds"])),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        chosen = ", ".join(
            f"{gamma} ({count} times)" for gamma, count in arms.get("mmpo", {}).get("gammas", {}).items()
        )
        lines += ["", f"MMPO chose gamma {chosen}.", ""] if chosen else [""]
    took = f"Training took {result['training_seconds'] / 60:.0f} minutes of one thread in all"
    return "\n".join([*lines, f"{took}, on {ran_on(result)}", ""])


def ran_on(result: dict[str, Any]) -> str:
    """Return the last line of a page: processors and versions."""
    processors = sorted({machine["hardware"]["cpu"] for machine in result["machines"]})
    versions = [
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        for machine in result["machines"]
    ]
    return f"{' and '.join(processors)}. {'; or '.join(dict.fromkeys(versions))}."


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def draw(path: Path, arms: dict[str, dict[str, Any]]) -> None:
    """Draw the accuracy of every arm with its interval, one panel per data set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "assay", "font.size": 9}
    figure, axes = plt.subplots(1, len(arms), figsize=(3.2 * len(arms) + 1.6, 2.6), sharey=True, squeeze=False)
    order = [arm for arm in NAMES if any(arm in found for found in arms.values())][::-1]
    for axis, (name, found) in zip(axes[0], arms.items(), strict=True):
        for height, arm in enumerate(order):
            if arm in found:
                value, (low, high) = found[arm]["accuracy"]["value"], found[arm]["accuracy"]["ci95"]
                axis.plot([100 * low, 100 * high], [height, height], color="#3b6ea5", lw=2)
                axis.plot(100 * value, height, "o", color="#1d3f66", ms=5)
        axis.axvline(50, color="#999999", lw=0.8, ls=":")
        axis.set_title(name)
        axis.set_xlabel("accuracy, %")
        axis.set_yticks(range(len(order)), [NAMES[arm] for arm in order])
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
