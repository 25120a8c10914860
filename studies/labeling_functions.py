"""Coverage and accuracy of the published labeling functions, beside those of an independent implementation.

The functions of Hauptvogel et al. 2024 on hh_rlhf/train-1pct, ultrafeedback ub and ubp, and mt_bench_human both as
released (answers to the second question, labelled by the first) and cut at the judged turn. An accuracy is that of the
votes cast; the table beside it was measured once with functions written anew from the released code, on the same files
(mt_bench: on the training part of its raw form, before votes were merged).

    python studies/labeling_functions.py --data DATA_FOLDER
    python studies/labeling_functions.py --summary
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from page import ran_on
from summary import RESULTS, circumstances, finished_cells

from assay.evaluation.label_analysis import analyse
from assay.feedback import read
from assay.feedback.labeling import apply, preset, response_pairs
from assay.output import write_atomic, write_json

_UB = {"prompt": "instruction", "responses": ["answer_0", "answer_1"], "choice": "label"}
_MT = {"choice": "label", "votes": "votes", "group": "first_question"}
SETS: dict[str, dict[str, Any]] = {
    "hh": {"path": "hh_rlhf/train-1pct.jsonl.gz", "preset": "hh", "tolerance": 0.02},
    "ub": {"path": "ultrafeedback_2pct/ub.jsonl.gz", "preset": "ultrafeedback_binarized", "mapping": _UB},
    "ubp": {"path": "ultrafeedback_2pct/ubp.jsonl.gz", "preset": "ultrafeedback_preferences", "mapping": _UB},
    "mt_raw": {
        "path": "mt_bench_human/pairs.jsonl.gz",
        "preset": "mt_bench",
        "mapping": _MT | {"prompt": "conversation", "responses": ["answer_0", "answer_1"]},
    },
    "mt_judged_turn": {
        "path": "mt_bench_human/pairs.jsonl.gz",
        "preset": "mt_bench",
        "mapping": _MT
        | {
            "prompt": "first_question",
            "responses": ["first_answer_0", "first_answer_1"],
            "drop": ["first_answer_0 is null", "first_answer_1 is null"],
        },
    },
}
TOLERANCE = 0.01
COLUMNS = ("function", "votes on", "right", "95 % interval", "the other's", "within", "why not")
#: Set -> function -> coverage and accuracy by the other implementation.
REFERENCE: dict[str, dict[str, tuple[float, float]]] = {
    "hh": {
        "length": (0.895, 0.534),
        "reading ease": (0.751, 0.546),
        "lexical diversity": (0.532, 0.537),
        "sentiment": (0.860, 0.529),
        "numbers": (0.067, 0.629),
        "phrases": (0.285, 0.524),
    },
    "mt_raw": {
        "length": (0.953, 0.700),
        "reading ease": (0.693, 0.605),
        "lexical diversity": (0.621, 0.674),
        "sentiment": (0.699, 0.594),
        "numbers": (0.635, 0.635),
        "phrases": (0.306, 0.585),
    },
    "ub": {
        "length": (0.933, 0.560),
        "reading ease": (0.701, 0.570),
        "lexical diversity": (0.501, 0.540),
        "sentiment": (0.630, 0.552),
        "numbers": (0.623, 0.575),
        "phrases": (0.311, 0.571),
    },
    "ubp": {
        "length": (0.956, 0.679),
        "reading ease": (0.667, 0.580),
        "lexical diversity": (0.509, 0.647),
        "sentiment": (0.632, 0.562),
        "numbers": (0.509, 0.750),
        "phrases": (0.298, 0.610),
    },
}
WHY = {
    "reading ease": "syllables are counted by another library",
    "lexical diversity": "words are split another way (here: runs of letters, digits and underscores, lower-cased)",
    "sentiment": "another release of VADER (here 3.3)",
    "phrases": "our own lists of phrases",
    "length": "identical pairs are dropped here",
    "numbers": "identical pairs are dropped here",
}


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Cast the votes of one set."""
    source = SETS[cell]
    records = read(str(data / source["path"]), mapping=source.get("mapping"))
    votes = apply(preset(source["preset"]), response_pairs(records))
    pairs = votes.pairs
    known = pairs.truth != 0
    longer = votes.votes[:, votes.names.index("length")]
    told = analyse(votes.names, votes.votes[known], pairs.truth[known], pairs.group[known].astype(str), longer[known])
    majority = np.sign(votes.votes[known].sum(axis=1, dtype=np.int64))
    right = np.where(majority == 0, 0.5, majority == pairs.truth[known])
    return {"pairs": int(known.sum()), "majority": float(right.mean()), **told.to_dict()}


def write_table(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/labeling_functions.json`` and ``.md`` from the finished cells."""
    cells = sorted(finished_cells(folder), key=lambda cell: planned.index(cell["cell"]))
    result: dict[str, Any] = {"study": study, "sets": {}, **circumstances(planned, cells)}
    lines = ["# Study: labeling functions", "", "```text", docstring.strip(), "```", ""]
    for cell in cells:
        name = cell["cell"]
        rows = [compared(name, row) for row in cell["functions"]]
        result["sets"][name] = {"pairs": cell["pairs"], "majority": cell["majority"], "functions": rows}
        lines += [f"## {name}", "", f"{cell['pairs']:,} judged pairs; a majority of votes is right in "]
        lines[-1] += f"{cell['majority']:.1%} (even votes: one half)."
        lines += ["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for row in rows:
            other = "–" if row["reference"] is None else f"{row['reference'][0]:.3f} / {row['reference'][1]:.3f}"
            low, high = row["ci95"] or (float("nan"), float("nan"))
            within = "–" if row["within"] is None else "yes" if row["within"] else "no"
            why = WHY.get(row["name"], "") if row["within"] is False else ""
            own = [f"{row['coverage']:.3f}", f"{row['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"]
            lines.append(f"| {' | '.join([row['name'], *own, other, within, why])} |")
        lines.append("")
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", "\n".join([*lines, ran_on(result), ""]))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def compared(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a function's figures, and whether they are near the other implementation's."""
    reference = REFERENCE.get(name, {}).get(row["name"])
    limit = SETS[name].get("tolerance", TOLERANCE)
    own = (row["coverage"], row["accuracy"]["value"])
    near = None if reference is None else all(abs(a - b) <= limit + 5e-4 for a, b in zip(own, reference, strict=True))
    return {
        "name": row["name"],
        "coverage": own[0],
        "accuracy": own[1],
        "ci95": row["accuracy"]["ci95"],
        "reference": reference,
        "within": near,
        "longer": row["longer"],
    }


STUDY = Study(
    "labeling_functions",
    __doc__ or "",
    list(SETS),
    (),
    run_cell,
    data="hh_rlhf, ultrafeedback_2pct and mt_bench_human",
    summarise=write_table,
)

if __name__ == "__main__":
    conduct(STUDY)
