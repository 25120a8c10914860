"""Weak labels for what models wrote: outputs whose human labels are hidden, and responses that are sampled for it.

Fixed before the run:
  * data: real outputs of models. gsm8k test (four models; right beats wrong), summeval (16 systems; grades) and
    fine_grained_rlhf (four answers; ties as one half). A fifth of the groups tests, 10 seeds draw which. Of the other
    groups a tenth is known; the judgements on the rest are hidden, and its pairs are labelled by all built-in
    functions, for gsm8k also by wrong sums (``<<2+2=5>>``) and missing answers, weighed by a label model that only
    the known judgements taught.
  * arms there: known judgements alone (``baseline``), with the steps of the weak arms (``steps``), with soft weak
    labels (``soft``), with a majority's, with random ones, with the hidden ones (``true``).
  * sampled responses: prompts of hh_rlhf's helpful parts (``helpful``), of which a tenth of the train side is known;
    for the rest, whose responses are set aside, stories260K writes four responses of 64 tokens, which are labelled as
    above (``sampled``) and at random (``sampled_random``); beside them weak labels on people's responses (``soft``)
    and the true ones; ``steps_sampled`` has the steps of ``sampled``. A model this small tells stories, whatever it
    is asked: that is the kind of response least like what is judged.
  * MiniLM frozen, 10 passes (summeval: 2), other settings as `assay train` has them.
  * contrasts, accuracy, smallest effect 1 point: soft against matched steps; soft against random labels; sampled
    against matched steps. Hierarchical bootstrap over seeds and split groups.

    python studies/generated_responses.py --data DATA_FOLDER   # resumable
    python studies/generated_responses.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct, judgements_of, matched_epochs
from datasets import Dataset, concatenate_datasets
from summary import Contrast
from weak_arms import judged_anew, train_arms, weak_labels
from weak_supervision import HELPFUL
from weak_supervision_summary import write_weak_supervision

from assay.evaluation.label_calibration import fit_label_model
from assay.feedback import pairs, read, split
from assay.feedback.label_models import CorrelatedLabelModel
from assay.feedback.labeling import LabelingFunction, apply, feature_function, preset, response_pairs
from assay.workflows.generation import generate
from assay.workflows.label_settings import Generation

SEEDS, SHARE = 10, 10
SETS: dict[str, dict[str, Any]] = {
    "gsm8k": {
        "path": "gsm8k/test.jsonl.gz",
        "mapping": {
            "prompt": "question",
            "responses": "solutions[].solution",
            "grades": {"correct": "solutions[].is_correct"},
            "ties": "drop",
        },
        "passes": 10,
    },
    "summeval": {
        "path": "summeval/grades.jsonl.gz",
        "mapping": {"prompt": "prompt", "responses": "response", "grades": "grades", "group": "doc_id"},
        "passes": 2,
        "options": {"truncation": "right", "max_length_tokens": 256},
    },
    "fine_grained": {
        "path": "fine_grained_rlhf/dev_feedback.jsonl.gz",
        "mapping": {
            "prompt": "question",
            "responses": [f"prediction {k}" for k in range(1, 5)],
            "preference": "preference",
        },
        "passes": 10,
    },
    "helpful": {"passes": 10},
}
NAMES = [f"{name}.{SHARE}.{seed}" for seed in range(SEEDS) for name in SETS]
CONTRASTS = (
    Contrast("soft weak labels against matched steps", "soft", "steps", 0.01),
    Contrast("soft weak labels against random ones", "soft", "random", 0.01),
    Contrast("sampled responses against matched steps", "sampled", "steps_sampled", 0.01),
)
KEPT = ("soft", "majority", "random")
_SUM = re.compile(r"<<([0-9.+\-*/() ]+)=([0-9.\-]+)>>")


@feature_function(prefers="less")
def wrong_sums(text: str) -> int:
    """Count calculations whose result is another one."""
    return sum(not _right(left, result) for left, result in _SUM.findall(text))


@feature_function(prefers="less")
def no_answer(text: str) -> bool:
    """Tell whether no answer is given."""
    return "A:" not in text


def _right(left: str, result: str) -> bool:
    try:
        # only digits, points, brackets and the four operations get here
        return abs(float(eval(left, {"__builtins__": {}})) - float(result)) < 0.01
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, TypeError):
        return False


def read_set(name: str, data: Path) -> Dataset:
    """Return the records of a set."""
    source = SETS[name]
    if name == "helpful":
        return concatenate_datasets([read(str(data / "hh_rlhf" / f"{part}.jsonl.gz"), "hh") for part in HELPFUL])
    records = read(str(data / source["path"]), mapping=source["mapping"])
    return records.select(np.flatnonzero(judgements_of(records)))


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train all arms on one set with one seed."""
    name, _, number = cell.split(".")
    seed, source = int(number), SETS[name]
    records = read_set(name, data)
    train, test = split(records, test=0.2, seed=seed)
    rest, known = split(train, test=SHARE / 100, seed=seed + 1000)
    functions: list[LabelingFunction] = [*preset("general")]
    if name == "gsm8k":
        functions += [wrong_sums, no_answer]
    labelled, about = weak_labels(functions, known, rest, seed)
    arms = {"baseline": known, "steps": known, "true": concatenate_datasets([known, rest])}
    arms |= {arm: concatenate_datasets([known, labelled[arm]]) for arm in KEPT}
    if name == "helpful":
        made, told = sampled(functions, known, rest, seed, data)
        arms |= {arm: concatenate_datasets([known, own]) for arm, own in made.items()} | {"steps_sampled": known}
        about |= told
    passes: int = source["passes"]
    epochs = dict.fromkeys(arms, passes)
    for arm, like in (("steps", "soft"), ("steps_sampled", "sampled")):
        if arm in arms:
            epochs[arm] = matched_epochs(passes, judgements_of(known), judgements_of(arms[like]))
    common, runs = train_arms(
        {arm: (own, epochs[arm]) for arm, own in arms.items()}, test, seed, **source.get("options", {})
    )
    reading = {"records": len(records), "edges": len(pairs(records)), "dropped": {}}
    told_of_all = {"known": len(pairs(known)), "rest": len(pairs(rest))} | about
    return {"reading": reading, "told": told_of_all, "test": common, "arms": runs}


