"""RM-Bench (Liu et al. 2024): one content in three styles, from concise to formatted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.evaluation.benchmarks.items import Item, Line, Scored, by_subset, mean, prompt_of, texts_of
from assay.feedback.problems import RowError

STYLES = 3
LEVELS = ("easy", "normal", "hard")
DOMAINS = ("chat", "math", "code", "safety")


def item(row: Mapping[str, Any], _: str) -> Item:
    """Read ``prompt``, three ``chosen`` and three ``rejected`` (concise, detailed, formatted), and ``domain``."""
    domain = row.get("domain")
    if not isinstance(domain, str):
        raise RowError("no domain", column="domain", expected="chat, math, code or safety-…", got=repr(domain)[:60])
    sides = [texts_of(row, name) for name in ("chosen", "rejected")]
    for name, texts in zip(("chosen", "rejected"), sides, strict=True):
        if len(texts) != STYLES:
            raise RowError("another number of styles", column=name, expected=f"{STYLES} texts", got=str(len(texts)))
    return Item(prompt_of(row, "prompt"), sides[0], sides[1], domain, str(row.get("id", "")))


def levels(scored: Sequence[Scored]) -> dict[str, float]:
    """Return the share of right choices by level.

    Normal: both in one style; hard: the chosen one in a plainer style than the rejected one; easy: in a richer one.
    """
    right = np.mean([one.margins > 0 for one in scored], axis=0)
    plainer = np.triu_indices(STYLES, 1)
    return {
        "easy": float(right.T[plainer].mean()),
        "normal": float(np.diag(right).mean()),
        "hard": float(right[plainer].mean()),
    }


def table(scored: Sequence[Scored]) -> list[Line]:
    """Return the mean over levels of each domain, each level's mean over domains, and the mean of all.

    Both parts of safety make up one domain, at equal weight.
    """
    parts = {name: levels(some) for name, some in by_subset(scored).items()}
    counts = {name: len(some) for name, some in by_subset(scored).items()}
    domains: dict[str, dict[str, float]] = {}
    for domain in (*DOMAINS, *(name for name in parts if name.partition("-")[0] not in DOMAINS)):
        own = [name for name in parts if name == domain or name.startswith(f"{domain}-")]
        if own:
            domains[domain] = {level: float(np.mean([parts[name][level] for name in own])) for level in LEVELS}
    lines = []
    for domain, found in domains.items():
        own = [name for name in parts if name == domain or name.startswith(f"{domain}-")]
        lines.append(Line(domain, mean([*found.values()]), sum(counts[name] for name in own), 1))
        lines += [Line(f"{domain}, {level}", found[level], sum(counts[name] for name in own)) for level in LEVELS]
    by_level = [Line(level, mean([own[level] for own in domains.values()]), len(scored), 1) for level in LEVELS]
    whole = mean([line.value for line in lines if line.level == 1])
    return [Line("Average", whole, len(scored), 0), *by_level, *lines]
