"""Why reward models of `label_sensitive` know labels or do not: encoder, rationales, or where the head begins.

Named after its first seed, whose reward models knew the labels of three tasks of seven, so no verdicts:
  * the same tasks, divisions, test pairs and draw of its first seed; MiniLM, all weights, 5e-5, 128 tokens. 3 seeds
    were planned, and cut to one: the time went to policies (`rllr_longer`).
  * ``classifier``: right labels of the prompts in the drawn pairs, learned by cross-entropy over all labels in 3 passes
    (`transformers`' sequence classification), without rationales; of choices, the right one against the wrong one of
    its pair (multiple choice). A pair is told rightly where its right label has the higher logit. Where that is no
    better than the reward model, so many labels do not teach this encoder the task.
  * reward models of 6 passes, on tasks whose classifier knows something: ``bare`` learns the pairs without their
    rationales; ``bare_drawn`` does, and the first weights of its head are drawn (deviation 0.1), since a head of zeros
    is a saddle where every label is as often right as wrong; ``drawn`` has such a head, and the rationales. Passes and
    deviation were looked at on pairs of esnli that neither teach nor test.

    python studies/label_reasons.py --data DATA_FOLDER   # resumable
    python studies/label_reasons.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from datasets import Dataset
from label_sensitive import FILES, TESTED, built, drawn, judged_pairs, learned, some
from page import page_head, ran_on
from summary import RESULTS, circumstances, finished_cells
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from assay.evaluation.verdicts import hierarchical_effect
from assay.feedback import read
from assay.feedback.records import prompt_text
from assay.output import write_atomic, write_json
from assay.scorers.packaged import minilm_folder
from assay.workflows.classify_models import pair_hits
from assay.workflows.task_files import read_task

#: Reward models: whether rationales are left out, and the deviation of the head's first weights.
HEADS = {"bare": (True, 0.0), "bare_drawn": (True, 0.1), "drawn": (False, 0.1)}
KNOWN = ("esnli", "sst2", "trec")
CELLS = [f"{task}.classifier.0" for task in FILES] + [f"{task}.{arm}.0" for task in KNOWN for arm in HEADS]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Teach one model, and let it order the test pairs."""
    name, arm, number = cell.split(".")
    seed = int(number)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "task"
        built(name, data, folder)
        task = read_task(str(folder))[0]
        training = drawn(read(folder / "label.parquet"), seed)
        tested = some(read(folder / "label_test.parquet"), TESTED)
        if arm == "classifier":
            margins = _margins(training, tested, task.labels, seed, Path(scratch) / "run")
            hits = np.where(margins == 0, 0.5, margins > 0).astype(float)
        else:
            bare, deviation = HEADS[arm]
            model = learned(without_rationales(training) if bare else training, seed, 6, deviation)
            hits = pair_hits(model, without_rationales(tested) if bare else tested)
    return {"learned": len(training), "hits": hits.tolist(), **judged_pairs(task, tested)}


def without_rationales(data: Dataset) -> Dataset:
    """Return records whose responses are their last lines."""
    return data.map(lambda row: {"responses": [text.rpartition("\n")[2] for text in row["responses"]]})


def _margins(training: Dataset, test: Dataset, labels: Sequence[str], seed: int, folder: Path) -> np.ndarray:
    """Return by how much the right label's logit is above the wrong one's, ``[pairs]``."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    rows, asked = ([_row(one, labels, tokenizer) for one in side] for side in (training, test))
    if labels:
        model: Any = AutoModelForSequenceClassification.from_pretrained(minilm_folder(), num_labels=len(labels))
        collate: Any = DataCollatorWithPadding(tokenizer)
    else:
        model = AutoModelForMultipleChoice.from_pretrained(minilm_folder())
        collate = DataCollatorForMultipleChoice(tokenizer)
    args = TrainingArguments(
        str(folder),
        learning_rate=5e-5,
        num_train_epochs=3,
        per_device_train_batch_size=16,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = Trainer(model, args, train_dataset=Dataset.from_list(rows), data_collator=collate)
    trainer.train()
    logits = np.asarray(trainer.predict(Dataset.from_list(asked)).predictions)
    if not labels:
        return logits[:, 0] - logits[:, 1]
    told = [json.loads(meta) for meta in test["meta"]]
    return np.array(
        [
            own[labels.index(each["better"])] - own[labels.index(each["worse"])]
            for own, each in zip(logits, told, strict=True)
        ]
    )


def _row(record: dict[str, Any], labels: Sequence[str], tokenizer: Any) -> dict[str, Any]:
    """Return the tokens of a prompt with its right label; of choices, with both, the right one first."""
    prompt, meta = prompt_text(record["prompt"]), json.loads(record["meta"])
    if labels:
        return {**tokenizer(prompt, truncation=True, max_length=128), "label": labels.index(meta["better"])}
    both = [meta["better"], meta["worse"]]
    return {**tokenizer([prompt] * 2, both, truncation="only_first", max_length=128), "label": 0}


def write_label_reasons(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/label_reasons.json`` and its page."""
    cells = finished_cells(folder)
    each: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        task, arm, _ = cell["cell"].split(".")
        each[task, arm].append(cell)
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for (task, arm), many in each.items():
        terms = np.array([cell["hits"] for cell in many], np.float64)
        effect = hierarchical_effect(terms, np.array(many[0]["weight"]), np.array(many[0]["group"], object))
        found[task][arm] = {"learned": many[0]["learned"], "seeds": len(many), "accuracy": effect.to_dict()}
    result = {"study": study, "tasks": found, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    lines = [
        *page_head(study, docstring, result),
        "| task | learned by | from | seeds | pairs told rightly |",
        "|---|---|---|---|---|",
    ]
    for task, arms in found.items():
        for arm, own in arms.items():
            low, high = own["accuracy"]["ci95"]
            share = f"{100 * own['accuracy']['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            lines.append(f"| {task} | {arm} | {own['learned']:,} | {own['seeds']} | {share} |")
    write_atomic(RESULTS / f"{study}.md", "\n".join([*lines, "", ran_on(result), ""]))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


STUDY = Study(
    "label_reasons",
    __doc__ or "",
    CELLS,
    (),
    run_cell,
    data="esnli, cos_e, ecqa, sentiment, trec, d2t_ratings and summeval",
    summarise=write_label_reasons,
)

if __name__ == "__main__":
    conduct(STUDY)
