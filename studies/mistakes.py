"""Where the fine-tuned model of `main_job` errs, and what length has to do with it.

Tables come from the committed cells alone. `--data` and `--show` print the most confident mistakes of one set with
their texts, to be read; no text of the data is stored here.

    python studies/mistakes.py                                                     # results/main_job_mistakes.md
    python studies/mistakes.py --data DATA_FOLDER --set helpful-base --show 20
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import FOLDS, RESULTS, short_key
from main_job import SETS, STUDY
from page import NAMES
from sklearn.linear_model import LogisticRegression

from assay.evaluation.verdicts import hierarchical_effect
from assay.feedback import folds, pairs, read_with_report
from assay.feedback.records import prompt_text
from assay.output import write_atomic

PARTS = 5


def decided_runs(name: str, arm: str = "full") -> dict[str, np.ndarray]:
    """Return the decided judgements of a set, one finished run for each fold, turned so that a positive value is right.

    Confidence is divided by the temperature of its run, so that folds can be laid side by side.
    """
    runs = [
        run
        for path in sorted(STUDY.folder.glob(f"{name}.{arm}.*.json"))
        for run in json.loads(path.read_text(encoding="utf-8"))["runs"]
        if run["seed"] < FOLDS
    ]
    columns: dict[str, list[np.ndarray]] = {"model": [], "length": [], "words": [], "fold": [], "group": []}
    for run in runs:
        p = np.array(run["p"])
        side = np.sign(p - 0.5)
        columns["fold"].append(np.full(int((p != 0.5).sum()), run["seed"] % FOLDS))
        columns["group"].append(np.array(run["group"], dtype=object)[p != 0.5])
        for column, key in (("model", "delta"), ("length", "length"), ("words", "bag_of_words")):
            scale = (run["temperature"] or 1.0) if key == "delta" else 1.0
            columns[column].append((np.array(run[key]) * side / scale)[p != 0.5])
    return {name: np.concatenate(values) for name, values in columns.items()} if runs else {}


def beside_length(found: dict[str, np.ndarray]) -> list[str]:
    """Combine the model with length by logistic regression, fitted on the other folds, to see what either adds.

    Features are the calibrated margin and the signed root of the difference in characters, both without intercept.
    Returns the gain in accuracy over each of the two alone, in points, with its interval over groups.
    """
    x = np.stack([found["model"], np.sign(found["length"]) * np.sqrt(np.abs(found["length"]))], axis=1)
    combined = np.zeros(len(x))
    for fold in np.unique(found["fold"]):
        train = x[found["fold"] != fold]
        # values are turned so that positive is right: both orders of each pair make the two classes
        fitted = LogisticRegression(C=np.inf, fit_intercept=False).fit(
            np.concatenate([train, -train]), np.repeat([1, 0], len(train))
        )
        combined[found["fold"] == fold] = fitted.decision_function(x[found["fold"] == fold])
    result = []
    for name in ("model", "length"):
        gain = (hits(combined) - hits(found[name]))[None]
        effect = hierarchical_effect(gain, np.ones(len(combined)), found["group"])
        low, high = effect.ci95
        result.append(f"{100 * effect.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    return result


def hits(values: np.ndarray) -> np.ndarray:
    """Return 1 where positive, one half where 0."""
    return (values > 0) + 0.5 * (values == 0)


def right(values: np.ndarray) -> str:
    """Return the share of right choices in percent; equal scores are half right."""
    return "–" if not len(values) else f"{100 * hits(values).mean():.1f} %"


def tables(name: str) -> list[str]:
    """Return the tables of one set as lines of Markdown."""
    others = {arm: own for arm in ("full", "frozen") if (own := decided_runs(name, arm))}
    if "full" not in others:
        return []
    found = others["full"]
    model, length, words = found["model"], found["length"], found["words"]
    longer = 100 * np.mean((model > 0) == (length > 0))
    lines = [
        f"## {name}",
        "",
        f"{len(model):,} decided judgements. The model chooses the longer response in {longer:.1f} % of them. "
        f"It is right in {right(model[length > 0])} where the longer one was preferred, and in "
        f"{right(model[length < 0])} where the shorter one was.",
        "",
        "| together with length | points above the model alone | points above the longer response |",
        "|---|---|---|",
        *(f"| {NAMES[arm]} | {' | '.join(beside_length(own))} |" for arm, own in others.items()),
        "",
        "| difference in length, characters | judgements | model | longer response | bag of words |",
        "|---|---|---|---|---|",
    ]
    cuts = np.quantile(np.abs(length), np.arange(1, PARTS) / PARTS)
    part = np.searchsorted(cuts, np.abs(length), side="right")
    for number in range(PARTS):
        inside = part == number
        if inside.any():
            low, high = np.abs(length[inside]).min(), np.abs(length[inside]).max()
            lines.append(
                f"| {low:.0f} to {high:.0f} | {inside.sum()} | {right(model[inside])} | {right(length[inside])} | "
                f"{right(words[inside])} |"
            )
    lines += ["", "| the model's confidence | judgements | model | longer response |", "|---|---|---|---|"]
    order = np.argsort(-np.abs(model), kind="stable")
    for label, share in (("highest tenth", 0.1), ("highest quarter", 0.25), ("highest half", 0.5), ("all", 1.0)):
        top = order[: max(1, round(share * len(order)))]
        lines.append(f"| {label} | {len(top)} | {right(model[top])} | {right(length[top])} |")
    return [*lines, ""]


def show(name: str, data: Path, count: int) -> None:
    """Print the most confident mistakes of the first finished fold."""
    path = sorted(STUDY.folder.glob(f"{name}.full.*.json"))[0]
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["runs"][0]
    spec = SETS[name]
    records, _ = read_with_report(str(data / spec["path"]), **spec["reading"])
    test = folds(records, FOLDS, seed=0)[run["seed"] % FOLDS][1]
    view = pairs(test)
    keys = [short_key(f"{test[int(r)]['prompt_id']}/{a}/{b}") for r, a, b in zip(view.row, view.a, view.b, strict=True)]
    if keys != run["row"]:
        raise SystemExit(f"{path.name} was made from other data than {data / spec['path']}")
    wrong = np.array(run["delta"]) * np.sign(np.array(run["p"]) - 0.5)
    for place in np.argsort(wrong)[:count]:
        record = test[int(view.row[place])]
        first, second = record["responses"][view.a[place]], record["responses"][view.b[place]]
        better, worse = (first, second) if view.p[place] > 0.5 else (second, first)
        print(f"\n{'=' * 100}\nmargin {wrong[place]:.2f}, {len(better) - len(worse):+d} characters")
        for label, text in (("prompt", prompt_text(record["prompt"])[-600:]), ("preferred", better), ("other", worse)):
            print(f"-- {label}\n{text[:600]}")


def main() -> None:
    """Write the tables, or print mistakes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=list(SETS), default="helpful-base")
    parser.add_argument("--show", type=int, default=0)
    given = parser.parse_args()
    if given.show and given.data is None:
        parser.error("--show needs --data, the folder whose texts are to be printed")
    if given.show:
        show(given.set, given.data, given.show)
        return
    lines = ["# Where the fine-tuned model of `main_job` errs", "", READING.strip(), ""]
    for name in SETS:
        lines += tables(name)
    write_atomic(RESULTS / "main_job_mistakes.md", "\n".join(lines))
    print(f"{RESULTS / 'main_job_mistakes.md'} written")


