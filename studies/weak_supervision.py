"""Whether weak labels help a reward model that has few judgements, and whether the help fades as judgements grow.

Fixed before the run (Hauptvogel et al. 2024, whose sets of judgements are larger):
  * data: hh_rlhf (train-1pct, harmless-base, helpful-base and helpful-online together: ``hh``), where the longer
    response wins about as often as not; its helpful parts alone (``helpful``), where functions need not speak against
    themselves; ultrafeedback's preferences (``ubp``), where they say most; and 8,000 judgements of wmt_da_pairs/gu-en
    (``wmt``), without any effect of length. A fifth of the groups tests; 10 seeds draw which.
  * of the other judgements 2, 5 or 10 % of the groups are known (5, 10 or 20 % of ubp, which is small); the rest is
    labelled by all built-in functions (ubp: the published ones), weighed by a label model that only these judgements
    taught and calibrated.
  * arms: baseline alone; baseline with as many passes as make the steps of the others (``steps``); baseline and the
    rest with soft labels (``soft``, the default of `assay label`), with hard ones (``hard``), with hard ones above
    0.6 (``sure``: the published 0.8 and 0.95 keep next to nothing once labels are calibrated), from a majority
    (``majority``), from length alone (``by_length``), from logistic regression (``logistic``), at random
    (``random``), and with the true ones (``true``). For the curve of true labels, also 20 and 40 % (ubp: 40 and 70)
    alone, with matched steps too.
  * MiniLM frozen, 10 passes, other settings as `assay train` has them; every arm is calibrated by cross-fitting on
    what judgements by people it has.
  * contrasts, accuracy, smallest effect 1 point: soft against the baseline with matched steps, at each share; that
    gain at the smallest share against that at the largest (it fades); soft against a majority's labels. Hierarchical
    bootstrap over seeds and split groups. A set on which all true labels gain less on the smallest share than twice
    their standard error is uninformative.

    python studies/weak_supervision.py --data DATA_FOLDER   # resumable
    python studies/weak_supervision.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from common import Study, conduct, judgements_of, matched_epochs
from datasets import Dataset, concatenate_datasets
from summary import Contrast
from weak_arms import train_arms, weak_labels
from weak_supervision_summary import write_weak_supervision

from assay.feedback import pairs, read, split
from assay.feedback.labeling import preset

SEEDS, PASSES = 10, 10
#: Set -> shares of which labels are made, and further ones for the curve of true labels; in percent.
SHARES = {"hh": (2, 5, 10), "helpful": (2, 5, 10), "ubp": (5, 10, 20), "wmt": (2, 5, 10)}
CURVE = {name: (40, 70) if name == "ubp" else (20, 40) for name in SHARES}
HELPFUL = ("helpful-base/test", "helpful-online/test")
HH = ("train-1pct", "harmless-base/test", *HELPFUL)
UBP = {"prompt": "instruction", "responses": ["answer_0", "answer_1"], "choice": "label"}
NAMES = [
    f"{name}.{share}.{seed}" for seed in range(SEEDS) for name in SHARES for share in (*SHARES[name], *CURVE[name])
]
CONTRASTS = (
    Contrast("soft weak labels against matched steps", "soft", "steps", 0.01),
    Contrast("label model against a majority of votes", "soft", "majority", 0.01),
)
FADES = Contrast("the gain of soft weak labels fades", "soft", "steps", 0.01)


def read_set(name: str, data: Path) -> Dataset:
    """Return the records of a set."""
    if name in ("hh", "helpful"):
        parts = HH if name == "hh" else HELPFUL
        return concatenate_datasets([read(str(data / "hh_rlhf" / f"{part}.jsonl.gz"), "hh") for part in parts])
    if name == "ubp":
        return read(str(data / "ultrafeedback_2pct" / "ubp.jsonl.gz"), mapping=UBP)
    return split(read(str(data / "wmt_da_pairs" / "gu-en.jsonl.gz")), test=0.4, seed=0)[1]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all arms with one share of judgements and one seed."""
    name, share, number = cell.split(".")
    seed = int(number)
    records = read_set(name, data)
    train, test = split(records, test=0.2, seed=seed)
    rest, known = split(train, test=int(share) / 100, seed=seed + 1000)
    arms: dict[str, tuple[Dataset, int]] = {}
    told: dict[str, Any] = {"known": len(pairs(known)), "rest": len(pairs(rest))}
    if int(share) in SHARES[name]:
        functions = preset("ultrafeedback_preferences" if name == "ubp" else "general")
        labelled, about = weak_labels(functions, known, rest, seed)
        arms["baseline"] = (known, PASSES)
        arms |= {arm: (concatenate_datasets([known, own]), PASSES) for arm, own in labelled.items()}
        arms["true"] = (concatenate_datasets([known, rest]), PASSES)
        told |= about
    arms["steps"] = (known, matched_epochs(PASSES, judgements_of(known), judgements_of(train)))
    common, runs = train_arms(arms, test, seed)
    reading = {"records": len(records), "edges": len(pairs(records)), "dropped": {}}
    return {"reading": reading, "told": told, "test": common, "arms": runs}


STUDY = Study(
    "weak_supervision",
    __doc__ or "",
    NAMES,
    CONTRASTS,
    run_cell,
    data="hh_rlhf, ultrafeedback_2pct and wmt_da_pairs",
    summarise=partial(write_weak_supervision, contrasts=CONTRASTS, fades=FADES, shares=SHARES),
)

if __name__ == "__main__":
    conduct(STUDY)
