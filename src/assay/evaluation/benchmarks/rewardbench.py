"""RewardBench (Lambert et al. 2024): pairs in 23 subsets of four sections, and four older sets that count half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.evaluation.benchmarks.items import Item, Line, Scored, by_subset, mean, prompt_of, text_of
from assay.feedback.problems import RowError

#: Section -> its subsets, each with its published weight in the mean of the section. Weights are the number of pairs,
#: but for ``math-prm``, which has 447 and counts as much as all code, and for the two of XSTest, whose published
#: weights are exchanged; both are kept, so that figures are those of the published table.
SECTIONS: dict[str, dict[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 250,
        "xstest-should-respond": 154,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
#: Older sets, all of one weight; the section counts half of another one.
PRIOR = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")
PRIOR_WEIGHT = 0.5


def item(row: Mapping[str, Any], _: str) -> Item:
    """Read ``prompt``, ``chosen``, ``rejected`` and ``subset``."""
    subset = row.get("subset")
    if not isinstance(subset, str):
        raise RowError("no subset", column="subset", expected="the name of a subset", got=repr(subset)[:60])
    texts = [text_of(row, "chosen")], [text_of(row, "rejected")]
    return Item(prompt_of(row, "prompt"), *texts, subset, str(row.get("id", "")))


def table(scored: Sequence[Scored]) -> list[Line]:
    """Return the share of pairs whose chosen response scores higher: all, by section and by subset.

    The score of all is the mean of the sections, prior sets at half weight, each of them the weighted mean of its
    subsets. What the file does not hold is left out of the means; other subsets are shown and count nowhere.
    """
    parts = by_subset(scored)
    right = {name: float(np.mean([one.margins[0, 0] > 0 for one in some])) for name, some in parts.items()}
    sections = {**SECTIONS, "Prior Sets": dict.fromkeys(PRIOR, 1)}
    lines: list[Line] = []
    values: dict[str, float] = {}
    for section, weights in sections.items():
        held = [name for name in weights if name in parts]
        if not held:
            continue
        values[section] = float(np.average([right[name] for name in held], weights=[weights[name] for name in held]))
        lines.append(Line(section, values[section], sum(len(parts[name]) for name in held), 1))
        lines += [Line(name, right[name], len(parts[name])) for name in held]
    known = {name for weights in sections.values() for name in weights}
    counted = sum(line.count for line in lines if line.level == 1) or len(scored)
    lines += [Line(name, right[name], len(some)) for name, some in parts.items() if name not in known]
    shares = [PRIOR_WEIGHT if section == "Prior Sets" else 1.0 for section in values]
    whole = float(np.average(list(values.values()), weights=shares)) if values else mean(list(right.values()))
    return [Line("Score", whole, counted, 0), *lines]
