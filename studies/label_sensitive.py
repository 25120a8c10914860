"""Do reward models of label-sensitive pairs know labels, and those of rationale-sensitive pairs rationales (RLLR).

Fixed before the run:
  * tasks: ``esnli`` (3 classes), ``cos_e`` and ``ecqa`` (choices), ``sst2``, ``trec`` (6 classes), ``d2t_quality`` and
    ``summeval_coherence`` (grades rounded to labels, nearest wrong ones). One division of each for all seeds, by group;
    rationales by people where there are any (borrowed for label-sensitive pairs; templates for choices), else words.
  * reward models: MiniLM, all weights, 5e-5, 3 passes, 128 tokens: ``label`` (RLLR), ``rationale`` (RLHF), and
    ``blind``, which learns label-sensitive pairs without what is asked. Each seed learns pairs of its own choice:
    1,000, or half of fewer than 2,000 (500 at least, where there are as many). 5 seeds.
  * test: label-sensitive, rationale-sensitive and control pairs of other groups (800 of each at most; ``blind`` on all
    label-sensitive ones); and the best of n answers with labels drawn at random, argued for as in the pairs, to 300
    examples that nothing was made of.
  * contrasts: ``label`` above ``rationale`` on label-sensitive pairs (smallest effect 5 points), ``rationale`` above
    ``label`` on rationale-sensitive ones (2 points), the right label among the best of 8 by ``label`` above that of 1
    (5 points). The bar: ``blind`` within 2 points of one half; where it is not, the first claim is not read.
  * test: hierarchical bootstrap over seeds and groups.
  * run again: four cells of cos_e and ecqa, since template sentences were on the worse side of their
    rationale-sensitive pairs alone, which a blind bag of words told in 100 %; now both sides have people's words.

    python studies/label_sensitive.py --data DATA_FOLDER   # resumable
    python studies/label_sensitive.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from datasets import Dataset
from label_sensitive_summary import write_label_sensitive

from assay.config import build
from assay.evaluation.policies import best_of_weights
from assay.feedback import pairs, read
from assay.feedback.tasks.rationales import Borrowed, RationaleSource, Templates
from assay.feedback.tasks.task import Example, Task, answer
from assay.feedback.tasks.wrong_labels import balanced
from assay.scorers import RewardModel, create_reward_model
from assay.workflows.classify_models import PAIRS_TESTED, pair_hits
from assay.workflows.data import Shares, without_prompts
from assay.workflows.fitting import fit
from assay.workflows.options import model_options, resolved
from assay.workflows.settings import TrainSettings
from assay.workflows.task_files import read_task
from assay.workflows.task_settings import TaskSettings
from assay.workflows.task_verb import build_task

SEEDS, PAIRS, TESTED, ASKED, ANSWERS = 5, 1000, 800, 300, 8
FILES = {
    "esnli": "esnli/esnli.jsonl.gz",
    "cos_e": "cos_e/v1.0.jsonl.gz",
    "ecqa": "ecqa/ecqa.jsonl.gz",
    "sst2": "sentiment/sst2.jsonl.gz",
    "trec": "trec/trec6.jsonl.gz",
    "d2t_quality": "d2t_ratings/sfres.jsonl.gz",
    "summeval_coherence": "summeval/grades.jsonl.gz",
}
ORDINAL = ("d2t_quality", "summeval_coherence")
SHARES = {"teaching": 0.15, "pairs": 0.45, "pairs_test": 0.35, "asked": 0.05}
CELLS = [f"{task}.{seed}" for seed in range(SEEDS) for task in FILES]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Train the three models, and judge them on all pairs and by whom they choose."""
    name, number = cell.split(".")
    seed = int(number)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "task"
        told = built(name, data, folder)
        records = {kind: read(folder / f"{kind}.parquet") for kind in ("label", "rationale", *PAIRS_TESTED)}
        task, examples, _ = read_task(str(folder))
    label = learned(drawn(records["label"], seed), seed)
    rationale = learned(drawn(records["rationale"], seed), seed)
    blind = learned(without_prompts(drawn(records["label"], seed)), seed)
    found: dict[str, Any] = {"task": told, "hits": {}}
    for kind in PAIRS_TESTED:
        test = some(records[kind], TESTED)
        hits = {name: pair_hits(mind, test).tolist() for name, mind in (("label", label), ("rationale", rationale))}
        found["hits"][kind] = hits | judged_pairs(task, test)
    hidden = without_prompts(records["label_test"])
    hits = {"blind": pair_hits(blind, hidden).tolist()}
    found["hits"]["blind"] = hits | judged_pairs(task, records["label_test"])
    chosen = [examples[k] for k in sorted(np.random.default_rng(0).permutation(len(examples))[:ASKED].tolist())]
    found["best_of"] = best_of_drawn(task, chosen, records["label"], {"label": label, "rationale": rationale}, seed)
    return found


