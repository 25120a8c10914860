"""From the cells of `rllr` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells, judged

from assay.evaluation.verdicts import Effect, hierarchical_effect
from assay.output import write_atomic, write_json
from assay.workflows.classify_models import PAIRS_TESTED

SMALLEST = 0.01
#: Points of accuracy that the authors report, of large models over eight tasks.
PUBLISHED = {"rllr above sft": 1.54, "rllr above rlhf": 0.69}
CONTRASTS = (("rllr", "sft"), ("rllr", "rlhf"), ("mixed", "rllr"), ("verifier", "sft"))
ARMS = ("sft_label", "sft", "sft_more", "rlhf", "rllr", "mixed", "uncapped", "verifier")
Cells = list[dict[str, Any]]


def write_rllr(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/rllr.json`` and its page."""
    cells = finished_cells(folder)
    verdicts, tables = [], {}
    for policy, tasks in by_policy(cells).items():
        known = {task: many for task, many in tasks.items() if _above_guessing(many)}
        together = [("all tasks", in_all(tasks))]
        together += [(" and ".join(known), in_all(known))] if 0 < len(known) < len(tasks) else []
        for one, other in CONTRASTS:
            claim = f"{one} above {other}"
            for name, shared in together:
                if all(shared.values()):
                    effect = over_all(shared, one, other)
                    verdicts.append(judged(claim, "accuracy", f"{policy}, {name}", effect, SMALLEST))
            for task, many in tasks.items():
                verdict = judged(claim, "accuracy", f"{policy}, {task}", gap(many, one, other), SMALLEST)
                verdicts.append(verdict | {"informative": task in known})
        tables[policy] = {task: _table(many) | {"informative": task in known} for task, many in tasks.items()}
    result = {"study": study, "verdicts": verdicts, "policies": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def by_policy(cells: Cells) -> dict[str, dict[str, Cells]]:
    """Return cells by policy and task, in order."""
    found: defaultdict[str, defaultdict[str, Cells]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        task, policy, _ = cell["cell"].split(".")
        found[policy][task].append(cell)
    return {policy: dict(tasks) for policy, tasks in found.items()}


def right_of(many: Cells, arm: str) -> np.ndarray:
    """Return whether each test example was told rightly, ``[seeds, examples]``; all seeds share the examples."""
    return np.array([cell["right"][arm] for cell in many], np.float64)


def gap(many: Cells, one: str, other: str) -> Effect:
    """Return the difference of two arms' accuracies."""
    groups = np.array(many[0]["groups"], object)
    return hierarchical_effect(right_of(many, one) - right_of(many, other), np.ones(len(groups)), groups)


def _above_guessing(many: Cells) -> bool:
    """Tell whether the policy that all begin as is certainly right more often than the commonest label."""
    counts = [own["count"] for own in many[0]["arms"]["sft"]["by_class"].values()]
    groups = np.array(many[0]["groups"], object)
    gap = hierarchical_effect(right_of(many, "sft") - max(counts) / sum(counts), np.ones(len(groups)), groups)
    return gap.ci95[0] > 0


def in_all(tasks: dict[str, Cells]) -> dict[str, Cells]:
    """Return the cells of seeds that all tasks have, in one order."""
    numbered = {task: {cell["cell"].split(".")[2]: cell for cell in many} for task, many in tasks.items()}
    seeds = sorted(set.intersection(*(set(own) for own in numbered.values())))
    return {task: [own[seed] for seed in seeds] for task, own in numbered.items()}


def over_all(tasks: dict[str, Cells], one: str, other: str) -> Effect:
    """Return the mean over tasks, each task as much as the others."""
    terms = [right_of(many, one) - right_of(many, other) for many in tasks.values()]
    weight = np.concatenate([np.full(each.shape[1], 1 / each.shape[1]) for each in terms])
    groups = [f"{task}: {group}" for task, many in tasks.items() for group in many[0]["groups"]]
    return hierarchical_effect(np.concatenate(terms, axis=1), weight, np.array(groups, object))


def _table(many: Cells) -> dict[str, Any]:
    return {
        "accuracy": {arm: float(right_of(many, arm).mean()) for arm in ARMS},
        "unread": {arm: float(np.mean([cell["arms"][arm]["unread"] for cell in many])) for arm in ARMS},
        "pairs": {
            kind: {
                model: float(np.mean([cell["pairs"][kind][model]["accuracy"]["value"] for cell in many]))
                for model in ("label", "rationale")
            }
            for kind in PAIRS_TESTED
        },
        "best_of": {
            model: {str(n): _best_of(many, model, n) for n in sorted({p["n"] for p in many[0]["best_of"]})}
            for model in ("label", "rationale")
        },
        "divergence": {
            arm: float(np.mean([cell["curves"][arm][-1]["divergence"] for cell in many])) for arm in many[0]["curves"]
        },
        "minutes": float(np.mean([sum(cell["seconds"].values()) / 60 for cell in many])),
    }


def _best_of(many: Cells, model: str, n: int) -> float:
    return float(
        np.mean([p["gold"]["value"] for cell in many for p in cell["best_of"] if (p["by"], p["n"]) == (model, n)])
    )


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += ["Uninformative: `sft` is not certainly right more often than the commonest label there.", ""]
    lines += ["| average gain | published, points | here, points | smallest detectable here |", "|---|---|---|---|"]
    for verdict in result["verdicts"]:
        if verdict["claim"] in PUBLISHED and "informative" not in verdict:
            here = (
                f"{100 * verdict['effect']:+.2f} ({100 * verdict['ci95'][0]:+.2f} to {100 * verdict['ci95'][1]:+.2f})"
            )
            detectable = f"{100 * verdict['minimum_detectable_effect']:.2f}"
            name = f"{verdict['claim']}, {verdict['data']}"
            lines.append(f"| {name} | {PUBLISHED[verdict['claim']]:+.2f} | {here} | {detectable} |")
    lines += ["", "## Accuracy (answers without a label)", "", f"| policy, task | {' | '.join(ARMS)} |"]
    lines.append("|---" * (len(ARMS) + 1) + "|")
    each = [(policy, task, own) for policy, tasks in result["policies"].items() for task, own in tasks.items()]
    for policy, task, own in each:
        shares = [f"{100 * own['accuracy'][arm]:.1f} % ({100 * own['unread'][arm]:.1f})" for arm in ARMS]
        lines.append(f"| {policy}, {task} | {' | '.join(shares)} |")
    lines += ["", "## Reward models on held-out pairs: label, rationale", ""]
    lines += [f"| policy, task | {' | '.join(kind.replace('_', ' ') for kind in PAIRS_TESTED)} |", "|---" * 5 + "|"]
    for policy, task, own in each:
        pairs = [" , ".join(f"{100 * value:.1f} %" for value in own["pairs"][kind].values()) for kind in PAIRS_TESTED]
        lines.append(f"| {policy}, {task} | {' | '.join(pairs)} |")
    lines += ["", "## Best of n answers of `sft`", "", "| policy, task | chosen by | right, by n |", "|---|---|---|"]
    for policy, task, own in each:
        for model, points in own["best_of"].items():
            numbers = ", ".join(f"{n}: {100 * value:.1f} %" for n, value in points.items())
            lines.append(f"| {policy}, {task} | {model} | {numbers} |")
    lines += ["", "## Divergence from `sft` at the end, nats a response; minutes of a cell", ""]
    lines += ["| policy, task | divergence | minutes |", "|---|---|---|"]
    for policy, task, own in each:
        far = ", ".join(f"{arm} {value:.2f}" for arm, value in own["divergence"].items())
        lines.append(f"| {policy}, {task} | {far} | {own['minutes']:.0f} |")
    return "\n".join([*lines, "", ran_on(result), ""])