def sampled(
    functions: list[LabelingFunction], known: Dataset, rest: Dataset, seed: int, data: Path
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Sample responses to the prompts of ``rest``, and label them; return records by arm, and what is told of them."""
    settings = Generation(models=(str(data / "stories260K" / "hf"),), responses=4, max_new_tokens=64)
    found = generate(rest, settings, seed)
    both = concatenate_datasets([known, found.data])
    votes = apply(functions, response_pairs(both, seed=seed), keep=False)
    taught = votes.pairs.row < len(known)
    labels = np.where(taught, votes.pairs.truth, 0)
    weighed = fit_label_model(CorrelatedLabelModel(), votes.votes, labels, votes.pairs.group, seed=seed)
    use = ~taught & (votes.votes != 0).any(axis=1)
    random = np.random.default_rng(seed).choice([0.0, 1.0], len(labels))
    p = {"sampled": weighed.predict(votes.votes), "sampled_random": random}
    return {arm: judged_anew(votes.pairs.take(use), said[use]) for arm, said in p.items()}, {"sampled": int(use.sum())}


STUDY = Study(
    "generated_responses",
    __doc__ or "",
    NAMES,
    CONTRASTS,
    run_cell,
    data="gsm8k, summeval, fine_grained_rlhf, hh_rlhf and stories260K",
    summarise=partial(write_weak_supervision, contrasts=CONTRASTS, fades=None, shares=dict.fromkeys(SETS, (SHARE,))),
)

if __name__ == "__main__":
    conduct(STUDY)