def built(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Build a task in a folder, the same for all seeds; return what was found."""
    given: dict[str, Any] = {"task": name, "data": str(data / FILES[name]), "out": str(folder), "shares": SHARES}
    given |= {"most": 8000, "test_share": 0.1, "wrong": "nearest" if name in ORDINAL else "uniform"}
    return build_task(build(TaskSettings, given))


def drawn(data: Dataset, seed: int) -> Dataset:
    """Return the pairs that a seed learns from: as many as are wanted, or half of fewer than twice as many."""
    count = min(PAIRS, max(len(data) // 2, min(len(data), PAIRS // 2)))
    return data.select(np.sort(np.random.default_rng((seed, 5)).permutation(len(data))[:count]))


def learned(data: Dataset, seed: int, epochs: int = 3, deviation: float = 0.0) -> RewardModel:
    """Train MiniLM, all weights; nothing is held out. The head's first weights have a deviation."""
    given: dict[str, Any] = {"data": "-", "out": "-", "seed": seed, "backbone": "minilm", "max_length_tokens": 128}
    given |= {
        "epochs": epochs,
        "learning_rate": 5e-5,
        "token_budget": 4096,
        "head": {"kind": "linear", "init_std": deviation},
    }
    settings = build(TrainSettings, given)
    model = create_reward_model(model_options(settings, seed))
    settings = resolved(settings, sum(p.numel() for p in model.parameters()))
    with tempfile.TemporaryDirectory() as scratch:
        return fit(settings, Shares(data, None, None), Path(scratch), model).model


def some(data: Dataset, most: int) -> Dataset:
    """Return so many of the records, the same for all seeds."""
    return data.select(np.sort(np.random.default_rng(0).permutation(len(data))[:most]))


def judged_pairs(task: Task, data: Dataset) -> dict[str, Any]:
    """Return weight and group of each judgement, the same for all seeds; weights are balanced among those tested."""
    view = pairs(data)
    cells = [json.loads(meta) for meta in data["meta"]]
    hinges = task.kind != "choices" and cells[0]["kind"] in ("label", "swapped label")
    weights = balanced([(own["better"], own["worse"]) for own in cells]) if hinges else np.ones(len(cells))
    return {"weight": weights[view.row].tolist(), "group": [str(group) for group in view.group]}


def best_of_drawn(
    task: Task, examples: Sequence[Example], learned_from: Dataset, minds: dict[str, RewardModel], seed: int
) -> dict[str, Any]:
    """Let models choose among answers whose labels are drawn at random; expected hits of each example by n."""
    random = np.random.default_rng((seed, 9))
    source = _source(task, learned_from, seed)
    labels = [[str(random.choice(one.choices)) for _ in range(ANSWERS)] for one in examples]
    flat = [one for one in examples for _ in range(ANSWERS)]
    whys = source(flat, [label for own in labels for label in own])
    texts = [answer(label, why or "") for label, why in zip([x for own in labels for x in own], whys, strict=True)]
    prompts = [task.ask(one) for one in flat]
    right = np.array([[x == one.label for x in own] for one, own in zip(examples, labels, strict=True)], float)
    found: dict[str, Any] = {"group": [one.group for one in examples]}
    for name, model in minds.items():
        order = np.argsort(np.asarray(model.score(prompts, texts)).reshape(right.shape), axis=1, kind="stable")
        ranked = np.take_along_axis(right, order, axis=1)
        found[name] = {str(n): (ranked @ best_of_weights(ANSWERS, n)).round(6).tolist() for n in (1, 2, 4, 8)}
    return found


def _source(task: Task, learned_from: Dataset, seed: int) -> RationaleSource:
    """Return what argues as in the pairs that were learned: words of their answers, by label; templates for choices."""
    if task.kind == "choices":
        return Templates(seed=seed)
    pool = []
    for number, texts in enumerate(learned_from["responses"]):
        why, _, label = texts[0].rpartition("\nAnswer: ")
        pool.append(Example({}, label, task.labels, f"pair {number}", {label: (why,)}))
    return Borrowed(pool, seed)


STUDY = Study(
    "label_sensitive",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="esnli, cos_e, ecqa, sentiment, trec, d2t_ratings and summeval",
    summarise=write_label_sensitive,
)

if __name__ == "__main__":
    conduct(STUDY)
