"""From finished cells of ``error_spans`` to its result file and page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from page import page_head, ran_on, verdict_table
from sklearn.metrics import roc_auc_score
from summary import RESULTS, circumstances, finished_cells, judged

from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json

SMALLEST, TENTHS, ORDERS = 0.02, 10, 20


def write_error_spans(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/error_spans.json`` and ``error_spans.md``."""
    cells = finished_cells(folder)
    arms: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for cell in cells:
        arm, fold = cell["cell"].split(".")
        arms[arm][int(fold)] = cell
    verdicts: list[dict[str, Any]] = []
    tables: dict[str, Any] = {}
    for arm, folds in arms.items():
        areas = areas_of(folds)
        accuracies = [cell["accuracy"] for cell in folds.values() if cell["accuracy"] is not None]
        tables[arm] = {"accuracy": float(np.mean(accuracies)) if accuracies else None, "areas": {}}
        for unit, found in areas.items():
            tables[arm]["areas"][unit] = {name: _effect(values).to_dict() for name, values in found.items()}
            for control in ("shuffled", "position"):
                effect = _effect(found["credit"] - found[control])
                told = judged(f"credit above {control}", f"area, {unit}", arm, effect, SMALLEST)
                verdicts.append({**told, "unit": "of 1"})
    result = {"study": study, "verdicts": verdicts, "arms": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _effect(values: np.ndarray) -> Any:
    """Return a mean over questions with its interval."""
    return hierarchical_effect(values[None], np.ones(len(values)), np.arange(len(values)).astype(object))


def areas_of(folds: dict[int, dict[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Return for words and sentences the area of credit and of both controls, of every answer with both kinds."""
    found: dict[str, dict[str, list[float]]] = {unit: defaultdict(list) for unit in ("words", "sentences")}
    random = np.random.default_rng(0)
    for fold, cell in folds.items():
        others = [answer for other, own in folds.items() if other != fold for answer in own["answers"]]
        marked = shares_by_place(others or cell["answers"])
        for answer in cell["answers"]:
            sentence = np.array(answer["sentence"], int)
            credit, place = np.array(answer["credit"]), np.array(answer["place"])
            guess = marked[np.minimum((place * TENTHS).astype(int), TENTHS - 1)]
            orders = [random.permutation(credit) for _ in range(ORDERS)]
            sizes = np.bincount(sentence)
            units = {
                "words": (np.array(answer["error"]), credit, guess, orders),
                "sentences": (
                    np.array(answer["wrong_sentences"]),
                    np.bincount(sentence, credit),
                    np.bincount(sentence, guess) / sizes,
                    [np.bincount(sentence, order) for order in orders],
                ),
            }
            for unit, (errors, own, placed, shuffled) in units.items():
                if 0 < errors.mean() < 1:
                    found[unit]["credit"].append(roc_auc_score(errors, -own))
                    found[unit]["position"].append(roc_auc_score(errors, placed))
                    found[unit]["shuffled"].append(np.mean([roc_auc_score(errors, -order) for order in shuffled]))
    return {unit: {name: np.array(values) for name, values in own.items()} for unit, own in found.items()}


def shares_by_place(answers: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return how often words at each tenth of an answer are marked, ``[tenths]``."""
    place = np.concatenate([answer["place"] for answer in answers])
    errors = np.concatenate([answer["error"] for answer in answers]).astype(float)
    tenth = np.minimum((place * TENTHS).astype(int), TENTHS - 1)
    counts = np.bincount(tenth, minlength=TENTHS)
    return np.asarray(np.bincount(tenth, errors, minlength=TENTHS) / np.maximum(counts, 1))


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += ["| reward model | right of pairs | unit | answers | credit | position | shuffled |", "|---" * 7 + "|"]
    for arm, found in result["arms"].items():
        right = "–" if found["accuracy"] is None else f"{100 * found['accuracy']:.1f} %"
        for unit, areas in found["areas"].items():
            credit, count = areas["credit"], areas["credit"]["groups"]
            low, high = credit["ci95"]
            lines.append(
                f"| {arm} | {right} | {unit} | {count} | {credit['value']:.3f} ({low:.3f} to {high:.3f}) | "
                f"{areas['position']['value']:.3f} | {areas['shuffled']['value']:.3f} |"
            )
    return "\n".join([*lines, "", ran_on(result), ""])
