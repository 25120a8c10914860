"""Can the reward that a policy learned from be read off the policy: pairs of its answers and those it began with.

Fixed before the run:
  * policy: stories260K, continuing openings of its own for 48 tokens, tuned by PPO on gold itself (``additive`` or
    ``joint`` of `story_world`): 30 cycles of 32 responses, 3e-4, beta 0.2. 5 seeds.
  * ``recovered``: a reward model (linear head, all weights, 120 steps) of 600 pairs, an answer of the tuned policy
    taken as better than one of the policy that it began as (what `assay compare --pairs` writes). Beside it
    ``log_ratio``: log pi(y) - log pi_0(y) of both policies, which is the reward over beta at the optimum; ``length``.
  * test: which of two answers to other openings gold prefers, where it is not indifferent; two answers of the
    beginning policy (``begun``), or two of the tuned one (``tuned``).
  * contrasts, accuracy on ``begun`` (smallest effect 2 points): recovered above chance, above length, above log_ratio.
    Hierarchical bootstrap over seeds.

    python studies/recovered_reward.py --data DATA_FOLDER   # resumable
    python studies/recovered_reward.py --summary            # tables from the committed cells only
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, conduct
from page import page_head, ran_on, verdict_table
from story_world import (
    GOLDS,
    STORY,
    Pairs,
    by_text,
    learn,
    new_critic,
    openings,
    sampled_pairs,
    story_policy,
    trained_on,
)
from summary import RESULTS, circumstances, finished_cells, judged

from assay.credit.functions import by_function
from assay.evaluation.verdicts import hierarchical_effect
from assay.output import write_atomic, write_json
from assay.scorers import Policy
from assay.scorers.sampling import Sampling, replies

SEEDS, RATE, PAIRS, TESTED = 5, 3e-4, 600, 1000
ARMS = ("recovered", "log_ratio", "length")
CELLS = [f"{gold}.{seed}" for seed in range(SEEDS) for gold in GOLDS]


def run_cell(cell: str, data: Path) -> dict[str, Any]:
    """Tune a policy on gold, recover a reward from it, and compare that with gold."""
    name, (gold_name, number) = str(data / "stories260K" / "hf"), cell.split(".")
    gold, seed = GOLDS[gold_name], int(number)

    def oracle(completions: list[str], **_: Any) -> list[float]:
        return [gold(text) for text in completions]

    link, critic = by_function(oracle, "gold"), new_critic(name, seed)
    curve, tuned = learn(name, link, openings(name, seed), seed, RATE, critic=critic, gold=by_text(gold))
    begun = story_policy(name, max_length_tokens=96)
    asked = (openings(name, seed + 10_000) * 3)[:PAIRS]
    ours, theirs = (
        [own[0].text for own in replies(policy, asked, Sampling(1, STORY), seed + 1)] for policy in (tuned, begun)
    )
    both = [k for k in range(len(asked)) if ours[k].strip() and theirs[k].strip() and ours[k] != theirs[k]]
    # "gold" of these pairs is nothing but whose answer it was
    written = Pairs([asked[k] for k in both], [(ours[k], theirs[k]) for k in both], np.tile([1.0, 0.0], (len(both), 1)))
    model = trained_on(name, written.records(), seed)
    found: dict[str, Any] = {}
    for which, policy in (("begun", begun), ("tuned", tuned)):
        test = sampled_pairs(name, gold, openings(name, seed + 20_000), TESTED, seed + 2, policy)
        found[which] = {
            "pairs": len(test),
            "recovered": test.accuracy(model.score),
            "log_ratio": test.accuracy(_log_ratio(tuned, begun)),
            "length": test.accuracy(lambda _, texts: np.array([len(text) for text in texts], float)),
        }
    return {"curve": curve, "pairs": len(written), "told_apart": written.accuracy(model.score), "accuracy": found}


def _log_ratio(tuned: Policy, begun: Policy) -> Callable[[list[str], list[str]], np.ndarray]:
    """Return log pi(y) - log pi_0(y) as a scorer."""

    def score(prompts: list[str], texts: list[str]) -> np.ndarray:
        given = begun.encoder.encode(prompts, texts)
        ids, starts = [each.ids for each in given], np.array([each.prompt_tokens for each in given], np.int64)
        said = [policy.features(ids, starts)[:, 0].astype(np.float64) for policy in (tuned, begun)]
        return said[0] - said[1]

    return score


def write_recovered(study: str, docstring: str, folder: Path, planned: Sequence[str]) -> None:
    """Write ``results/recovered_reward.json`` and its page."""
    cells = finished_cells(folder)
    golds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        golds[cell["cell"].split(".")[0]].append(cell)
    verdicts, tables = [], {}
    for name, many in golds.items():
        values = {
            which: {arm: np.array([cell["accuracy"][which][arm] for cell in many]) for arm in ARMS}
            for which in ("begun", "tuned")
        }
        own = values["begun"]
        others = {"above chance": 0.5, "above length": own["length"], "above the log-ratio": own["log_ratio"]}
        for claim, other in others.items():
            effect = hierarchical_effect((own["recovered"] - other)[:, None], np.ones(1), np.array(["all"], object))
            verdicts.append(judged(f"the recovered reward is {claim}", "accuracy", f"{name} gold", effect, 0.02))
        tables[name] = {
            "accuracy": {which: {arm: float(v.mean()) for arm, v in arms.items()} for which, arms in values.items()},
            "told_apart": float(np.mean([cell["told_apart"] for cell in many])),
            "gold": [float(np.mean([cell["curve"][k]["gold"] for cell in many])) for k in (0, -1)],
        }
    result = {"study": study, "verdicts": verdicts, "golds": tables, **circumstances(planned, cells)}
    write_json(RESULTS / f"{study}.json", result)
    write_atomic(RESULTS / f"{study}.md", _page(study, docstring, result))
    print(f"{RESULTS / study}.md written; {len(result['cells_missing'])} planned cells are missing")


def _page(study: str, docstring: str, result: dict[str, Any]) -> str:
    lines = [*page_head(study, docstring, result), "## Verdicts", "", *verdict_table(result["verdicts"]), ""]
    lines += [
        "| gold, before and after tuning | answers of | recovered | log-ratio | length |",
        "|---|---|---|---|---|",
    ]
    for name, found in result["golds"].items():
        for which, arms in found["accuracy"].items():
            numbers = " | ".join(f"{100 * arms[arm]:.1f} %" for arm in ARMS)
            lines.append(f"| {name}, {found['gold'][0]:.2f} to {found['gold'][1]:.2f} | {which} | {numbers} |")
    return "\n".join([*lines, "", ran_on(result), ""])


STUDY = Study("recovered_reward", __doc__ or "", CELLS, (), run_cell, data="stories260K", summarise=write_recovered)

if __name__ == "__main__":
    conduct(STUDY)
