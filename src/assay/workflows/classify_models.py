"""What reward models make of a task: which pairs they order rightly, whom they choose, and how much wording matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.evaluation.intervals import GAP, SHARE, GroupBootstrap
from assay.evaluation.metrics import accuracy_terms
from assay.evaluation.policies import best_of
from assay.feedback import pairs, read
from assay.feedback.tasks.task import Example, answer, read_answer
from assay.scorers.sampling import Reply
from assay.workflows.judging import leave_out_seen

#: Files of a task's folder that reward models are judged on.
PAIRS_TESTED = ("label_test", "rationale_test", "swapped_label", "wrong_rationale")


def on_pairs(
    minds: Mapping[str, Any], folder: str, resamples: int, *, include_seen: bool = True
) -> dict[str, dict[str, Any]]:
    """Return kind of pairs -> reward model -> accuracy, weighted as the pairs are, and how far above the first model.

    Kinds without a file are left out, and pairs whose prompts or groups trained a model, unless they are to stay.
    Differences are paired: of the same pairs and resamples.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind in PAIRS_TESTED:
        path = Path(folder).expanduser() / f"{kind}.parquet"
        if not path.is_file():
            continue
        data, _ = leave_out_seen(read(path), list(minds), include_seen)
        view = pairs(data)
        bootstrap, hits = GroupBootstrap(view.group, resamples), dict[str, np.ndarray]()
        own: dict[str, Any] = {}
        for name, mind in minds.items():
            hits[name] = pair_hits(mind, data)
            own[name] = {"accuracy": bootstrap.ratio(hits[name], view.w, between=SHARE).to_dict()}
            if len(hits) > 1:
                first = next(iter(hits.values()))
                own[name]["above_the_first"] = bootstrap.ratio(hits[name] - first, view.w, between=GAP).to_dict()
        found[kind] = own
    return found


def pair_hits(mind: Any, data: Dataset) -> np.ndarray:
    """Return 1 for each judgement whose better answer a model scores higher, 0 where not, 0.5 for a tie; ``[E]``."""
    view, rows = pairs(data), data.select_columns(["prompt", "responses"])
    prompts = [prompt for row in rows for prompt in [row["prompt"]] * len(row["responses"])]
    texts = [text for row in rows for text in row["responses"]]
    offsets = np.concatenate([[0], np.cumsum([len(row["responses"]) for row in rows])])
    scores = np.asarray(mind.score(prompts, texts), np.float64)
    return accuracy_terms(scores[offsets[view.row] + view.a] - scores[offsets[view.row] + view.b], view.p)


def choosing(
    minds: Mapping[str, Any],
    examples: Sequence[Example],
    prompts: Sequence[str],
    written: Sequence[Sequence[Reply]],
    counts: Sequence[int],
    resamples: int,
) -> list[dict[str, Any]]:
    """Say how often the best of n answers by each reward model has the right label, over all subsets of n."""
    right = np.array(
        [
            [read_answer(reply.text, one.choices).label == one.label for reply in own]
            for own, one in zip(written, examples, strict=True)
        ],
        np.float64,
    )
    groups = np.array([one.group for one in examples], object)
    each = [prompt for prompt, own in zip(prompts, written, strict=True) for _ in own]
    texts = [reply.text for own in written for reply in own]
    found = []
    for name, mind in minds.items():
        scores = np.asarray(mind.score(each, texts), np.float64).reshape(right.shape)
        for point in best_of(scores, right, counts, resamples=resamples, groups=groups, between=SHARE):
            found.append({"by": name, "n": point["n"], "gold": point["gold"].to_dict()})
    return found


def wording(
    minds: Mapping[str, Any], examples: Sequence[Example], prompts: Mapping[int, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Say how much scores depend on the way of asking, beside how much they depend on the answer.

    Every label is scored as an answer by itself, in every way of asking (Aissi et al. 2025 look at one scorer over
    paraphrases). A scorer that says the same of everything has no spread over ways, so that over answers stands beside.

    Returns
    -------
    dict
        Reward model -> ``ways`` and ``answers``: root mean variance of a score over ways, and over answers; ``share``:
        the first over the second, NaN where the scorer tells no answers apart; ``same_best``: share of examples whose
        best label is one in all ways.
    """
    found = {}
    for name, mind in minds.items():
        by_way = [
            np.asarray(
                mind.score(
                    [prompt for one, prompt in zip(examples, own, strict=True) for _ in one.choices],
                    [answer(label) for one in examples for label in one.choices],
                ),
                np.float64,
            )
            for own in prompts.values()
        ]
        ends = np.cumsum([len(one.choices) for one in examples])[:-1]
        scores = [np.split(values, ends) for values in by_way]
        tables = [np.stack(own) for own in zip(*scores, strict=True)]  # ways x labels, of each example
        ways = float(np.sqrt(np.mean([table.var(axis=0).mean() for table in tables])))
        answers = float(np.sqrt(np.mean([table.var(axis=1).mean() for table in tables])))
        same = float(np.mean([len(set(table.argmax(axis=1).tolist())) == 1 for table in tables]))
        found[name] = {
            "ways": ways,
            "answers": answers,
            "share": ways / answers if answers else float("nan"),
            "same_best": same,
        }
    return found