READING = """
What the texts of the most confident mistakes show (`--show`), beside what the tables say:

* **helpful-base.** Mostly a short question back, or a short refusal to guess, that raters preferred to a long answer
  which is wrong or off topic. Length and manner are learnt; whether an answer is true is not: the model without the
  prompt is as good. With nearly equal lengths the model is still above chance, so it is not length alone.
* **harmless-base.** The model has learnt that a refusal is the better answer, and misses where it is not: harmless
  questions (a sore throat) whose refusal raters disliked, and pairs in which both sides are harmful or both are odd.
* **mt_bench_human.** Code and tables: a long answer that looks like a solution against a short one that is right.
  A few questions are asked of many pairs, so one such question makes several mistakes, and intervals are wide.
* **tldr_feedback**, the one set on which the model is not above the longer response. The first table says that it
  knows little beside: put together, the two are as good as length alone, and what length adds to the model is too
  little to tell from nothing. The model follows length less than always, which costs it where the longer one is right
  and gains about as much where it is not. That is not for want of steps: a head on the frozen backbone follows length
  after one pass (study `steps`). So it is fine-tuning the backbone that moves away from it; with the post hidden
  the same model is at least as good.
  This backbone sees little else in these summaries, certainly not whether they are true to their post.

The first round of this study was further below length on TL;DR and on MT-bench: the encoder was read as the mean over
all tokens, in which a long post drowns a summary of 40 tokens, and a mean forgets how many tokens it is of. Both were
mended for all encoders. Whether that helps on other data is the question of study `pooling`, which has not run yet.
"""


if __name__ == "__main__":
    main()
