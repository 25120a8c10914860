"""From the cells of `label_sensitive` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from summary import RESULTS, circumstances, finished_cells, judged

from assay.evaluation.chance import near_chance
from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

BAR = 0.02
_NAMES = {
    "label_test": "label-sensitive",
    "rationale_test": "rationale-sensitive",
    "swapped_label": "one rationale, two labels",
    "wrong_rationale": "right label, wrong rationale",
}


def write_label_sensitive(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/label_sensitive.json`` and its page."""
    cells = finished_cells(folder)
    tasks: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        tasks[cell["cell"].split(".")[0]].append(cell)
    verdicts, bars, found = [], [], {}
    for name, many in tasks.items():
        own = {kind: {m: _terms(many, kind, m) for m in ("label", "rationale")} for kind in _NAMES}
        gap = _effect(many, "label_test", own["label_test"]["label"] - own["label_test"]["rationale"])
        first = judged("RLLR's reward model knows labels better", "accuracy", name, gap, 0.05)
        bars.append(
            judged("a blind model is above chance", "accuracy", name, _above_half(many), BAR)
            | {"ci90": list(_above_half(many).ci90)}
        )
        # what is told without the question is no knowledge of labels, so the claim is then not read
        verdicts.append({**first, "informative": _bar(bars[-1]) == "yes"})
        gap = _effect(many, "rationale_test", own["rationale_test"]["rationale"] - own["rationale_test"]["label"])
        verdicts.append(judged("RLHF's reward model knows rationales better", "accuracy", name, gap, 0.02))
        rise = _of_choosing(many, "8") - _of_choosing(many, "1")
        groups = np.array(many[0]["best_of"]["group"], object)
        effect = hierarchical_effect(rise, np.ones(len(groups)), groups)
        verdicts.append(judged("the best of 8 is right more often than one", "accuracy", name, effect, 0.05))
        blind = _effect(many, "blind", _terms(many, "blind", "blind"))
        found[name] = {
            "accuracy": {
                kind: {m: _effect(many, kind, terms).to_dict() for m, terms in each.items()}
                for kind, each in own.items()
            },
            "blind": blind.to_dict(),
            "best_of": {
                m: {n: float(_of_choosing(many, n, m).mean()) for n in ("1", "2", "4", "8")}
                for m in ("label", "rationale")
            },
            "pairs": {kind: _short(own) for kind, own in many[0]["task"]["pairs"].items()},
            "bag_of_words": many[0]["task"]["blind"],
        }
    result = {"study": study, "verdicts": verdicts, "bar": bars, "tasks": found, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _short(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report of pairs without counts of labels that each example has for itself: those of choices."""
    return {name: own for name, own in report.items() if not (isinstance(own, dict) and len(own) > 20)}


def _terms(many: Sequence[dict[str, Any]], kind: str, model: str) -> np.ndarray:
    """Return hits ``[seeds, judgements]``; all seeds share the test pairs."""
    return np.array([cell["hits"][kind][model] for cell in many], np.float64)


def _effect(many: Sequence[dict[str, Any]], kind: str, terms: np.ndarray) -> Any:
    given = many[0]["hits"][kind]
    return hierarchical_effect(terms, np.array(given["weight"]), np.array(given["group"], object))


def _above_half(many: Sequence[dict[str, Any]]) -> Any:
    return _effect(many, "blind", _terms(many, "blind", "blind") - 0.5)


def _bar(found: dict[str, Any]) -> str:
    """Say whether a blind model is shown to lie within the bar, or beyond it."""
    return near_chance(found["ci90"], chance=0.0, by=BAR)


def _of_choosing(many: Sequence[dict[str, Any]], n: str, model: str = "label") -> np.ndarray:
    return np.array([cell["best_of"][model][n] for cell in many], np.float64)


def _share(effect: dict[str, Any]) -> str:
    low, high = effect["ci95"]
    return f"{100 * effect['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += [
        "Uninformative: the blind model is not certainly within 2 points of one half there, for want of test pairs or "
        "since the pairs give a little away, so what they teach beside labels is not known that well.",
        "",
    ]
    lines += ["## The bar: pairs without what is asked", ""]
    lines += ["| task | blind model | bag of words | within 2 points of one half |", "|---|---|---|---|"]
    for bar in result["bar"]:
        own = result["tasks"][bar["data"]]
        lines.append(f"| {bar['data']} | {_share(own['blind'])} | {_share(own['bag_of_words'])} | {_bar(bar)} |")
    lines += ["", "## Pairs in the right order", "", "| task | pairs | label | rationale |", "|---|---|---|---|"]
    for name, own in result["tasks"].items():
        for kind, each in own["accuracy"].items():
            lines.append(f"| {name} | {_NAMES[kind]} | {_share(each['label'])} | {_share(each['rationale'])} |")
    lines += ["", "## Right labels among the best of n answers with random labels", ""]
    lines += ["| task | chosen by | 1 | 2 | 4 | 8 |", "|---|---|---|---|---|---|"]
    for name, own in result["tasks"].items():
        for model, points in own["best_of"].items():
            numbers = " | ".join(f"{100 * value:.1f} %" for value in points.values())
            lines.append(f"| {name} | {model} | {numbers} |")
    return "\n".join([*lines, "", ran_on(result), ""])
